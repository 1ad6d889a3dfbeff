"""Recognises files and folders that systems and tools leave in image folders, and images by their content."""

from __future__ import annotations

import os
import stat
import unicodedata

_NAMES = frozenset(
    (
        *("__macosx", "lost+found", "@eadir", "$recycle.bin", "recycler", "system volume information", "#recycle"),
        *("annotation", "annotations", "bounding_boxes", "thumbnail", "thumbnails", "thumbs", "__pycache__"),
    )
)

NO_IMAGES = frozenset(
    (
        *(".cfg", ".csv", ".db", ".doc", ".docx", ".html", ".ini", ".ipynb", ".json", ".jsonl", ".log", ".lst"),
        *(".mat", ".md", ".pdf", ".py", ".rst", ".sh", ".tsv", ".txt", ".url", ".xls", ".xlsx", ".xml"),
        *(".yaml", ".yml"),
    )
)
"""Extensions of files that people keep beside images; a folder with only such files is not an empty class."""

_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")


def is_left_over(folder_name: str) -> bool:
    """Returns whether a folder of this name is never part of a data set."""
    name = unicodedata.normalize("NFC", folder_name).casefold()
    return name.startswith(".") or name in _NAMES


def is_image(path: str) -> bool:
    """Returns whether a file's content begins like an image, whatever its name."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would block
            return False
        with open(path, "rb") as file:
            head = file.read(16)
    except OSError:
        return False
    is_webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    is_heif = head[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypavif")
    return is_webp or is_heif or head.startswith(_SIGNATURES)
