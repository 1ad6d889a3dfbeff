"""Which entries of a shared weight a network has: spread evenly over all of them."""

from __future__ import annotations

import pytest

from sret_nas.nn.shared_weights import spread


class TestSpread:
    @pytest.mark.parametrize(
        ("number", "most", "expected"),
        [
            (4, 8, [0, 2, 4, 6]),
            (3, 8, [0, 2, 5]),
            (5, 5, [0, 1, 2, 3, 4]),
            (1, 7, [0]),
            (6, 9, [0, 1, 3, 4, 6, 7]),  # three parts of 2 of 3
        ],
    )
    def test_keeps_places(self, number: int, most: int, expected: list[int]) -> None:
        assert spread(number, most).tolist() == expected

    @pytest.mark.parametrize("most", range(1, 40))
    def test_keeps_each_once_in_order(self, most: int) -> None:
        for number in range(1, most + 1):
            kept = spread(number, most).tolist()
            assert kept == sorted(set(kept))
            assert kept[0] == 0
            assert kept[-1] < most

    def test_more_than_there_are_is_a_mistake_of_ours(self) -> None:
        with pytest.raises(AssertionError, match=r"\(9, 8\)"):
            spread(9, 8)
