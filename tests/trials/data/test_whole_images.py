"""Whole images: the split is that of prepared data, and images come as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sret_nas.errors import UserError
from trials.data import DataConfig, prepare
from trials.data.whole_images import UnreadableImageError, WholeImages


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for index in range(10):
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{index}.png")
    return tmp_path / "images"


@pytest.mark.parametrize("seed", [0, 1])
def test_the_parts_are_those_of_prepared_data(seed: int, folder: Path, tmp_path: Path) -> None:
    """At the images' own size, preparing does not change a pixel."""
    config = DataConfig(source=str(folder), image_size=8, split_seed=seed, max_train=9)
    prepared, whole = prepare(config, tmp_path / "prepared"), WholeImages.find(config)
    assert whole.class_names == prepared.class_names
    for name in ("train", "val", "test"):
        part, other = whole.parts[name], getattr(prepared, name)
        assert part.labels.tolist() == other.labels.tolist()
        for index in range(len(part)):
            np.testing.assert_array_equal(np.asarray(part.load(index, "RGB")), other.images[index])
    mean, std = whole.mean_and_std(3)
    np.testing.assert_allclose(mean, prepared.train.mean)
    np.testing.assert_allclose(std, prepared.train.std)


def test_the_digest_changes_with_names_and_labels_alone(folder: Path, tmp_path: Path) -> None:
    config = DataConfig(source=str(folder))
    digest = WholeImages.find(config).digest
    moved = folder.rename(tmp_path / "moved")
    assert WholeImages.find(DataConfig(source=str(moved))).digest == digest
    assert WholeImages.find(DataConfig(source=str(moved), split_seed=1)).digest != digest
    (moved / "cat" / "3.png").rename(moved / "cat" / "x.png")
    assert WholeImages.find(DataConfig(source=str(moved))).digest != digest


def test_grey_images_have_one_channel(folder: Path) -> None:
    config = DataConfig(source=str(folder))
    assert WholeImages.find(config).channels == 3
    for path in folder.rglob("*.png"):
        Image.open(path).convert("L").save(path)
    whole = WholeImages.find(config)
    assert whole.channels == 1
    assert whole.train.load(0, "L").mode == "L"
    assert whole.train.load(0, "RGB").mode == "RGB"
    Image.new("RGB", (8, 8)).save(next(folder.rglob("*.png")))
    assert WholeImages.find(config).channels == 3


def test_an_image_is_turned_and_kept_whole(folder: Path) -> None:
    for path in folder.rglob("*.png"):
        image = Image.new("RGB", (30, 20))
        exif = image.getexif()
        exif[0x0112] = 6  # turned by 90 degrees
        image.save(path.with_suffix(".jpg"), exif=exif)
        path.unlink()
    assert WholeImages.find(DataConfig(source=str(folder))).train.load(0, "RGB").size == (20, 30)


def test_a_missing_image_is_named(folder: Path) -> None:
    whole = WholeImages.find(DataConfig(source=str(folder)))
    for path in folder.rglob("*.png"):
        path.unlink()
    with pytest.raises(UnreadableImageError, match=r"\.png: cannot be read: .*; mend it"):
        whole.test.load(0, "RGB")


def test_the_home_of_nobody_is_one_line() -> None:
    with pytest.raises(UserError, match=r"^'~nobody_of_this_name/x' cannot be looked up: "):
        WholeImages.find(DataConfig(source="~nobody_of_this_name/x"))
