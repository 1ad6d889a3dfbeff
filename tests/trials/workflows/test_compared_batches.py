"""The batches on which an exported network is compared."""

from __future__ import annotations

import pytest
import torch

from trials.workflows.export_network import compared_batches, sizes_of


@pytest.mark.parametrize(
    ("images", "expected"), [(1, [1]), (2, [1, 1]), (8, [1, 7]), (17, [1, 7, 7, 2]), (99, [1, *[7] * 9])]
)
def test_no_batch_is_empty(images: int, expected: list[int]) -> None:
    assert [len(batch) for batch in compared_batches(torch.zeros(images, 1))] == expected


@pytest.mark.parametrize(
    ("images", "words"), [(2, "1"), (8, "1 and 7"), (17, "1, 2 and 7"), (48, "1, 5 and 7"), (99, "1 and 7")]
)
def test_their_sizes_in_words(images: int, words: str) -> None:
    assert sizes_of(compared_batches(torch.zeros(images, 1))) == words
