"""Images that are other than their names say, or larger than memory: refused by name, without a program or a wait."""

from __future__ import annotations

import os
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sret_nas.errors import UserError
from trials.data import DataConfig, prepare
from trials.data.decode import DecodingMemory, open_image
from trials.data.folders import find_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label in ("a", "b"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(6):
            Image.new("RGB", (20, 20), (number, 9, 9)).save(tmp_path / "images" / label / f"{number}.png")
    return tmp_path / "images"


def prepared(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepare(DataConfig(source=str(folder), image_size=16), folder.parent / "prepared")


def test_no_reader_but_those_of_the_endings_is_tried(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "a" / "x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with Image.open(folder / "a" / "x.png") as image:
        assert image.format == "EPS"  # Pillow by itself would start Ghostscript
    with pytest.raises(
        UserError,
        match=r"1 of \d+ images cannot be read; mend or remove them, or leave .* --skip-broken:\n  .*a/x\.png: ",
    ):
        prepared(folder)


def test_a_png_named_jpeg_is_read_as_what_it_is(folder: Path) -> None:
    (folder / "a" / "0.png").rename(folder / "a" / "0.jpg")
    with open_image(folder / "a" / "0.jpg") as image:
        assert image.format == "PNG"
    prepared(folder)


def test_more_pixels_than_memory_are_refused_by_name(folder: Path) -> None:
    Image.new("L", (13_300, 13_300)).convert("P").save(folder / "a" / "large.png", transparency=0)
    with pytest.raises(UserError, match=r"a/large\.png: its pixels take 2,024 MB to decode, at most 300 MB are used"):
        prepared(folder)


def test_a_jpeg_beyond_pillow_s_bound_is_decoded_reduced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (300, 200), 9).save(folder / "a" / "large.jpg")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    prepared(folder)
    assert Image.MAX_IMAGE_PIXELS == 1000


@pytest.mark.parametrize("subsampling", [0, 2])
def test_coefficients_of_a_progressive_jpeg_count(
    folder: Path, monkeypatch: pytest.MonkeyPatch, subsampling: int
) -> None:
    """They are in memory however small it is decoded, two bytes each. Subsampling keeps a quarter of the colours."""
    Image.new("RGB", (400, 400)).save(folder / "a" / "0.jpg", progressive=True, subsampling=subsampling)
    coefficients = 2 * 400 * 400 * (3 if subsampling == 0 else 1.5)
    decoded = 4 * 50 * 50
    monkeypatch.setattr("trials.data.decode._MEMORY", DecodingMemory(round(coefficients + decoded)))
    prepared(folder)
    monkeypatch.setattr("trials.data.decode._MEMORY", DecodingMemory(round(coefficients + decoded) - 1))
    (folder.parent / "prepared" / "data.json").unlink()
    with pytest.raises(UserError, match=r"a/0\.jpg: its pixels take .*: save it as a JPEG that is not progressive"):
        prepared(folder)


def test_threads_wait_for_memory_that_others_hold() -> None:
    memory, done = DecodingMemory(10), threading.Event()

    def decode() -> None:
        with memory.taken(6):
            done.set()

    other = threading.Thread(target=decode)
    with memory.taken(5):
        other.start()
        assert not done.wait(0.05)
    other.join(10)
    assert done.is_set()
    with pytest.raises(ValueError, match="at most 0 MB are used"), memory.taken(11):
        pass


def test_a_pipe_with_an_image_s_name_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "a" / "x.png")
    with pytest.raises(UserError, match=r"a/x\.png: must be a file, got a pipe"):
        find_folder(folder)


def test_a_class_that_links_to_what_holds_it_or_to_another_class(folder: Path) -> None:
    (folder / "c").symlink_to(folder)
    with pytest.raises(UserError, match=r"images/c: must not link to the folder that it lies in"):
        find_folder(folder)
    (folder / "c").unlink()
    (folder / "c").symlink_to(folder / "a")
    with pytest.raises(UserError, match=r"images/c: must not be the same folder as .*images/a: remove the link"):
        find_folder(folder)


def test_sixteen_bits_are_reduced_as_before(tmp_path: Path) -> None:
    from trials.data.decode import _from_sixteen_bit

    values = np.random.default_rng(0).integers(0, 65536, (600, 7), dtype=np.uint16)
    assert np.array_equal(np.asarray(_from_sixteen_bit(values)), np.rint(values / 257).astype(np.uint8))
