"""Lists a folder with one folder of images per class, and says what in it is surprising."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from sret_nas.errors import UserError
from sret_nas.plurals import counted

from .folder_tree import (
    EXTENSIONS,
    entries_of,
    has_images,
    images_in,
    is_visible_image,
    listed,
    refuse_unreadable,
    visible_folders,
)
from .leftovers import NO_IMAGES, is_image, is_left_over
from .part_names import parts_named


@dataclass(frozen=True)
class ListedFile:
    path: str
    """Path relative to the folder of the classes, with `/`; its first part is the class."""
    size: int
    changed_ns: int


@dataclass(frozen=True)
class Listing:
    """A folder of class folders, before any image is opened."""

    folder: Path
    class_names: tuple[str, ...]
    """Names in Unicode's composed form, sorted."""
    files: tuple[ListedFile, ...]
    passed_over: tuple[str, ...]
    """Files without an image extension."""
    left_over: tuple[str, ...]
    """Folders that were ignored."""
    beside: tuple[str, ...]
    """Images beside the folders of the classes."""


def _refuse_equal(folders: Sequence[Path]) -> None:
    """Raises `UserError` if two classes are the same folder by a link: its images would have both labels."""
    known: dict[Path, Path] = {}
    for path in folders:
        other = known.setdefault(path.resolve(), path)
        if other != path:
            raise UserError(f"{path}: must not be the same folder as {other}: remove the link")


def _refuse_unencodable(folders: Sequence[Path]) -> None:
    """Raises `UserError` if a class's name is not UTF-8: no file of results could hold it."""
    for path in folders:
        try:
            path.name.encode()
        except UnicodeEncodeError:
            raise UserError(
                f"{path}: the name of a class must be UTF-8, got {os.fsencode(path.name)!r}: rename the folder"
            ) from None


def list_classes(folder: Path, understood: str, is_train: bool) -> Listing:
    """Lists a folder of classes. Raises `UserError` if there are none, or if one of the training part has no images."""
    beside = images_in(folder)
    classes = visible_folders(folder)
    if not classes:
        got = f"got {counted(len(beside), 'image')} and no folder in it" if beside else "got no folder in it"
        raise UserError(f"{folder}: must have one folder of images per class, {got}{understood}")
    _refuse_unencodable(classes)
    _refuse_equal(classes)
    files: list[ListedFile] = []
    passed_over: list[str] = []
    left_over = [str(path) for path in entries_of(folder) if path.is_dir() and is_left_over(path.name)]
    names: dict[str, str] = {}
    for path in classes:
        images, others, skipped = walk_class(path)
        passed_over += others
        left_over += skipped
        if not images:
            if are_no_images(others):
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
    return Listing(folder, tuple(sorted(names)), tuple(files), tuple(passed_over), tuple(left_over), tuple(beside))


def are_no_images(others: Sequence[str]) -> bool:
    """Returns whether all files are of kinds that people keep beside images, and there is at least one."""
    return bool(others) and all(os.path.splitext(path)[1].lower() in NO_IMAGES for path in others)


def _refuse_without_images(path: Path, others: Sequence[str]) -> NoReturn:
    unnamed = [other for other in others if is_image(other)]
    files = counted(len(unnamed), "file is an image, but not by its", "files are images, but not by their")
    why = f"; {files} ending, e.g. {unnamed[0]}" if unnamed else ""
    raise UserError(
        f"{path}: the folder of a class must have images ({' '.join(EXTENSIONS)}), got none{why}; "
        "add images or remove the folder"
    )


def _require_no_parts_inside(class_folder: Path) -> None:
    """Raises `UserError` for `CLASS/train` beside `CLASS/test`, which would be read as one part."""
    named = parts_named(path.name for path in visible_folders(class_folder) if has_images(path))
    if "train" in named.values() and len(set(named.values())) > 1:
        raise UserError(
            f"{class_folder}: understood as a class, but it holds the parts {listed(list(named))}: "
            f"parts must lie outside, as train/{class_folder.name}"
        )


def walk_class(class_folder: Path) -> tuple[list[ListedFile], list[str], list[str]]:
    """Returns the images below a class's folder, the other files, and the ignored folders."""
    images, others, left_over = [], [], []
    for where, folders, names in os.walk(class_folder, onerror=refuse_unreadable):
        left_over += [os.path.join(where, name) for name in folders if is_left_over(name)]
        folders[:] = sorted(name for name in folders if not is_left_over(name))
        for name in sorted(names):
            path = os.path.join(where, name)
            if name.startswith("."):
                continue
            if is_visible_image(name):
                images.append(_file(path, class_folder.parent))
            else:
                others.append(path)
    return images, others, left_over


def _file(path: str, folder: Path) -> ListedFile:
    try:
        status = os.stat(path)
    except OSError as error:  # a dangling link
        refuse_unreadable(error)
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would block forever
        raise UserError(f"{path}: must be a file, got a pipe, a device or a folder with an image's name; remove it")
    return ListedFile(os.path.relpath(path, folder).replace(os.sep, "/"), status.st_size, status.st_mtime_ns)


def note_differences(listings: Mapping[str, Listing]) -> list[str]:
    """Returns warnings of classes that a part lacks. Raises `UserError` for classes that the training part lacks."""
    train, notes = listings["train"], []
    for listing in listings.values():
        unknown = sorted(set(listing.class_names) - set(train.class_names))
        missing = sorted(set(train.class_names) - set(listing.class_names))
        if unknown:
            lacking = f" and {listed(missing)} only in {train.folder}" if missing else ""
            raise UserError(
                f"every part must have the classes of the training part, got {listed(unknown)} only in "
                f"{listing.folder}{lacking}"
            )
        if missing:
            notes.append(f"warning: {listing.folder} has no images of {listed(missing)}, which {train.folder} has")
    return notes


def note_nested_folders(listing: Listing) -> list[str]:
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
        names = listed(shared)
        if len(shared) > 1 and all("/" in file.path.partition("/")[2] for file in listing.files):
            return [
                f"warning: the classes {listed(sorted(inside))} hold the same folders ({names}), as parts of one set "
                f"do: if they are parts, call them train and val or test"
            ]
        folders = "folder" if len(shared) == 1 else "folders"
        return [f"in every class of {listing.folder}, images lie in the {folders} {names}: they are the class's"]
    counts = [f"{outer}/{name} ({count:,})" for outer in inside for name, count in inside[outer].items()]
    return [f"in classes of {listing.folder}, images lie in folders; they are the class's: {listed(counts)}"]


def note_passed_over(listings: Iterable[Listing]) -> list[str]:
    """Returns notes on ignored folders and files, one per kind."""
    left_over = [path for listing in listings for path in listing.left_over]
    beside = [path for listing in listings for path in listing.beside]
    unnamed = [path for listing in listings for path in listing.passed_over if is_image(path)]
    notes = []
    for paths, one, several in (
        (
            left_over,
            "folder that holds nothing of a class, by its name or by all its files",
            "folders that hold nothing of a class, by their name or by all their files",
        ),
        (
            beside,
            "image that lies beside the folders of the classes",
            "images that lie beside the folders of the classes",
        ),
        (unnamed, "file that is an image, but not by its ending", "files that are images, but not by their ending"),
    ):
        if paths:
            notes.append(f"passed over {counted(len(paths), one, several)}: {listed(paths, most=3)}")
    return notes
