"""What a search recommends, as data: labels, how many evaluations it may take, and when a size effect is seen."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from trials.runs.recommendation import (
    ORIGIN,
    SHARES,
    BudgetCost,
    Recommendation,
    Recommendations,
    SizeEffect,
    max_evaluations,
)


def recommendation(cost: BudgetCost = "flops", limit: int = 750_000_000) -> Recommendation:
    return Recommendation(cost=cost, share=0.75, limit=limit, number=3, predicted_error=0.2, deviation=0.01)


@pytest.mark.parametrize(
    ("cost", "limit", "label"),
    [("flops", 750_000_000, "750M FLOPs"), ("params", 750_000, "750K params"), ("latency", 7_500, "7.5ms")],
)
def test_labels_have_the_unit_of_the_cost(cost: BudgetCost, limit: int, label: str) -> None:
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


BEFORE_ROUNDS: dict[str, Any] = {
    "num_trials": 12,
    "networks": [
        {"cost": "flops", "share": 0.75, "limit": 750_000_000, "number": 3, "predicted_error": 0.2, "deviation": 0.01}
    ],
    "size": None,
}
"""As it was recorded before there were rounds and bends."""


def test_what_was_recorded_before_there_were_rounds_is_read_and_still_written_so() -> None:
    known = Recommendations.model_validate(BEFORE_ROUNDS)
    assert (known.round_number, known.is_final, known.networks[0].is_bend) == (1, True, False)
    assert known == Recommendations(num_trials=12, networks=(recommendation(),))
    assert known.to_json() == BEFORE_ROUNDS


def test_rounds_and_bends_are_recorded() -> None:
    bend = recommendation().model_copy(update={"is_bend": True, "number": 4})
    size = SizeEffect(difference=-0.5, deviation=0.125)
    known = Recommendations(num_trials=12, round_number=2, is_final=False, networks=(recommendation(), bend), size=size)
    written = known.to_json()
    assert (written["round_number"], written["is_final"]) == (2, False)
    assert written["networks"] == [
        *BEFORE_ROUNDS["networks"],
        {**BEFORE_ROUNDS["networks"][0], "number": 4, "is_bend": True},
    ]
    assert written["size"] == {"difference": -0.5, "deviation": 0.125}
    assert Recommendations.model_validate(written) == known


def test_trials_that_were_awaited_are_recorded() -> None:
    known = Recommendations(num_trials=12, networks=(recommendation(),), awaited=(3,))
    assert known.to_json() == {**BEFORE_ROUNDS, "awaited": [3]}
    assert Recommendations.model_validate(known.to_json()) == known


def test_a_trial_is_recommended_or_not() -> None:
    bend = recommendation().model_copy(update={"is_bend": True, "number": 4})
    known = Recommendations(num_trials=12, networks=(recommendation(), bend))
    assert [known.of(number) for number in (3, 4, 5)] == [recommendation(), bend, None]
    assert known.shares == (recommendation(),)


def test_records_know_trials_that_evaluate_a_recommendation_by_their_origin() -> None:
    assert ORIGIN == "recommended"
