"""Names of folders that mean a part of a data set, as people spell them: `Train`, `test_set`, `images-val`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

WORDS = {
    "train": ("train", "training", "trn", "trainval"),
    "val": ("val", "valid", "validation", "validate", "validating", "dev", "development"),
    "test": ("test", "testing", "tst", "eval", "evaluation", "holdout"),
}
"""What a part is called."""

FILLERS = frozenset(
    (
        *("all", "data", "dataset", "datasets", "dir", "file", "files", "final", "folder", "original", "part"),
        *("sample", "samples", "set", "sets", "split", "subset", "the"),
        *("image", "images", "img", "imgs", "photo", "photos", "pic", "pics", "picture", "pictures"),
    )
)
"""Words beside it that say nothing."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_]+")
"""A run of letters; a capital begins another. Numbers and punctuation separate words and say nothing."""

_PART_OF_WORD = {word: part for part, words in WORDS.items() for word in words} | {
    fused: part
    for part, words in WORDS.items()
    for word in words
    for filler in FILLERS
    for fused in (word + filler, filler + word)
}


def parts_named(names: Iterable[str]) -> dict[str, str]:
    """The part of each name that means one, for folders that lie side by side.

    A name with further words (`seg_train`) means a part if another one with the same words means another part
    (`seg_test`): a `bullet train` is none.
    """
    read = {name: found for name in names if (found := _read(name)) is not None}
    return {
        name: part
        for name, (part, rest) in read.items()
        if not rest or any(other != part and other_rest == rest for other, other_rest in read.values())
    }


def _read(name: str) -> tuple[str, tuple[str, ...]] | None:
    """The part that a name speaks of, and its other words; None if it speaks of none, or of several."""
    words = [word.casefold() for word in _WORD.findall(unicodedata.normalize("NFC", name))]
    parts = {_PART_OF_WORD[word] for word in words if word in _PART_OF_WORD}
    if parts == {"train", "val"}:  # both together, to train on
        parts = {"train"}
    if len(parts) != 1:
        return None
    rest = sorted(word for word in words if word not in _PART_OF_WORD and word not in FILLERS)
    return parts.pop(), tuple(rest)
