"""Which images are named as too few or too uneven."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from trials.data import PreparedData
from trials.data.sufficiency import data_warnings


def images(train: list[int], num_val: int) -> PreparedData:
    """Labels alone, which are all that is looked at."""
    labels = np.repeat(np.arange(len(train)), train)
    content: dict[str, Any] = {
        "train": SimpleNamespace(labels=labels),
        "val": range(num_val),
        "num_classes": len(train),
        "class_names": tuple(f"class {number}" for number in range(len(train))),
    }
    return cast(PreparedData, SimpleNamespace(**content))


@pytest.mark.parametrize(
    ("train", "num_val", "messages"),
    [
        ([400, 400, 40], 100, []),
        ([5, 5], 100, []),
        (
            [400, 400],
            3,
            ["3 validation images score a network to within 29 points of error: smaller differences are l"],
        ),
        (
            [400, 400, 8],
            500,
            ["class 'class 0' has 400 training images and 'class 2' has 8: the error counts images, so a network"],
        ),
        ([9, 4], 100, ["class 'class 1' has 4 training images, from which hardly anything can be learned"]),
    ],
)
def test_data_that_cannot_carry_a_search_is_named(train: list[int], num_val: int, messages: list[str]) -> None:
    lines = data_warnings(images(train, num_val))
    assert len(lines) == len(messages)
    for line, message in zip(lines, messages, strict=True):
        assert line.startswith(f"warning: {message}")
