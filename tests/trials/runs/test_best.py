"""The rule of `best.yaml`: the recommendation at the largest cost that was evaluated, else the least error."""

from __future__ import annotations

import pytest

from tests.trials.runs.test_objectives import trial
from trials.engines.messages import Failure
from trials.runs.best import choose_best
from trials.runs.recommendation import Recommendation, Recommendations, SizeEffect
from trials.runs.trial import Trial

OBJECTIVES = ("error", "flops")


def recommended(*numbers: int, difference: float = 0.001, deviation: float = 0.002) -> Recommendations:
    networks = tuple(
        Recommendation(
            cost="flops", share=share, limit=int(share * 1e9), number=number, predicted_error=0.2, deviation=0.01
        )
        for number, share in zip(numbers, (1.0, 0.5, 0.25), strict=False)
    )
    return Recommendations(num_trials=3, networks=networks, size=SizeEffect(difference=difference, deviation=deviation))


@pytest.fixture
def trials() -> list[Trial]:
    return [trial(0, 0.1, 1.0, 10), trial(1, 0.2, 1.0, 30), trial(2, 0.15, 1.0, 20)]


def test_size_is_not_left_to_the_proxy(trials: list[Trial]) -> None:
    best, reason = choose_best(trials, OBJECTIVES, "expected", recommended(1, 2))
    assert best.number == 1
    assert "between 500M FLOPs and 1G FLOPs the proxy sees no gain beyond noise (+0.1 points ± 0.4)" in reason
    assert "whole trainings" in reason


def test_a_gain_that_the_proxy_shows_is_said(trials: list[Trial]) -> None:
    _, reason = choose_best(trials, OBJECTIVES, "expected", recommended(1, 2, difference=-0.01))
    assert reason.endswith("between 500M FLOPs and 1G FLOPs the proxy's error falls by 1 points")


def test_a_recommendation_whose_trial_failed_is_passed_over(trials: list[Trial]) -> None:
    trials[1].result = None
    best, reason = choose_best(trials, OBJECTIVES, "expected", recommended(1, 2))
    assert best.number == 2
    assert reason.endswith("; the trials of what was to be recommended at 1G FLOPs have not ended")
    trials[1].failure = Failure(cause="diverged", message="loss is nan")
    _, reason = choose_best(trials, OBJECTIVES, "expected", recommended(1, 2))
    assert reason.endswith("; the trials of what was to be recommended at 1G FLOPs failed")
    trials[2].result = None
    assert choose_best(trials, OBJECTIVES, "expected", recommended(1, 2)).trial.number == 0


def test_the_reason_says_over_what_errors_are_means(trials: list[Trial]) -> None:
    _, reason = choose_best(trials, ("depth_error", "flops"), "proxy", None)
    assert reason == "its proxy has the least mean validation error over its recursion depths"


def test_by_the_proxy_the_least_error_is_best_whatever_is_recommended(trials: list[Trial]) -> None:
    best, reason = choose_best(trials, OBJECTIVES, "proxy", recommended(1, 2))
    assert (best.number, reason) == (0, "its proxy has the least validation error")
    assert choose_best(trials, OBJECTIVES, "expected", None).trial.number == 0
