"""Pixels from images of every mode and shape, and what decoding changes in the whole process while it lasts."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trials.data.decode import to_pixels, without_warnings


def test_the_last_thread_out_restores_what_the_first_one_in_changed() -> None:
    bound, filters = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    first, second = without_warnings(), without_warnings()
    first.__enter__()
    silent = list(warnings.filters)
    second.__enter__()
    first.__exit__(None, None, None)
    assert Image.MAX_IMAGE_PIXELS is None
    assert list(warnings.filters) == silent != filters
    second.__exit__(None, None, None)
    assert bound == Image.MAX_IMAGE_PIXELS
    assert list(warnings.filters) == filters


def _corner_image(mode: str) -> Image.Image:
    """Returns an image of 16 x 16 with the upper left quarter bright and the rest dark."""
    values = np.full((16, 16), 40, np.uint8)
    values[:8, :8] = 200
    return Image.fromarray(values).convert(mode)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_every_mode_gives_the_same_picture(mode: str) -> None:
    pixels = to_pixels(_corner_image("L").convert(mode, dither=Image.Dither.NONE), 16)
    assert pixels.dtype == np.uint8
    assert pixels.shape == ((16, 16) if mode in ("1", "L", "LA") else (16, 16, 3))
    bright, dark = (255, 0) if mode == "1" else (200, 40)
    assert abs(pixels[:8, :8].astype(int) - bright).max() <= 1
    assert abs(pixels[8:].astype(int) - dark).max() <= 1


@pytest.mark.parametrize(("suffix", "dtype"), [("png", np.uint16), ("tif", np.uint16), ("tif", np.int32)])
def test_sixteen_bits_become_eight(tmp_path: Path, suffix: str, dtype: type) -> None:
    values = np.array([[0, 257], [25700, 65535]]).repeat(8, 0).repeat(8, 1)
    Image.fromarray(values.astype(dtype)).save(tmp_path / f"deep.{suffix}")
    with Image.open(tmp_path / f"deep.{suffix}") as image:
        pixels = to_pixels(image, 16)
    assert (pixels[::8, ::8] == [[0, 1], [100, 255]]).all()  # 65535 / 257 = 255


def test_pixels_without_a_known_range_are_refused() -> None:
    with pytest.raises(ValueError, match="floating-point"):
        to_pixels(Image.fromarray(np.ones((8, 8), np.float32)), 8)
    with pytest.raises(ValueError, match="more than 16 bits"):
        to_pixels(Image.fromarray(np.full((8, 8), 70000, np.int32)), 8)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_become_white(mode: str) -> None:
    image = Image.new("RGBA", (16, 16), (10, 10, 10, 0))
    image.paste((10, 10, 10, 255), (0, 0, 8, 16))
    pixels = to_pixels(image.convert(mode), 16)
    assert (pixels[:, :8] == 10).all()
    assert (pixels[:, 8:] == 255).all()


def test_a_transparent_palette_colour_becomes_white(tmp_path: Path) -> None:
    _corner_image("L").convert("P").save(tmp_path / "palette.png", transparency=40)
    with Image.open(tmp_path / "palette.png") as image:
        assert image.mode == "P"
        pixels = to_pixels(image, 16)
    assert (pixels[:8, :8] == 200).all()
    assert (pixels[8:] == 255).all()


@pytest.mark.parametrize(
    ("orientation", "row", "column"), [(1, 0, 0), (2, 0, 1), (3, 1, 1), (4, 1, 0), (6, 0, 1), (8, 1, 0)]
)
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, row: int, column: int) -> None:
    """Where the bright upper left corner goes, by the EXIF 2.3 table of orientations."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    _corner_image("RGB").save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as image:
        pixels = to_pixels(image, 16)
    quarters = pixels[4::8, 4::8, 0]
    assert quarters[row, column] == 200
    assert quarters.sum() == 200 + 3 * 40


@pytest.mark.parametrize("size", [(40, 20), (20, 40), (41, 20), (1, 300), (30, 20)])
def test_the_largest_centred_square_is_kept(size: tuple[int, int]) -> None:
    """Shades rise linearly along the longer side, so the mean shade of a centred crop is that of the middle."""
    width, height = size
    ramp = np.linspace(0, 255, max(size))
    values = np.broadcast_to(ramp if width > height else ramp[:, None], (height, width))
    pixels = to_pixels(Image.fromarray(np.rint(values).astype(np.uint8)), 8).astype(float)
    assert pixels.mean() == pytest.approx(127.5, abs=1.5)
    side = min(size)
    spread = 255 * (side - 1) / (max(size) - 1)
    assert np.ptp(pixels) <= spread + 2


def test_shrinking_is_antialiased() -> None:
    checkerboard = (np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8)
    pixels = to_pixels(Image.fromarray(checkerboard), 8).astype(int)
    assert abs(pixels - 127.5).max() <= 2


def test_a_large_jpeg_decoded_at_a_fraction_looks_as_one_decoded_whole(tmp_path: Path) -> None:
    rows, columns = np.indices((640, 800))
    values = np.stack([rows * 255 // 640, columns * 255 // 800, (rows // 80 + columns // 80) % 2 * 255], -1)
    Image.fromarray(values.astype(np.uint8)).save(tmp_path / "large.jpg", quality=95)
    with Image.open(tmp_path / "large.jpg") as image:
        pixels = to_pixels(image, 32)
        assert image.size == (100, 80)  # 1/8: the smallest fraction that is no smaller than 2 x 32
    with Image.open(tmp_path / "large.jpg") as image:
        whole = image.convert("RGB").resize((32, 32), Image.Resampling.BICUBIC, box=(80, 0, 720, 640))
    assert abs(pixels.astype(int) - np.asarray(whole)).mean() < 3
