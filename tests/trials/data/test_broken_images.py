"""Images that cannot be read are left out if that is asked for."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sret_nas.errors import UserError
from trials.data import DataConfig, prepare


def _folder(directory: Path, broken: set[int], colour: bool) -> Path:
    """Writes two classes of 20 images, of which some are no images."""
    rng = np.random.default_rng(0)
    for number in range(40):
        path = directory / "images" / "ab"[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (8, 8, 3) if colour else (8, 8)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(path)
        if number in broken:
            path.write_bytes(b"no image")
    return directory / "images"


@pytest.mark.parametrize("colour", [True, False])
def test_broken_images_are_left_out_if_that_is_asked_for(tmp_path: Path, colour: bool) -> None:
    config = DataConfig(source=str(_folder(tmp_path, {3, 8, 21}, colour)), image_size=8)
    with pytest.raises(UserError, match=r"3 of 40 images cannot be read; .* or leave them out with --skip-broken"):
        prepare(config, tmp_path / "prepared")
    data = prepare(dataclasses.replace(config, skip_broken=True), tmp_path / "prepared")
    whole = prepare(
        dataclasses.replace(config, source=str(_folder(tmp_path / "whole", set(), colour))), tmp_path / "all"
    )
    assert (data.channels, sum(map(len, (data.train, data.val, data.test)))) == (3 if colour else 1, 37)
    known = {image.tobytes() for part in (whole.train, whole.val, whole.test) for image in part.images}
    left = {image.tobytes(): label for part in (data.train, data.val, data.test)
            for image, label in zip(part.images, part.labels, strict=True)}  # fmt: skip
    assert len(left) == 37
    assert left.keys() < known
    labels = {image.tobytes(): label for part in (whole.train, whole.val, whole.test)
              for image, label in zip(part.images, part.labels, strict=True)}  # fmt: skip
    assert all(labels[image] == label for image, label in left.items())
    assert re.search(r"\n  left out 3 images that cannot be read, e.g. .*/a/08.png: ", data.summary())
    data.verify()
    assert prepare(dataclasses.replace(config, skip_broken=True), tmp_path / "prepared").digest == data.digest


def test_a_class_without_a_readable_image_is_refused(tmp_path: Path) -> None:
    source = _folder(tmp_path, set(range(0, 40, 2)), colour=False)
    config = DataConfig(source=str(source), image_size=8, skip_broken=True)
    with pytest.raises(UserError, match=r"images: too few images are left without the \d+ that cannot be read: mend"):
        prepare(config, tmp_path / "prepared")
