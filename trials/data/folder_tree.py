"""What lies in folders of images: the folders and images that count, without opening any image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from sret_nas.errors import UserError

from .decode import FORMATS
from .leftovers import is_left_over

EXTENSIONS = tuple(FORMATS)
"""Extensions of image files, compared in any case."""


def visible_folders(folder: Path) -> list[Path]:
    """Returns the folders that may belong to the data set, sorted by name. Raises `UserError` for a circular link."""
    folders = sorted(path for path in entries_of(folder) if path.is_dir() and not is_left_over(path.name))
    for path in folders:
        if folder.resolve().is_relative_to(path.resolve()):
            raise UserError(f"{path}: must not link to the folder that it lies in, {path.resolve()}: remove the link")
    return folders


def entries_of(folder: Path) -> list[Path]:
    """Returns everything directly in a folder. Raises `UserError` if it cannot be read."""
    try:
        return list(folder.iterdir())
    except OSError as error:
        refuse_unreadable(error)


def holds_classes(folder: Path) -> bool:
    """Returns whether a folder holds folders with images, but no image directly."""
    return not images_in(folder) and any(has_images(path) for path in visible_folders(folder))


def images_in(folder: Path) -> list[str]:
    """Returns the images directly in a folder."""
    return sorted(str(path) for path in entries_of(folder) if is_visible_image(path.name) and not path.is_dir())


def has_images(folder: Path) -> bool:
    """Returns whether there is an image in a folder or below it."""
    for _, folders, names in os.walk(folder, onerror=refuse_unreadable):
        folders[:] = [name for name in folders if not is_left_over(name)]
        if any(is_visible_image(name) for name in names):
            return True
    return False


def is_visible_image(name: str) -> bool:
    """Returns whether a file is an image by its name, and not hidden."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS


def refuse_unreadable(error: OSError) -> NoReturn:
    """Raises `UserError` with the file that cannot be read, and why."""
    raise UserError(f"{error.filename}: cannot be read: {error.strerror}; mend or remove it") from None


def listed(names: Sequence[str], most: int = 5) -> str:
    """Returns the first names, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
