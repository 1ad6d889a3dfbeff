"""Numbers with their nouns, for messages and tables."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Returns a number and a noun that agrees with it: `1 image`, `1,200 images`.

    Args:
        number: Whole number of things, written with separators of thousands.
        noun: In the singular.
        plural: The noun for all numbers but 1, if it is not the singular with an s.
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"
