"""Folders of flat images, each with a shade of its own, which tells later which image it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from trials.data import DataConfig, PreparedData, prepare

SIZE = 8

Write = Callable[[str, int], Path]


def fill(write: Write, folder: str, classes: str, count: int, first_shade: int = 0) -> None:
    for number, name in enumerate(classes):
        for image in range(count):
            write(f"{folder}{name}/{image}.png", first_shade + number * count + image)


def run(tmp_path: Path, **changes: object) -> PreparedData:
    config = DataConfig(source=str(tmp_path / "images"), image_size=SIZE, **changes)  # type: ignore[arg-type]
    return prepare(config, tmp_path / "prepared")


def shades(data: PreparedData) -> dict[str, list[int]]:
    """Returns the shade of every image of each part, after a check that the image is flat."""
    found = {}
    for name in ("train", "val", "test"):
        images = getattr(data, name).images
        assert (images == images[:, :1, :1]).all()
        found[name] = images[:, 0, 0, 0].tolist()
    return found


def layout(write: Write, *folders: str, count: int = 5) -> None:
    """Writes images into each folder."""
    for number, folder in enumerate(folders):
        for image in range(count):
            write(f"{folder}/{image}.png", number * count + image)
