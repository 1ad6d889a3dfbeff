"""Which images are named as too few or too uneven."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from sret_nas.arrays import IntArray
from trials.data import PreparedData, PreparedPart
from trials.data.sufficiency import data_warnings


def split(labels: IntArray) -> PreparedPart:
    """Returns a part with labels alone, which are all that is looked at."""
    images = np.zeros((len(labels), 1, 1, 1), np.uint8)
    return PreparedPart(images=images, labels=labels, mean=(0.0,), std=(1.0,), flip=False)


def images(train: list[int], val: int | PreparedPart) -> PreparedData:
    labels = np.repeat(np.arange(len(train)), train)
    content: dict[str, Any] = {
        "train": SimpleNamespace(labels=labels),
        "val": split(np.arange(val) % len(train)) if isinstance(val, int) else val,
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
        ([9, 1], 100, ["class 'class 1' has 1 training image, from which hardly anything can be learned"]),
        ([9, 4], 100, ["class 'class 1' has 4 training images, from which hardly anything can be learned"]),
    ],
)
def test_data_that_cannot_carry_a_search_is_named(train: list[int], num_val: int, messages: list[str]) -> None:
    lines = data_warnings(images(train, num_val))
    assert len(lines) == len(messages)
    for line, message in zip(lines, messages, strict=True):
        assert line.startswith(f"warning: {message}")


def test_balanced_errors_answer_for_unequal_training_but_not_for_few_images() -> None:
    data = images([400, 400, 8], 300)
    (line,) = data_warnings(data)
    assert line.endswith("; --balanced-error counts classes alike")
    assert data_warnings(data, balanced_error=True) == []
    few = split(np.repeat([0, 1], [196, 4]))
    (line,) = data_warnings(images([9, 9], few), balanced_error=True)
    # 2 classes of 196 and 4 images: 2**2 / (1 / 196 + 1 / 4) = 15.7 images of equal weight
    assert "200 validation images, of classes that count alike as if they were 16, score a network to within 13" in line
