"""In what two architectures differ, in words for messages."""

from __future__ import annotations

from sret_nas.arch.config import ArchConfig


def first_difference(one: ArchConfig, other: ArchConfig) -> str:
    """Returns the first key in which two architectures differ, with both values, e.g. `stage 2 width (64 and 96)`."""
    pairs = [("number of stages", len(one.stages), len(other.stages))]
    for number, (first, second) in enumerate(zip(one.stages, other.stages, strict=False), start=1):
        keys = type(first).model_fields
        pairs += [(f"stage {number} {key}", getattr(first, key), getattr(second, key)) for key in keys]
    pairs += [("channels", one.channels, other.channels), ("stem width", one.stem.width, other.stem.width)]
    pairs += [(f"stem {key}", getattr(one.stem, key), getattr(other.stem, key)) for key in one.stem.VARIANTS]
    pairs += [(key, getattr(one, key), getattr(other, key)) for key in one.VARIANTS]
    found = next(((name, first, second) for name, first, second in pairs if first != second), None)
    return "the stem's strides" if found is None else f"{found[0]} ({found[1]} and {found[2]})"
