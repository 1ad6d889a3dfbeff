"""Images as a network takes them, against timm's transforms."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sret_nas.errors import UserError
from sret_nas.nn.model_directory import Preprocessing
from trials.data.config import DataConfig
from trials.data.image_files import image_batches, read_image_file, to_array
from trials.data.whole_images import UnreadableImageError, WholeImages

IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
GREY: dict[str, Any] = {"mean": (0.5,), "std": (0.25,)}


def noise(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(12):
        path = tmp_path / "data" / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise(20 + number, 17, seed=number).save(path)
    return tmp_path / "data"


class TestToArray:
    @pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos", "nearest"])
    @pytest.mark.parametrize("size", [(50, 31), (31, 50), (16, 16), (37, 300), (9, 8)])
    @pytest.mark.parametrize("crop", [0.875, 1.0, 0.6])
    def test_equals_timms_evaluation(self, size: tuple[int, int], crop: float, interpolation: Any) -> None:
        timm_data = pytest.importorskip("timm.data")
        preprocessing = Preprocessing(image_size=16, interpolation=interpolation, crop_fraction=crop, **IMAGENET)
        transform = timm_data.create_transform(
            input_size=16, interpolation=interpolation, crop_pct=crop, mean=IMAGENET["mean"], std=IMAGENET["std"]
        )
        image = noise(*size)
        np.testing.assert_array_equal(to_array(image, preprocessing), transform(image).numpy())

    def test_grey_images_have_one_channel(self) -> None:
        array = to_array(noise(20, 10, "L"), Preprocessing(image_size=8, **GREY))
        assert array.shape == (1, 8, 8)
        assert array.dtype == np.float32


class TestReadImageFile:
    def test_a_colour_image_is_made_grey_for_a_grey_network(self, folder: Path) -> None:
        array = read_image_file(folder / "class0" / "0.png", Preprocessing(image_size=8, **GREY))
        assert array.shape == (1, 8, 8)

    def test_a_damaged_file_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "broken.png"
        path.write_bytes(b"\x89PNG\r\n\x1a\n cut short")
        with pytest.raises(UnreadableImageError, match=r"broken\.png: cannot be read"):
            read_image_file(path, Preprocessing(image_size=8, **IMAGENET))

    def test_what_is_no_file_is_told_apart(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.png")
        (tmp_path / "link.png").symlink_to("gone.png")
        for path, what in (
            (tmp_path, "cannot be read: it is a folder, not a file"),
            (tmp_path / "pipe.png", "cannot be read: it is a pipe, not a file"),
            (tmp_path / "gone.png", "there is no such file"),
            (tmp_path / "link.png", "there is no such file"),
        ):
            with pytest.raises(UnreadableImageError, match=f"^{re.escape(str(path))}: {what}$"):
                read_image_file(path, Preprocessing(image_size=8, **IMAGENET))

    def test_other_channels_are_refused(self, folder: Path) -> None:
        other = Preprocessing(image_size=8, mean=(0.5, 0.5), std=(0.5, 0.5))
        with pytest.raises(UserError, match="the network takes 2"):
            read_image_file(folder / "class0" / "0.png", other)


class TestImageBatches:
    def test_all_images_come_in_order_with_their_labels(self, folder: Path) -> None:
        part = WholeImages.find(DataConfig(source=str(folder))).train
        preprocessing = Preprocessing(image_size=8, **IMAGENET)
        positions = range(len(part))
        found = list(image_batches(part, positions, preprocessing, batch_size=3, threads=2))
        assert [len(labels) for _, labels in found] == [3, 3, 2]
        assert np.concatenate([labels for _, labels in found]).tolist() == part.labels.tolist()
        expected = np.stack([to_array(part.load(index, "RGB"), preprocessing) for index in positions])
        np.testing.assert_array_equal(np.concatenate([images for images, _ in found]), expected)

    def test_an_unreadable_image_ends_it_with_its_name(self, folder: Path) -> None:
        for path in folder.rglob("*.png"):
            path.write_bytes(b"nothing")
        part = WholeImages.find(DataConfig(source=str(folder))).train
        with pytest.raises(UnreadableImageError, match="cannot be read"):
            next(image_batches(part, [0], Preprocessing(image_size=8, **IMAGENET), batch_size=1, threads=1))
