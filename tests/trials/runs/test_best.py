"""The rule of `best.yaml`: the recommendation at the largest cost that was evaluated, else the least error."""

from __future__ import annotations

import pytest

from tests.trials.planted_search import retrained
from tests.trials.runs.test_objectives import trial
from trials.engines.results import Failure
from trials.runs.best import choose_best, size_after_tuning
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
    assert reason.startswith(
        "of the networks that cost about 1G FLOPs, it has the least validation error by the model of all"
    )
    assert (
        "from 500M FLOPs to 1G FLOPs the proxies' error changes by +0.1 points (95 % interval -0.3 to +0.5), no gain "
        "beyond noise, so the size is taken from whole trainings"
    ) in reason


def test_an_error_that_rises_with_size_is_called_so(trials: list[Trial]) -> None:
    _, reason = choose_best(trials, OBJECTIVES, "expected", recommended(1, 2, difference=0.02))
    assert "changes by +2.0 points (95 % interval +1.6 to +2.4), which speaks against size" in reason


def test_a_network_at_the_bend_is_no_end_of_the_budget(trials: list[Trial]) -> None:
    known = recommended(1, 2)
    bend = known.networks[-1].model_copy(update={"is_bend": True, "limit": 7, "number": 0})
    known = known.model_copy(update={"networks": (*known.networks, bend)})
    assert "from 500M FLOPs to 1G FLOPs" in choose_best(trials, OBJECTIVES, "expected", known).reason


def test_sizes_are_compared_once_more_after_fine_tuning(trials: list[Trial]) -> None:
    known = recommended(1, 2)
    assert size_after_tuning(trials, OBJECTIVES, known) is None
    assert size_after_tuning(trials, OBJECTIVES, None) is None
    tuned = retrained(trials[1].candidate, test_error=0.5)
    for number, error in ((1, 0.1), (2, 0.2)):
        trials[number].finals["fine-tuned"] = tuned.model_copy(update={"error": error})
    assert size_after_tuning(trials, OBJECTIVES, known) == (
        "Fine-tuned, the validation error is 10.00% at 1G FLOPs and 20.00% at 500M FLOPs; with 100 images, "
        "differences below 10.0 points can be chance"
    )


def test_a_gain_that_the_proxy_shows_is_said(trials: list[Trial]) -> None:
    _, reason = choose_best(trials, OBJECTIVES, "expected", recommended(1, 2, 0, difference=-0.2))
    assert reason.endswith(
        "from 250M FLOPs to 1G FLOPs the proxies' error changes by -20.0 points (95 % interval -20.4 to -19.6), so "
        "they see the gain from size"
    )


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


def test_fine_tuned_proxies_are_compared_by_their_own_errors(trials: list[Trial]) -> None:
    tuned = retrained(trials[1].candidate, test_error=0.5)
    for number, error in ((1, 0.05), (2, 0.07)):
        trials[number].finals["fine-tuned"] = tuned.model_copy(update={"error": error})
    best, reason = choose_best(trials, OBJECTIVES, "proxy", None)
    assert (best.number, reason) == (1, "it has the least validation error of all fine-tuned proxies")


def test_the_reason_says_over_what_errors_are_means(trials: list[Trial]) -> None:
    _, reason = choose_best(trials, ("depth_error", "flops"), "proxy", None)
    assert reason == "its proxy has the least mean validation error over its recursion depths"
    _, reason = choose_best(trials, ("depth_error", "flops"), "expected", recommended(1, 2))
    assert "the least mean validation error over its recursion depths by the model of all trials" in reason


def test_by_the_proxy_the_least_error_is_best_whatever_is_recommended(trials: list[Trial]) -> None:
    best, reason = choose_best(trials, OBJECTIVES, "proxy", recommended(1, 2))
    assert (best.number, reason) == (0, "its proxy has the least validation error")
    assert choose_best(trials, OBJECTIVES, "expected", None).trial.number == 0
