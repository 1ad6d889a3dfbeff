"""Prepared images that are damaged, changed, or an earlier version's: refused, done again, or kept."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sret_nas.errors import UserError
from trials.data import DataConfig, PreparedData, prepare
from trials.data.prepared import ImagesChangedError


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return prepare(DataConfig(image_size=8, max_train=60, max_val=100, max_test=20), tmp_path_factory.mktemp("few"))


def _header(path: Path, before: bytes, after: bytes) -> None:
    """Replaces something in the header of an array, which stays as long as it is."""
    content = path.read_bytes()
    assert content.count(before) == 1
    content = content.replace(before, after)
    if len(after) > len(before):
        content = content.replace(b" " * (len(after) - len(before)), b"", 1)
    path.write_bytes(content)


def _fill(path: Path, value: int) -> None:
    """Overwrites all of an array, whose type and shape stay as they are."""
    array = np.lib.format.open_memmap(path, mode="r+")
    array[:] = value
    array.flush()


def _replace(path: Path, make: Callable[[Path], None]) -> None:
    path.unlink()
    make(path)


def _edit(directory: Path, key: str, value: object) -> None:
    fields = json.loads((directory / "data.json").read_text())
    (directory / "data.json").write_text(json.dumps({**fields, key: value}))


def _edit_as_an_earlier_version(directory: Path, key: str, value: object) -> None:
    """Removes the checksum."""
    fields = json.loads((directory / "data.json").read_text())
    del fields["checksum"]
    (directory / "data.json").write_text(json.dumps({**fields, key: value}))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: (path / "data.json").unlink(), "holds no prepared data"),
        (lambda path: _cut(path / "data.json"), "data.json: cannot be read"),
        (lambda path: (path / "data.json").write_text('{"format": 0}'), "not written by this version"),
        (lambda path: _cut(path / "val_images.npy"), "val_images.npy: cannot be read"),
        (lambda path: (path / "test_labels.npy").unlink(), "test_labels.npy: cannot be read"),
        (
            lambda path: (path / "train_images.npy").write_bytes((path / "val_images.npy").read_bytes()),
            r"train_images.npy: must be uint8 of shape \(60, 8, 8, 1\), got uint8 of shape \(100, 8, 8, 1\)",
        ),
        (lambda path: (path / "val_labels.npy").write_bytes(b""), "val_labels.npy: cannot be read as an array"),
        (lambda path: _header(path / "val_labels.npy", b"'descr'", b"'dascr'"), "cannot be read as an array"),
        (lambda path: _header(path / "val_labels.npy", b"(100,)", b"(1*0,)"), "cannot be read as an array"),
        (lambda path: _header(path / "val_labels.npy", b"(100,)", b"(999999999999,)"), "cannot be read as an array"),
        (lambda path: _header(path / "val_labels.npy", b"<i8", b"<f8"), "must be int64 of shape .* got float64"),
        (lambda path: _header(path / "val_labels.npy", b"<i8", b"|O8"), "cannot be read as an array"),
        (lambda path: _fill(path / "val_labels.npy", 10), "must have the numbers of 10 classes"),
        (lambda path: _replace(path / "val_images.npy", Path.mkdir), "it is no regular file"),
        (lambda path: _replace(path / "val_images.npy", os.mkfifo), "it is no regular file"),
        (lambda path: _replace(path / "data.json", Path.mkdir), "it is no regular file"),
        (lambda path: _replace(path / "data.json", os.mkfifo), "it is no regular file"),
        (lambda path: (path / "data.json").write_bytes(b"\xff{}"), "data.json: cannot be read"),
        (lambda path: (path / "data.json").write_text("[" * 100_000), "data.json: cannot be read"),
        (lambda path: (path / "data.json").write_text("[]"), "not written by this version"),
        (lambda path: _edit(path, "mean", [0.5]), "data.json: has changed since it was written"),
        (lambda path: _edit_as_an_earlier_version(path, "shapes", None), "shapes is missing or not what it should be"),
        (lambda path: _edit_as_an_earlier_version(path, "shapes", {"train": [1]}), "shapes is not what it should be"),
        (lambda path: _edit_as_an_earlier_version(path, "class_names", 3), "class_names is missing or not what"),
        (lambda path: _edit_as_an_earlier_version(path, "config", {"image_size": 1}), "image_size: must be a whole"),
        (lambda path: _edit_as_an_earlier_version(path, "config", {}), "shapes is not what it should be"),
        (lambda path: _edit_as_an_earlier_version(path, "mean", [float("nan")]), "mean is not what it should be"),
        (lambda path: _edit_as_an_earlier_version(path, "std", [0]), "std is not what it should be"),
        (lambda path: _edit_as_an_earlier_version(path, "origins", {}), "origins is not what it should be"),
    ],
)
def test_damaged_data_is_refused_and_done_again(
    tmp_path: Path, few: PreparedData, damage: object, message: str
) -> None:
    shutil.copytree(few.directory, tmp_path, dirs_exist_ok=True)
    damage(tmp_path)  # type: ignore[operator]
    with pytest.raises(UserError, match=message):
        PreparedData.open(tmp_path)
    told: list[str] = []
    again = prepare(few.config, tmp_path, on_damage=told.append)
    again.verify()
    assert again.digest == few.digest
    assert len(told) == (message != "holds no prepared data")  # then it may never have been there


@pytest.mark.parametrize("name", ["train_images", "val_images", "test_images", "train_labels", "test_labels"])
def test_arrays_of_the_right_shape_that_hold_other_values_are_done_again(
    tmp_path: Path, few: PreparedData, name: str
) -> None:
    shutil.copytree(few.directory, tmp_path, dirs_exist_ok=True)
    _fill(tmp_path / f"{name}.npy", 7)
    with pytest.raises(UserError, match="the prepared images have changed since they were prepared"):
        PreparedData.open(tmp_path).verify()
    told: list[str] = []
    again = prepare(few.config, tmp_path, on_damage=told.append)
    assert again.digest == few.digest
    np.testing.assert_array_equal(again.val.images, few.val.images)
    assert told == [f"{tmp_path}: the prepared images have changed since they were prepared; prepare the data again"]


def test_data_of_an_earlier_version_is_kept(tmp_path: Path, few: PreparedData) -> None:
    """Its metadata has no checksum."""
    prepare(few.config, tmp_path)
    written = (tmp_path / "train_images.npy").stat().st_mtime_ns
    _edit_as_an_earlier_version(tmp_path, "passed_over", ["x"])
    assert prepare(few.config, tmp_path).metadata.passed_over == ("x",)
    assert (tmp_path / "train_images.npy").stat().st_mtime_ns == written


def test_images_that_change_while_they_are_in_use_are_noticed(tmp_path: Path, few: PreparedData) -> None:
    """Touched, deleted, or replaced by others, those that are open are still the same; written to or cut, not."""
    data = prepare(few.config, tmp_path)
    os.utime(tmp_path / "val_images.npy")
    data.require_unchanged()
    _fill(tmp_path / "val_images.npy", 7)
    with pytest.raises(ImagesChangedError, match="have changed since they were prepared"):
        data.require_unchanged()
    data = prepare(few.config, tmp_path)
    prepare(dataclasses.replace(few.config, split_seed=1), tmp_path)
    data.require_unchanged()
    (tmp_path / "train_images.npy").unlink()
    data.require_unchanged()
    data = prepare(few.config, tmp_path)
    os.truncate(tmp_path / "train_images.npy", 100)
    with pytest.raises(ImagesChangedError, match=r"changed while they were in use: .*train_images\.npy was cut short"):
        data.require_unchanged()
