from __future__ import annotations

import numpy as np

from sret_nas.surrogate.label_choice import spread_over


def test_half_of_many_labels_are_the_latest_and_half_are_spread_over_the_others() -> None:
    assert spread_over(7, most=8).tolist() == list(range(7))
    assert spread_over(20, most=8).tolist() == [0, 5, 10, 15, 16, 17, 18, 19]
    many = spread_over(10_000, 2000)
    assert len(np.unique(many)) == len(many) == 2000
    assert (np.diff(many) > 0).all()
