"""Recognises names of folders that mean a part of a data set, such as `Train`, `test_set` and `images-val`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

WORDS = {
    "train": ("train", "training", "trn", "trainval"),
    "val": ("val", "valid", "validation", "validate", "validating", "dev", "development"),
    "test": ("test", "testing", "tst", "eval", "evaluation", "holdout"),
}
"""Words for each part."""

FILLERS = frozenset(
    (
        *("all", "data", "dataset", "datasets", "dir", "file", "files", "final", "folder", "original", "part"),
        *("sample", "samples", "set", "sets", "split", "subset", "the"),
        *("image", "images", "img", "imgs", "photo", "photos", "pic", "pics", "picture", "pictures"),
    )
)
"""Further words in such names that have no meaning."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_]+")
"""A run of letters; a capital begins a new word. Digits and punctuation separate words."""

_LETTERS = re.compile(r"[^\W\d_]+")

_FOLD = re.compile(r"(k?[\W_]*folds?|cv|splits?|parts?)[\W_]*\d+", re.IGNORECASE)

_PART_OF_WORD = {word: part for part, words in WORDS.items() for word in words} | {
    fused: part
    for part, words in WORDS.items()
    for word in words
    for filler in FILLERS
    for fused in (word + filler, filler + word)
}


def parts_named(names: Iterable[str]) -> dict[str, str]:
    """Returns the part of each name that means one, for folders that are side by side.

    A name with further words (`seg_train`) means a part only if another name has the same words for another part
    (`seg_test`), so a `bullet train` is not a part.
    """
    read = {name: reading for name in names if (reading := _read(name)) is not None}
    return {
        name: part
        for name, (part, rest) in read.items()
        if not rest or any(other != part and other_rest == rest for other, other_rest in read.values())
    }


def _read(name: str) -> tuple[str, tuple[str, ...]] | None:
    """Returns the part that a name mentions, and its other words; None if it mentions none or several."""
    normalised = unicodedata.normalize("NFC", name)
    words = [word.casefold() for word in _WORD.findall(normalised)]
    if _PART_OF_WORD.keys().isdisjoint(words):  # e.g. `tRaIn`, whose capitals begin no words
        words = [word.casefold() for word in _LETTERS.findall(normalised)]
    parts = {_PART_OF_WORD[word] for word in words if word in _PART_OF_WORD}
    if parts == {"train", "val"}:  # e.g. `trainval`, which is for training
        parts = {"train"}
    if len(parts) != 1:
        return None
    rest = sorted(word for word in words if word not in _PART_OF_WORD and word not in FILLERS)
    return parts.pop(), tuple(rest)


def is_fold(name: str) -> bool:
    """Returns whether a name is that of a fold of a cross-validation, such as `fold_1`, or of a numbered part."""
    return _FOLD.fullmatch(name.strip()) is not None
