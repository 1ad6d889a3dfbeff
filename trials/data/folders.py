"""Image folders with one folder per class, in one of these layouts:

| found in DIR | training | validation | test |
|---|---|---|---|
| `CLASS/*` | the rest of DIR | split off DIR | split off DIR |
| `train/CLASS/*` alone | the rest of train | split off train | split off train |
| `train/CLASS/*` and `val/CLASS/*` (ImageNet's habit) | the rest of train | split off train | val |
| `train/CLASS/*` and `test/CLASS/*` | the rest of train | split off train | test |
| `train`, `val` and `test` | train | val | test |

Parts are recognised by their names in any case and in the usual spellings (`trials.data.part_names`). DIR is read by
parts if `train` is beside another part or alone; other folders beside the parts are ignored. Folders with names of
parts that directly hold images, among many other such folders, are classes. Ambiguous layouts are refused. A folder
whose only content is another folder is read as that one.

Inside a class's folder, images may be nested. Links to files are followed, and links to folders of a class or a part,
but not links to folders further down. Hidden files and folders, files of tools (`trials.data.leftovers`), and files
without an image extension are ignored. Class names are compared in Unicode's composed form. `FoundSource.notes` report
each of these that occurred.
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
from .part_names import is_fold, parts_named
from .source import PARTS, FoundSource, Samples, Source

EXTENSIONS = tuple(FORMATS)
"""Extensions of image files, compared in any case."""

MAX_NESTED = 4
"""Maximum depth of folders whose only content is the next folder."""

OTHERS_PER_PART = 2
"""Folders of images with names of parts are classes if there are at least this number of other folders for each."""

_TITLES = {"train": "the training part", "val": "the validation part", "test": "the test part"}


@dataclass(frozen=True)
class _File:
    path: str
    """Path relative to the folder of the classes, with `/`; its first part is the class."""
    size: int
    changed_ns: int


@dataclass(frozen=True)
class _Listing:
    """A folder of class folders, before any image is opened."""

    folder: Path
    class_names: tuple[str, ...]
    """Names in Unicode's composed form, sorted."""
    files: tuple[_File, ...]
    passed_over: tuple[str, ...]
    """Files without an image extension."""
    left_over: tuple[str, ...]
    """Folders that were ignored."""
    beside: tuple[str, ...]
    """Images beside the folders of the classes."""


def find_folder(folder: Path) -> FoundSource:
    """Returns an image folder in one of the layouts above as a source. Raises `UserError` with advice if it is none."""
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
    """Returns the folders that hold the classes, by part, and appends to `notes`."""
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
    """Returns the innermost of folders whose only content is the next; the folder itself if there are none."""
    for _ in range(MAX_NESTED):
        inner = _only_folder(folder)
        if inner is None:
            break
        notes.append(f"read {inner}, the only folder in {folder}")
        folder = inner
    return folder


def _parts_in(folder: Path, notes: list[str]) -> dict[str, Path] | None:
    """Returns the folders by part; None if there are no parts. Raises `UserError` for an ambiguous layout."""
    folders = {path.name: path for path in _visible_folders(folder)}
    named = _without_empty_twins(parts_named(folders), folders)
    if not named:
        _refuse_folds(folder, folders)
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


def _refuse_folds(folder: Path, folders: Mapping[str, Path]) -> None:
    """Raises `UserError` if all folders with images are numbered parts of one set, such as the folds of one."""
    folds = [name for name, path in folders.items() if _has_images(path)]
    if len(folds) > 1 and all(is_fold(name) and _holds_classes(folders[name]) for name in folds):
        raise UserError(
            f"{folder}: {_listed(folds)} look like folds of one set, not like classes: put the classes of one into "
            "val, and those of the others together into train"
        )


def _without_empty_twins(named: Mapping[str, str], folders: Mapping[str, Path]) -> dict[str, str]:
    """Returns the names without folders that hold no image, such as `train_labels`, if the part has another folder."""
    with_images = {name for name in named if _has_images(folders[name])}
    filled = {named[name] for name in with_images}
    return {name: part for name, part in named.items() if name in with_images or part not in filled}


def _by_part(folder: Path, folders: Mapping[str, Path], named: Mapping[str, str]) -> dict[str, Path]:
    folder_of: dict[str, Path] = {}
    for name, part in named.items():
        if part in folder_of:
            raise UserError(f"{folder}: must have one folder for {part}, got {folder_of[part].name} and {name}")
        folder_of[part] = folders[name]
    if "train" not in folder_of:
        names = " and ".join(path.name for path in folder_of.values())
        raise UserError(f"{folder}: must have a folder 'train' beside {names}, got none")
    return {part: folder_of[part] for part in PARTS if part in folder_of}


def _understood(folders: Mapping[str, Path]) -> str:
    """Returns words for messages that say how the parts were understood; empty if there is only one."""
    if len(folders) == 1:
        return ""
    return " (understood " + ", ".join(f"{path} as {_TITLES[part]}" for part, path in folders.items()) + ")"


def _visible_folders(folder: Path) -> list[Path]:
    """Returns the folders that may belong to the data set, sorted by name. Raises `UserError` for a circular link."""
    folders = sorted(path for path in _entries(folder) if path.is_dir() and not is_left_over(path.name))
    for path in folders:
        if folder.resolve().is_relative_to(path.resolve()):
            raise UserError(f"{path}: must not link to the folder that it lies in, {path.resolve()}: remove the link")
    return folders


def _refuse_equal(folders: Sequence[Path]) -> None:
    """Raises `UserError` if two classes are the same folder by a link: its images would have both labels."""
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
    """Returns the only folder inside a folder, if it holds classes; else None."""
    folders = list(islice((path for path in _visible_folders(folder) if not _is_left_aside(path)), 2))
    if len(folders) != 1 or _images_in(folder) or not _holds_classes(folders[0]):
        return None
    return folders[0]


def _holds_classes(folder: Path) -> bool:
    """Returns whether a folder holds folders with images, but no image directly."""
    return not _images_in(folder) and any(_has_images(path) for path in _visible_folders(folder))


def _images_in(folder: Path) -> list[str]:
    """Returns the images directly in a folder."""
    return sorted(str(path) for path in _entries(folder) if _is_visible_image(path.name) and not path.is_dir())


def _has_images(folder: Path) -> bool:
    """Returns whether there is an image in a folder or below it."""
    for _, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not is_left_over(name)]
        if any(_is_visible_image(name) for name in names):
            return True
    return False


def _is_visible_image(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS


def _list(folder: Path, understood: str, is_train: bool) -> _Listing:
    """Lists a folder of classes. Raises `UserError` if there are none, or if one of the training part has no images."""
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
            if not is_train:  # this part lacks the class, which a note says
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
    """Returns whether a folder holds only files of kinds that people keep beside images, and at least one."""
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
    """Raises `UserError` for `CLASS/train` beside `CLASS/test`, which would be read as one part."""
    named = parts_named(path.name for path in _visible_folders(class_folder) if _has_images(path))
    if "train" in named.values() and len(set(named.values())) > 1:
        raise UserError(
            f"{class_folder}: understood as a class, but it holds the parts {_listed(list(named))}: "
            f"parts must lie outside, as train/{class_folder.name}"
        )


def _walk(class_folder: Path) -> tuple[list[_File], list[str], list[str]]:
    """Returns the images below a class's folder, the other files, and the ignored folders."""
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
    except OSError as error:  # a dangling link
        _refuse(error)
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would block forever
        raise UserError(f"{path}: must be a file, got a pipe, a device or a folder with an image's name; remove it")
    return _File(os.path.relpath(path, folder).replace(os.sep, "/"), status.st_size, status.st_mtime_ns)


def _refuse(error: OSError) -> NoReturn:
    raise UserError(f"{error.filename}: cannot be read: {error.strerror}; mend or remove it") from None


def _differences(listings: Mapping[str, _Listing]) -> list[str]:
    """Returns warnings of classes that a part lacks. Raises `UserError` for classes that the training part lacks."""
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
    """Returns notes on folders inside classes, whose images count as the class's, perhaps against the user's intent."""
    inside: dict[str, Counter[str]] = {}
    for file in listing.files:
        class_folder, *further = file.path.split("/")
        if len(further) > 1:
            inside.setdefault(class_folder, Counter())[further[0]] += 1
    if not inside:
        return []
    if len(inside) == len(listing.class_names) and len({frozenset(counts) for counts in inside.values()}) == 1:
        shared = sorted(next(iter(inside.values())))
        names = _listed(shared)
        if len(shared) > 1 and all("/" in file.path.partition("/")[2] for file in listing.files):
            return [
                f"warning: the classes {_listed(sorted(inside))} hold the same folders ({names}), as parts of one set "
                f"do: if they are parts, call them train and val or test"
            ]
        return [f"every class in {listing.folder} has inside the folder {names}, whose images are the class's"]
    counts = [f"{outer}/{name} ({count:,})" for outer in inside for name, count in inside[outer].items()]
    return [f"folders inside classes in {listing.folder}, whose images are the class's: {_listed(counts)}"]


def _passed_over(listings: Iterable[_Listing]) -> list[str]:
    """Returns notes on ignored folders and files, one per kind."""
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
    """Returns a digest of names, sizes and times of modification of all files.

    It does not read the contents, which would take as long as decoding.
    """
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
    """Returns the samples of a part, labelled by the position in `class_names`.

    Names are in Unicode's composed form, so that a copy on another file system is split in the same way.
    """
    label_of = {name: label for label, name in enumerate(class_names)}
    names = [unicodedata.normalize("NFC", file.path) for file in listing.files]
    return Samples(
        where=str(listing.folder),
        names=names,
        labels=np.array([label_of[name.split("/", 1)[0]] for name in names], dtype=np.int64),
        load=lambda index: open_image(listing.folder / listing.files[index].path),
    )
