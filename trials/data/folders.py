"""Image folders: one folder per class, in one of the layouts that people keep them in.

| found in DIR | training | validation | test |
|---|---|---|---|
| `CLASS/*` | the rest of DIR | split off DIR | split off DIR |
| `train/CLASS/*` alone | the rest of train | split off train | split off train |
| `train/CLASS/*` and `val/CLASS/*` (ImageNet's habit) | the rest of train | split off train | val |
| `train/CLASS/*` and `test/CLASS/*` | the rest of train | split off train | test |
| `train`, `val` and `test` | train | val | test |

Parts are known by their names in any case and in the usual spellings (`trials.data.part_names`). DIR is read by its
parts if `train` lies beside another part or alone; other folders beside them are passed over. Folders that are called
as parts are and hold images themselves, among many others that do so too, are classes. What looks like parts and does
not fit is refused. A folder that holds nothing but one other is read as that one.

Below a class's folder images may be nested; links to files are followed, and so are links that stand for a class or a
part, but not links to folders further down. Hidden files and folders and what tools leave behind
(`trials.data.leftovers`) are passed over, and so are files without an image's extension. Names of classes are compared
in Unicode's composed form. `FoundSource.notes` say all of this that happened.
"""

from __future__ import annotations

import hashlib
import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NoReturn

import numpy as np

from sret_nas.errors import UserError

from .decode import FORMATS, open_image
from .leftovers import NO_IMAGES, is_image, is_left_over
from .part_names import parts_named
from .source import PARTS, FoundSource, Samples, Source

EXTENSIONS = tuple(FORMATS)
"""Extensions of image files, whatever their case."""

MAX_NESTED = 4
"""Folders that may each hold nothing but the next, down to the classes."""

OTHERS_PER_PART = 2
"""Folders of images called as parts are classes if at least so many others for each of them lie beside them."""

_TITLES = {"train": "the training part", "val": "the validation part", "test": "the test part"}


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
    """In Unicode's composed form."""
    files: tuple[_File, ...]
    passed_over: tuple[str, ...]
    """Files that are none by their extension."""
    left_over: tuple[str, ...]
    """Folders that were not looked at."""
    beside: tuple[str, ...]
    """Images that lie beside the folders of the classes."""


def find_folder(folder: Path) -> FoundSource:
    """An image folder in one of the layouts above. Raises `UserError` if it is none, and says what would do."""
    if not folder.exists():
        raise UserError(
            f"{folder}: there is no such folder; give 'digits', a folder with one folder of images per class, "
            "or the name of a torchvision set together with the folder (root) in which its files lie"
        )
    if not folder.is_dir():
        raise UserError(f"{folder}: must be a folder with one folder of images per class, got a file")
    notes: list[str] = []
    folders = _part_folders(folder, notes)
    understood = _understood(folders)
    if "val" in folders and "test" not in folders:
        folders["test"] = folders.pop("val")
    listings = {part: _list(path, understood, is_train=part == "train") for part, path in folders.items()}
    notes += _differences(listings)
    for listing in listings.values():
        notes += _nested(listing)
    notes += _passed_over(listings.values())
    return FoundSource(fingerprint=_fingerprint(listings), open=partial(_source, listings), notes=tuple(notes))


def _part_folders(folder: Path, notes: list[str]) -> dict[str, Path]:
    """The folders that hold the classes, by part; `notes` are added to."""
    for _ in range(MAX_NESTED):
        parts = _parts_in(folder, notes)
        if parts is not None:
            return {part: _innermost(path, notes) for part, path in parts.items()}
        inner = _only_folder(folder)
        if inner is None:
            break
        notes.append(f"read {inner}, the only folder in {folder}")
        folder = inner
    return {"train": folder}


def _innermost(folder: Path, notes: list[str]) -> Path:
    """The folder itself, or the one that it holds and nothing else."""
    for _ in range(MAX_NESTED):
        inner = _only_folder(folder)
        if inner is None:
            break
        notes.append(f"read {inner}, the only folder in {folder}")
        folder = inner
    return folder


def _parts_in(folder: Path, notes: list[str]) -> dict[str, Path] | None:
    """The parts' folders, or None. Raises `UserError` for what looks like parts, but does not fit."""
    folders = {path.name: path for path in _visible_folders(folder)}
    named = _without_empty_twins(parts_named(folders), folders)
    if not named:
        return None
    others = [path for name, path in folders.items() if name not in named and _has_images(path)]
    with_classes = [name for name in named if _holds_classes(folders[name])]
    is_divided = "train" in named.values() and len(set(named.values())) > 1
    read_as = " and ".join(f"{name} as {_TITLES[part]}" for name, part in named.items())
    if others and not (is_divided and with_classes):
        beside = _listed([path.name for path in others])
        if with_classes:
            raise UserError(
                f"{folder}: understood {read_as}, but {beside} beside it is no part: move that away, call it val or "
                f"test, or give {folders[with_classes[0]]} itself; if all are classes, rename {with_classes[0]}"
            )
        if is_divided and len(others) < OTHERS_PER_PART * len(named):
            raise UserError(
                f"{folder}: understood {read_as}, but they hold images and no folders of classes: sort their images "
                f"into a folder per class; if they are classes, as {beside} beside them, rename them"
            )
        names = _listed(list(named))
        notes.append(f"warning: {names} in {folder} read as a class like the others, not as a part")
        return None
    if others:
        notes.append(f"passed over beside the parts: {_listed([path.name for path in others])}")
    return _by_part(folder, folders, named)


def _without_empty_twins(named: Mapping[str, str], folders: Mapping[str, Path]) -> dict[str, str]:
    """Without folders that hold no image, such as `train_labels`, where another is called as the same part."""
    with_images = {name for name in named if _has_images(folders[name])}
    filled = {named[name] for name in with_images}
    return {name: part for name, part in named.items() if name in with_images or part not in filled}


def _by_part(folder: Path, folders: Mapping[str, Path], named: Mapping[str, str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for name, part in named.items():
        if part in found:
            raise UserError(f"{folder}: must have one folder for {part}, got {found[part].name} and {name}")
        found[part] = folders[name]
    if "train" not in found:
        names = " and ".join(path.name for path in found.values())
        raise UserError(f"{folder}: must have a folder 'train' beside {names}, got none")
    return {part: found[part] for part in PARTS if part in found}


def _understood(folders: Mapping[str, Path]) -> str:
    """How a folder was read, for messages; empty where it has no parts."""
    if len(folders) == 1:
        return ""
    return " (understood " + ", ".join(f"{path} as {_TITLES[part]}" for part, path in folders.items()) + ")"


def _visible_folders(folder: Path) -> list[Path]:
    """Those that may hold something of the data set, in the order of their names."""
    folders = sorted(path for path in _entries(folder) if path.is_dir() and not is_left_over(path.name))
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


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        _refuse(error)


def _only_folder(folder: Path) -> Path | None:
    """The folder that a folder holds and nothing else, if that holds folders and no images itself."""
    folders = list(islice((path for path in _visible_folders(folder) if not _is_left_aside(path)), 2))
    if len(folders) != 1 or _images_in(folder) or not _holds_classes(folders[0]):
        return None
    return folders[0]


def _holds_classes(folder: Path) -> bool:
    """Whether a folder has folders with images, and no image itself."""
    return not _images_in(folder) and any(_has_images(path) for path in _visible_folders(folder))


def _images_in(folder: Path) -> list[str]:
    """Images in a folder itself."""
    return sorted(str(path) for path in _entries(folder) if _is_visible_image(path.name) and not path.is_dir())


def _has_images(folder: Path) -> bool:
    """Whether there is an image in a folder, or further down."""
    for _, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not is_left_over(name)]
        if any(_is_visible_image(name) for name in names):
            return True
    return False


def _is_visible_image(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS


def _list(folder: Path, understood: str, is_train: bool) -> _Listing:
    """Raises `UserError` if it does not hold classes, or one of the training part has no images."""
    beside = _images_in(folder)
    classes = _visible_folders(folder)
    if not classes:
        got = f"got {len(beside):,} images and no folder in it" if beside else "got no folder in it"
        raise UserError(f"{folder}: must have one folder of images per class, {got}{understood}")
    _refuse_equal(classes)
    files: list[_File] = []
    passed_over: list[str] = []
    left_over = [str(path) for path in _entries(folder) if path.is_dir() and is_left_over(path.name)]
    names: dict[str, str] = {}
    for path in classes:
        images, others, skipped = _walk(path)
        passed_over += others
        left_over += skipped
        if not images:
            if _are_none(others):
                left_over.append(str(path))
                continue
            if not is_train:  # then this part lacks the class, which is told
                continue
            _refuse_without_images(path, others)
        _require_no_parts_inside(path)
        name = unicodedata.normalize("NFC", path.name)
        if name in names:
            raise UserError(f"{folder}: two folders are called {name!r}, in two Unicode forms: put them together")
        names[name] = path.name
        files += images
    if not names:
        raise UserError(f"{folder}: must have one folder of images per class, got no images in its folders{understood}")
    return _Listing(folder, tuple(sorted(names)), tuple(files), tuple(passed_over), tuple(left_over), tuple(beside))


def _is_left_aside(folder: Path) -> bool:
    """Whether a folder holds files, and all are of kinds that people keep beside images."""
    if _has_images(folder):
        return False
    return _are_none(_walk(folder)[1])


def _are_none(others: Sequence[str]) -> bool:
    return bool(others) and all(os.path.splitext(path)[1].lower() in NO_IMAGES for path in others)


def _refuse_without_images(path: Path, others: Sequence[str]) -> NoReturn:
    unnamed = [other for other in others if is_image(other)]
    why = f"; {len(unnamed):,} files are images, but not by their ending, e.g. {unnamed[0]}" if unnamed else ""
    raise UserError(
        f"{path}: the folder of a class must have images ({' '.join(EXTENSIONS)}), got none{why}; "
        "add images or remove the folder"
    )


def _require_no_parts_inside(class_folder: Path) -> None:
    """Raises `UserError` for `CLASS/train` beside `CLASS/test`, which would all be read as one."""
    named = parts_named(path.name for path in _visible_folders(class_folder) if _has_images(path))
    if "train" in named.values() and len(set(named.values())) > 1:
        raise UserError(
            f"{class_folder}: understood as a class, but it holds the parts {_listed(list(named))}: "
            f"parts must lie outside, as train/{class_folder.name}"
        )


def _walk(class_folder: Path) -> tuple[list[_File], list[str], list[str]]:
    """The images below a class's folder, the files that are none, and the folders that are not looked at."""
    images, others, left_over = [], [], []
    for where, folders, names in os.walk(class_folder, onerror=_refuse):
        left_over += [os.path.join(where, name) for name in folders if is_left_over(name)]
        folders[:] = sorted(name for name in folders if not is_left_over(name))
        for name in sorted(names):
            path = os.path.join(where, name)
            if name.startswith("."):
                continue
            if _is_visible_image(name):
                images.append(_file(path, class_folder.parent))
            else:
                others.append(path)
    return images, others, left_over


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


def _differences(listings: Mapping[str, _Listing]) -> list[str]:
    """Warnings of classes that a part lacks. Raises `UserError` for classes that are not in the training part."""
    train, notes = listings["train"], []
    for listing in listings.values():
        unknown = sorted(set(listing.class_names) - set(train.class_names))
        missing = sorted(set(train.class_names) - set(listing.class_names))
        if unknown:
            lacking = f" and {_listed(missing)} only in {train.folder}" if missing else ""
            raise UserError(
                f"every part must have the classes of the training part, got {_listed(unknown)} only in "
                f"{listing.folder}{lacking}"
            )
        if missing:
            notes.append(f"warning: {listing.folder} has no images of {_listed(missing)}, which {train.folder} has")
    return notes


def _nested(listing: _Listing) -> list[str]:
    """What folders inside the classes hold: read as part of the class, which may not be what was meant."""
    inside: dict[str, Counter[str]] = {}
    for file in listing.files:
        class_folder, *further = file.path.split("/")
        if len(further) > 1:
            inside.setdefault(class_folder, Counter())[further[0]] += 1
    if not inside:
        return []
    if len(inside) == len(listing.class_names) and len({frozenset(counts) for counts in inside.values()}) == 1:
        names = _listed(sorted(next(iter(inside.values()))))
        return [f"every class in {listing.folder} has inside the folder {names}, whose images are the class's"]
    counts = [f"{outer}/{name} ({number:,})" for outer in inside for name, number in inside[outer].items()]
    return [f"folders inside classes in {listing.folder}, whose images are the class's: {_listed(counts)}"]


def _passed_over(listings: Iterable[_Listing]) -> list[str]:
    """What lies among the classes and their images and is not read, by kind."""
    left_over = [path for listing in listings for path in listing.left_over]
    beside = [path for listing in listings for path in listing.beside]
    unnamed = [path for listing in listings for path in listing.passed_over if is_image(path)]
    notes = []
    for paths, what in (
        (left_over, "folders that hold nothing of a class, by their name or by all their files"),
        (beside, "images that lie beside the folders of the classes"),
        (unnamed, "files that are images, but not by their ending"),
    ):
        if paths:
            notes.append(f"passed over {len(paths):,} {what}: {_listed(paths, most=3)}")
    return notes


def _listed(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _fingerprint(listings: dict[str, _Listing]) -> str:
    """Over the names, sizes and times of change of all files: opening them all would take as long as decoding."""
    digest = hashlib.sha256()
    for part, listing in sorted(listings.items()):
        for file in listing.files:
            digest.update(os.fsencode(f"{part}/{file.path}\0{file.size}\0{file.changed_ns}\n"))
    return digest.hexdigest()


def _source(listings: dict[str, _Listing]) -> Source:
    class_names = listings["train"].class_names
    return Source(
        class_names=class_names,
        parts={part: _samples(listing, class_names) for part, listing in listings.items()},
        flip=True,
        passed_over=tuple(path for listing in listings.values() for path in listing.passed_over),
    )


def _samples(listing: _Listing, class_names: Sequence[str]) -> Samples:
    """With the training part's numbers for the classes; names are composed, so that a copy is split alike."""
    number = {name: label for label, name in enumerate(class_names)}
    names = [unicodedata.normalize("NFC", file.path) for file in listing.files]
    return Samples(
        where=str(listing.folder),
        names=names,
        labels=np.array([number[name.split("/", 1)[0]] for name in names], dtype=np.int64),
        load=lambda index: open_image(listing.folder / listing.files[index].path),
    )
