"""Recognises the parts of an image folder: training, validation and test images."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path

from sret_nas.errors import UserError

from .class_folders import are_no_images, walk_class
from .folder_tree import has_images, holds_classes, images_in, listed, visible_folders
from .part_names import is_fold, parts_named
from .source import PARTS

MAX_NESTED = 4
"""Maximum depth of folders whose only content is the next folder."""


OTHERS_PER_PART = 2
"""Folders of images with names of parts are classes if there are at least this number of other folders for each."""


_TITLES = {"train": "the training part", "val": "the validation part", "test": "the test part"}


def part_folders(folder: Path, notes: list[str]) -> dict[str, Path]:
    """Returns the folders that hold the classes, by part, and appends to `notes`.

    Raises `UserError` if a part holds parts again.
    """
    for _ in range(MAX_NESTED):
        parts = _parts_in(folder, notes)
        if parts is not None and not (holding := [path for path in parts.values() if _holds_parts(path)]):
            return {part: _innermost(path, notes) for part, path in parts.items()}
        if parts is not None and len(parts) > 1:
            inside = listed(sorted(path.name for path in visible_folders(holding[0])))
            raise UserError(
                f"{holding[0]}: understood as a part, but it holds parts again, {inside}: put its classes there"
            )
        inner = _only_folder(folder) if parts is None else holding[0]
        if inner is None:
            break
        notes.append(f"read {inner}, the only folder in {folder}")
        folder = inner
    return {"train": folder}


def _holds_parts(folder: Path) -> bool:
    """Returns whether all folders in a part are parts themselves, of at least two kinds, such as in `train/train`."""
    names = [path.name for path in visible_folders(folder) if has_images(path)]
    named = parts_named(names)
    return len(set(named.values())) > 1 and len(named) == len(names)


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
    folders = {path.name: path for path in visible_folders(folder)}
    named = _without_empty_twins(parts_named(folders), folders)
    if not named:
        _refuse_folds(folder, folders)
        return None
    others = [path for name, path in folders.items() if name not in named and has_images(path)]
    with_classes = [name for name in named if holds_classes(folders[name])]
    is_divided = "train" in named.values() and len(set(named.values())) > 1
    read_as = " and ".join(f"{name} as {_TITLES[part]}" for name, part in named.items())
    if others and not (is_divided and with_classes):
        beside = listed([path.name for path in others])
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
        names = listed(list(named))
        notes.append(f"warning: {names} in {folder} read as a class like the others, not as a part")
        return None
    if others:
        notes.append(f"passed over beside the parts: {listed([path.name for path in others])}")
    return _by_part(folder, folders, named)


def _refuse_folds(folder: Path, folders: Mapping[str, Path]) -> None:
    """Raises `UserError` if all folders with images are numbered parts of one set, such as the folds of one."""
    folds = [name for name, path in folders.items() if has_images(path)]
    if len(folds) > 1 and all(is_fold(name) and holds_classes(folders[name]) for name in folds):
        raise UserError(
            f"{folder}: {listed(folds)} look like folds of one set, not like classes: put the classes of one into "
            "val, and those of the others together into train"
        )


def _without_empty_twins(named: Mapping[str, str], folders: Mapping[str, Path]) -> dict[str, str]:
    """Returns the names without folders that hold no image, such as `train_labels`, if the part has another folder."""
    with_images = {name for name in named if has_images(folders[name])}
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


def describe_parts(folders: Mapping[str, Path]) -> str:
    """Returns words for messages that say how the parts were understood; empty if there is only one."""
    if len(folders) == 1:
        return ""
    return " (understood " + ", ".join(f"{path} as {_TITLES[part]}" for part, path in folders.items()) + ")"


def _only_folder(folder: Path) -> Path | None:
    """Returns the only folder inside a folder, if it holds classes; else None."""
    folders = list(islice((path for path in visible_folders(folder) if not _is_left_aside(path)), 2))
    if len(folders) != 1 or images_in(folder) or not holds_classes(folders[0]):
        return None
    return folders[0]


def _is_left_aside(folder: Path) -> bool:
    """Returns whether a folder holds only files of kinds that people keep beside images, and at least one."""
    if has_images(folder):
        return False
    return are_no_images(walk_class(folder)[1])
