"""Images that lie in more than one part are counted when they are prepared, and told in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trials.data import DataConfig, PreparedData, prepare
from trials.data.prepared import CHECKSUM, METADATA
from trials.data.repeated import count_repeated, describe_repeated


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Returns a folder with six images of two classes in each of three parts, all different."""
    rng = np.random.default_rng(0)
    for part in ("train", "val", "test"):
        for name in ("cat", "dog"):
            (tmp_path / "images" / part / name).mkdir(parents=True)
            for number in range(6):
                pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "images" / part / name / f"{part}-{number}.png")
    return tmp_path / "images"


def prepared(folder: Path, *, skip_broken: bool = False) -> PreparedData:
    config = DataConfig(source=str(folder), image_size=16, skip_broken=skip_broken)
    return prepare(config, folder.parent / "prepared")


def test_parts_that_share_nothing_have_no_line(folder: Path) -> None:
    data = prepared(folder)
    assert data.metadata.repeated == {}
    assert "note" not in data.summary()


def test_images_of_another_part_are_counted_under_any_name(folder: Path) -> None:
    """And where images before them cannot be read."""
    for number in (1, 4):
        shutil.copy(folder / "train" / "cat" / f"train-{number}.png", folder / "val" / "dog" / f"mine-{number}.png")
    Image.open(folder / "train" / "dog" / "train-0.png").save(folder / "test" / "dog" / "other.bmp")
    shutil.copy(folder / "val" / "dog" / "val-3.png", folder / "test" / "dog" / "again.png")
    for part in ("train", "val", "test"):
        (folder / part / "cat" / "a-broken.png").write_bytes(b"no image")
    data = prepared(folder, skip_broken=True)
    assert data.metadata.repeated == {"val": 2, "test": 2}
    assert data.summary().splitlines()[-1] == (
        "  note: 2 of 14 validation images are training images and 2 of 14 test images are training or validation "
        "images as well, pixel for pixel: errors on them are lower than on new images"
    )
    assert PreparedData.open(data.directory).metadata == data.metadata


def test_images_that_an_earlier_version_prepared_are_opened(folder: Path) -> None:
    path = prepared(folder).directory / METADATA
    fields = json.loads(path.read_text())
    del fields["repeated"], fields[CHECKSUM]
    path.write_text(json.dumps(fields))
    data = prepared(folder)
    assert data.metadata.repeated == {}
    assert "repeated" not in json.loads(path.read_text())


def test_one_part_alone_has_a_line_too() -> None:
    digests = {"train": [1, 2, 3], "val": [4, 5], "test": [6, 5, 6]}
    repeated = count_repeated({part: np.array(values, np.uint64) for part, values in digests.items()})
    assert repeated == {"test": 1}
    assert describe_repeated(repeated, {"test": 3}).startswith(
        "1 of 3 test images are training or validation images as"
    )
