"""What the objectives of a trial are, and which trial is best of several: against cases written by hand."""

from __future__ import annotations

import math

import pytest

from sret_nas.arch.presets import PRESETS
from trials.engines.results import RetrainResult, TargetCost, TrialResult
from trials.runs.objectives import (
    archived,
    best_of,
    comparable_values,
    error_named,
    error_of,
    final_error_of,
    final_test_error_of,
    most_accurate,
    objective_values,
    pareto_front,
)
from trials.runs.trial import Trial
from trials.strategies.strategy import Candidate

ARCH = PRESETS["sret_t"]


def result(error: float, loss: float, flops: int, params: int = 1, latency: int | None = None) -> TrialResult:
    target = TargetCost(flops=flops, params=params, image_size=32, classes=10, latency_us=latency)
    return TrialResult(
        error=error, cross_entropy=loss, error_by_depth=[error], train_loss=1.0, train_steps=1, train_images=1,
        train_seconds=1.0, seconds=1.0, target=target, proxy=target, proxy_arch=ARCH, device="cpu", peak_memory_mb=1.0,
    )  # fmt: skip


def trial(number: int, error: float, loss: float, flops: int) -> Trial:
    return Trial(number, Candidate(ARCH, "full"), result=result(error, loss, flops))


def numbers(trials: list[Trial]) -> list[int]:
    return [one.number for one in trials]


UNFINISHED = Trial(9, Candidate(ARCH, "full"))


def test_values_come_in_the_order_asked_for() -> None:
    found = result(0.25, 0.5, 1000, 20, 300)
    assert objective_values(found, ("latency", "error", "params", "cross_entropy", "flops")) == (
        300,
        0.25,
        20,
        0.5,
        1000,
    )
    assert objective_values(result(0.25, 0.5, 1000), ("flops", "error")) == (1000, 0.25)


def test_costs_compare_by_their_logarithm_and_errors_as_they_are() -> None:
    found = result(0.25, 0.5, 1000, 1, 0)
    assert comparable_values(found, ("error", "cross_entropy", "flops", "params", "latency")) == pytest.approx(
        (0.25, 0.5, math.log(1000), 0.0, 0.0)
    )


def at_depths(number: int, *errors: float, flops: int = 10) -> Trial:
    """Returns a trial that was scored at several depths, the last of which is the full one."""
    found = result(errors[-1], 1.0, flops).model_copy(update={"error_by_depth": list(errors)})
    return Trial(number, Candidate(ARCH, "full"), result=found)


def test_the_error_over_depths_is_their_mean() -> None:
    found = at_depths(0, 0.5, 0.375, 0.25).result
    assert found is not None
    assert objective_values(found, ("depth_error", "error")) == (0.375, 0.25)
    assert comparable_values(found, ("depth_error", "flops")) == pytest.approx((0.375, math.log(10)))
    assert objective_values(found.model_copy(update={"error_by_depth": []}), ("depth_error",)) == (0.25,)
    assert (error_named(("flops", "depth_error")), error_of(found, ("depth_error", "error"))) == ("depth_error", 0.375)
    assert (error_named(("cross_entropy",)), error_of(found, ("error", "flops"))) == ("error", 0.25)


def test_where_depths_count_the_best_is_good_at_all_of_them() -> None:
    deep, even = at_depths(0, 0.5, 0.1), at_depths(1, 0.3, 0.2)
    for names in (("depth_error", "flops"), ("depth_error",), ("depth_error", "error", "flops")):
        assert best_of([deep, even], names).number == 1  # type: ignore[arg-type]
    assert best_of([deep, even], ("error", "flops")).number == 0
    assert numbers(pareto_front([deep, even], ("depth_error", "flops"))) == [1]


def test_the_front_is_sorted_by_flops_then_error_then_number() -> None:
    trials = [trial(4, 0.1, 1, 30), trial(3, 0.1, 1, 30), trial(2, 0.5, 1, 10), trial(1, 0.2, 1, 40), UNFINISHED]
    assert numbers(pareto_front(trials, ("error", "flops"))) == [2, 3, 4]
    assert pareto_front([UNFINISHED], ("error", "flops")) == []
    # in parameters and error equals are kept, whatever their FLOPs, and come cheapest first
    assert numbers(pareto_front([trial(0, 0.1, 1, 50), trial(1, 0.1, 1, 20)], ("error", "params"))) == [1, 0]


def test_of_equal_error_the_lesser_cross_entropy_then_flops_then_number_is_most_accurate() -> None:
    trials = [
        trial(0, 0.2, 0, 1),
        trial(1, 0.1, 3, 10),
        trial(2, 0.1, 2, 30),
        trial(3, 0.1, 2, 20),
        trial(4, 0.1, 2, 20),
    ]
    assert most_accurate(trials, ("flops",)).number == 3
    assert most_accurate([*trials[::-1], UNFINISHED], ("cross_entropy", "flops")).number == 3


def test_with_error_as_objective_the_most_accurate_is_on_the_front() -> None:
    """The cheapest of those with the least error, though another has less cross-entropy."""
    trials = [trial(0, 0.1, 1.0, 30), trial(1, 0.1, 2.0, 20)]
    assert most_accurate(trials, ("error", "flops")).number == 1
    assert most_accurate(trials, ("cross_entropy", "flops")).number == 0


def test_the_best_is_a_finalist_if_there_are_any() -> None:
    def final(error: float, loss: float, flops: int) -> RetrainResult:
        return RetrainResult(
            arch=ARCH, flops=1 + flops, params=1, inherited_error=None, inherited_cross_entropy=None, error=error,
            cross_entropy=loss, test_error=0.0, test_cross_entropy=0.0, num_val_images=1, num_test_images=1,
            train_images=1, seconds=1.0,
        )  # fmt: skip

    trials = [trial(0, 0.1, 1, 10), *(trial(number, 0.3, 1, 99) for number in (1, 2, 3, 4, 5))]
    assert best_of(trials, ("error", "flops")).number == 0
    for one, found in zip(
        trials[1:], [(0.2, 9, 9), (0.2, 2, 30), (0.2, 2, 20), (0.2, 2, 20), (0.25, 1, 1)], strict=True
    ):
        one.finals["fine-tuned"] = final(*found)
    trials[0].finals["from scratch"] = final(0.0, 0, 0)
    assert best_of(trials[::-1], ("error", "flops")).number == 3
    for number, shallow in ((1, 0.5), (2, 0.4), (3, 0.4), (5, 0.3)):
        final_found = trials[number].finals["fine-tuned"]
        by_depth = {"error_by_depth": [shallow, final_found.error]}
        trials[number].finals["fine-tuned"] = final_found.model_copy(update=by_depth)
    del trials[4].finals["fine-tuned"]
    assert best_of(trials, ("depth_error", "flops")).number == 5
    assert best_of(trials, ("error", "flops")).number == 3


def test_the_most_accurate_is_kept_beside_a_front_without_it_and_once() -> None:
    trials = [trial(0, 0.5, 1, 10), trial(1, 0.1, 1, 30), UNFINISHED]
    assert numbers(archived(trials, ("flops",))) == [0, 1]
    assert numbers(archived(trials, ("error", "flops"))) == [0, 1]
    assert archived([UNFINISHED], ("flops",)) == []


def test_the_errors_of_a_finalist_are_means_over_depths_where_searches_compare_those() -> None:
    final = RetrainResult(
        arch=ARCH, flops=1, params=1, inherited_error=None, inherited_cross_entropy=None, error=0.25, cross_entropy=1.0,
        test_error=0.375, test_cross_entropy=1.0, num_val_images=1, num_test_images=1, train_images=1, seconds=1.0,
        error_by_depth=[0.75, 0.25], test_error_by_depth=[0.875, 0.375],
    )  # fmt: skip
    assert (final_error_of(final, ("error",)), final_test_error_of(final, ("error",))) == (0.25, 0.375)
    assert (final_error_of(final, ("depth_error",)), final_test_error_of(final, ("depth_error",))) == (0.5, 0.625)
    older = final.model_copy(update={"error_by_depth": [], "test_error_by_depth": []})
    assert (final_error_of(older, ("depth_error",)), final_test_error_of(older, ("depth_error",))) == (0.25, 0.375)
