"""Image folders: one folder per class, in one of the layouts that people keep them in.

| found in DIR | training | validation | test |
|---|---|---|---|
| `CLASS/*` | the rest of DIR | split off DIR | split off DIR |
| `train/CLASS/*` alone | the rest of train | split off train | split off train |
| `train/CLASS/*` and `val/CLASS/*` (ImageNet's habit) | the rest of train | split off train | val |
| `train/CLASS/*` and `test/CLASS/*` | the rest of train | split off train | test |
| `train`, `val` and `test` | train | val | test |

`valid` and `validation` are read as `val`. DIR is read by its parts if `train` lies beside another part or alone;
other folders beside them are not looked at. Below a class's folder images may be nested; links to files are followed,
and so are links that stand for a class or a part, but not links to folders further down. Hidden files and folders are
not looked at; files without an image's extension are passed over, and `PreparedData.summary` says how many.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np

from sret_nas.errors import UserError
from trials.data.decode import FORMATS, open_image
from trials.data.source import FoundSource, Samples, Source

EXTENSIONS = tuple(FORMATS)
"""Extensions of image files, whatever their case."""

_PART_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class _File:
    path: str
    """Relative to the folder that holds the classes, with `/`; begins with the class."""
    size: int
    changed_ns: int


@dataclass(frozen=True)
class _Listing:
    """A folder of class folders, before any image is opened."""

    folder: Path
    class_names: tuple[str, ...]
    files: tuple[_File, ...]
    passed_over: tuple[str, ...]


def find_folder(folder: Path) -> FoundSource:
    """An image folder in one of the layouts above. Raises `UserError` if it is none, and says what would do."""
    if not folder.exists():
        raise UserError(
            f"{folder}: there is no such folder; give 'digits', a folder with one folder of images per class, "
            "or the name of a torchvision set together with the folder (root) in which its files lie"
        )
    if not folder.is_dir():
        raise UserError(f"{folder}: must be a folder with one folder of images per class, got a file")
    listings = {part: _list(path) for part, path in _part_folders(folder).items()}
    _require_same_classes(list(listings.values()))
    return FoundSource(fingerprint=_fingerprint(listings), open=partial(_source, listings))


def _part_folders(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    others = []
    for path in _visible_folders(folder):
        part = _PART_NAMES.get(path.name)
        if part is None:
            others.append(path)
        elif part in found:
            raise UserError(f"{folder}: must have one folder for {part}, got {found[part].name} and {path.name}")
        else:
            found[part] = path
    if "train" not in found and found and not others:
        names = " and ".join(path.name for path in found.values())
        raise UserError(f"{folder}: must have a folder 'train' beside {names}, got none")
    if "train" not in found or (len(found) == 1 and others):
        return {"train": folder}
    if "val" in found and "test" not in found:
        found["test"] = found.pop("val")
    return found


def _visible_folders(folder: Path) -> list[Path]:
    try:
        folders = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_dir())
    except OSError as error:
        _refuse(error)
    for path in folders:
        if folder.resolve().is_relative_to(path.resolve()):
            raise UserError(f"{path}: must not link to the folder that it lies in, {path.resolve()}: remove the link")
    return folders


def _refuse_equal(folders: Sequence[Path]) -> None:
    """Raises `UserError` for classes that are one folder by a link: its images would have both labels."""
    known: dict[Path, Path] = {}
    for path in folders:
        other = known.setdefault(path.resolve(), path)
        if other != path:
            raise UserError(f"{path}: must not be the same folder as {other}: remove the link")


def _list(folder: Path) -> _Listing:
    classes = _visible_folders(folder)
    if not classes:
        raise UserError(f"{folder}: must have one folder of images per class, got no folder in it")
    _refuse_equal(classes)
    files: list[_File] = []
    passed_over: list[str] = []
    for path in classes:
        images, others = _walk(path)
        if not images:
            raise UserError(
                f"{path}: the folder of a class must have images ({' '.join(EXTENSIONS)}), got none; "
                "add images or remove the folder"
            )
        files += images
        passed_over += others
    return _Listing(folder, tuple(path.name for path in classes), tuple(files), tuple(passed_over))


def _walk(class_folder: Path) -> tuple[list[_File], list[str]]:
    """The images below a class's folder, and the files that are none."""
    images, others = [], []
    for where, folders, names in os.walk(class_folder, onerror=_refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = os.path.join(where, name)
            if name.startswith("."):
                continue
            if os.path.splitext(name)[1].lower() in EXTENSIONS:
                images.append(_file(path, class_folder.parent))
            else:
                others.append(path)
    return images, others


def _file(path: str, folder: Path) -> _File:
    try:
        status = os.stat(path)
    except OSError as error:  # a link to nothing
        _refuse(error)
    if not stat.S_ISREG(status.st_mode):  # to open a pipe would wait for ever
        raise UserError(f"{path}: must be a file, got a pipe, a device or a folder with an image's name; remove it")
    return _File(os.path.relpath(path, folder).replace(os.sep, "/"), status.st_size, status.st_mtime_ns)


def _refuse(error: OSError) -> NoReturn:
    raise UserError(f"{error.filename}: cannot be read: {error.strerror}; mend or remove it") from None


def _require_same_classes(listings: Sequence[_Listing]) -> None:
    first, *others = listings
    for other in others:
        difference = set(first.class_names) ^ set(other.class_names)
        if difference:
            only = [
                f"{', '.join(sorted(difference & set(listing.class_names)))} only in {listing.folder}"
                for listing in (first, other)
                if difference & set(listing.class_names)
            ]
            raise UserError(f"every part must have the same classes, got {' and '.join(only)}")


def _fingerprint(listings: dict[str, _Listing]) -> str:
    """Over the names, sizes and times of change of all files: opening them all would take as long as decoding."""
    digest = hashlib.sha256()
    for part, listing in sorted(listings.items()):
        for file in listing.files:
            digest.update(os.fsencode(f"{part}/{file.path}\0{file.size}\0{file.changed_ns}\n"))
    return digest.hexdigest()


def _source(listings: dict[str, _Listing]) -> Source:
    return Source(
        class_names=listings["train"].class_names,
        parts={part: _samples(listing) for part, listing in listings.items()},
        flip=True,
        passed_over=tuple(path for listing in listings.values() for path in listing.passed_over),
    )


def _samples(listing: _Listing) -> Samples:
    number = {name: label for label, name in enumerate(listing.class_names)}
    names = [file.path for file in listing.files]
    return Samples(
        where=str(listing.folder),
        names=names,
        labels=np.array([number[name.split("/", 1)[0]] for name in names], dtype=np.int64),
        load=lambda index: open_image(listing.folder / names[index]),
    )
