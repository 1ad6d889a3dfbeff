"""What a search recommends, as data: labels, how many evaluations it may take, and when a size effect is seen."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from trials.runs.recommendation import (
    SHARES,
    CostName,
    Recommendation,
    Recommendations,
    SizeEffect,
    max_evaluations,
)


def recommendation(cost: CostName = "flops", limit: int = 750_000_000) -> Recommendation:
    return Recommendation(cost=cost, share=0.75, limit=limit, number=3, predicted_error=0.2, deviation=0.01)


@pytest.mark.parametrize(
    ("cost", "limit", "label"),
    [("flops", 750_000_000, "750M FLOPs"), ("params", 750_000, "750K params"), ("latency", 7_500, "7.5ms")],
)
def test_labels_have_the_unit_of_the_cost(cost: CostName, limit: int, label: str) -> None:
    assert recommendation(cost, limit).label == label


def test_the_budget_and_three_quarters_a_half_and_a_quarter_of_it_and_a_bend() -> None:
    assert SHARES == (1.0, 0.75, 0.5, 0.25)
    assert max_evaluations(from_scratch=True) == 5
    assert max_evaluations(from_scratch=False) == 15


def test_a_gain_from_size_is_seen_if_its_interval_is_below_zero() -> None:
    assert SizeEffect(difference=-0.5, deviation=0.125).is_seen
    assert not SizeEffect(difference=-0.25, deviation=0.125).is_seen  # its interval ends at 0
    assert SizeEffect(difference=-0.25, deviation=0.125).interval == (-0.5, 0.0)


def test_what_is_recommended_does_not_change() -> None:
    known = Recommendations(num_trials=12, networks=(recommendation(),))
    for frozen, name in (
        (known, "num_trials"),
        (known.networks[0], "number"),
        (SizeEffect(difference=0, deviation=0), "deviation"),
    ):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(frozen, name, 1)
