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
import unicodedata
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from sret_nas.errors import UserError

from .class_folders import Listing, list_classes, note_differences, note_nested_folders, note_passed_over
from .decode import open_image
from .part_folders import describe_parts, part_folders
from .source import FoundSource, Samples, Source


def find_folder(folder: Path) -> FoundSource:
    """Returns an image folder in one of the layouts above as a source. Raises `UserError` with advice if it is none."""
    if not folder.exists():
        raise UserError(
            f"{folder}: there is no such folder; give 'digits', a folder with one folder of images per class, "
            "or the name of a torchvision set, with --data-root for its files"
        )
    if not folder.is_dir():
        raise UserError(f"{folder}: must be a folder with one folder of images per class, got a file")
    notes: list[str] = []
    folders = part_folders(folder, notes)
    understood = describe_parts(folders)
    if "val" in folders and "test" not in folders:
        folders["test"] = folders.pop("val")
    listings = {part: list_classes(path, understood, is_train=part == "train") for part, path in folders.items()}
    notes += note_differences(listings)
    for listing in listings.values():
        notes += note_nested_folders(listing)
    notes += note_passed_over(listings.values())
    return FoundSource(fingerprint=_fingerprint(listings), open=partial(_source, listings), notes=tuple(notes))


def _fingerprint(listings: dict[str, Listing]) -> str:
    """Returns a digest of names, sizes and times of modification of all files.

    It does not read the contents, which would take as long as decoding.
    """
    digest = hashlib.sha256()
    for part, listing in sorted(listings.items()):
        for file in listing.files:
            digest.update(os.fsencode(f"{part}/{file.path}\0{file.size}\0{file.changed_ns}\n"))
    return digest.hexdigest()


def _source(listings: dict[str, Listing]) -> Source:
    class_names = listings["train"].class_names
    return Source(
        class_names=class_names,
        parts={part: _samples(listing, class_names) for part, listing in listings.items()},
        flip=True,
        passed_over=tuple(path for listing in listings.values() for path in listing.passed_over),
    )


def _samples(listing: Listing, class_names: Sequence[str]) -> Samples:
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
