"""What is kept up to date trial by trial is what a look at all trials finds."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from sret_nas.space.search_space import SearchSpace
from trials.engines.results import Failure, TargetCost, TrialResult
from trials.runs.objectives import Objective, archived, error_of
from trials.runs.pareto_archive import ParetoArchive
from trials.runs.trial import Trial
from trials.strategies.strategy import Candidate

SPACE = SearchSpace.load("smoke")
OBJECTIVES: list[tuple[Objective, ...]] = [
    ("error", "flops"), ("error",), ("flops", "params"), ("cross_entropy", "flops"), ("error", "flops", "params"),
    ("error", "latency"), ("depth_error", "flops"), ("depth_error", "error"), ("flops", "latency"),
]  # fmt: skip


@cache
def random_trials(number: int, levels: int, seed: int) -> list[Trial]:
    """Returns trials that tests share and must not change.

    So few levels of every value that many trials are equal in some or all of them; one in ten has failed.
    """
    rng = np.random.default_rng(seed)
    arch = SPACE.network([0] * len(SPACE.stage_tables))
    trials = []
    for position in rng.permutation(number).tolist():
        trial = Trial(position, Candidate(arch, "full"))
        error, loss, flops, params, latency = (int(level) for level in rng.integers(1, levels + 1, 5))
        if rng.random() < 0.1:
            trial.failure = Failure(cause="diverged", message="")
        else:
            target = TargetCost(flops=flops, params=params, image_size=32, classes=10, latency_us=latency)
            trial.result = TrialResult(
                error=error / 100, cross_entropy=loss / 100, error_by_depth=[loss / 100, error / 100],
                train_loss=1.0, train_steps=1, train_images=1, train_seconds=1.0, seconds=1.0, target=target,
                proxy=target, proxy_arch=arch, device="cpu", peak_memory_mb=1.0,
            )  # fmt: skip
        trials.append(trial)
    return trials


@pytest.mark.parametrize("objectives", OBJECTIVES, ids="-".join)
@pytest.mark.parametrize("levels", [3, 50])
def test_it_is_what_a_look_at_all_trials_finds(objectives: tuple[Objective, ...], levels: int) -> None:
    for seed in range(3):
        so_far, known = ParetoArchive(objectives), list[Trial]()
        kept: set[int] = set()
        for trial in random_trials(24, levels, seed):
            known.append(trial)
            dominated = [one.number for one in so_far.add(trial)]
            expected = [one.number for one in archived(known, objectives)]
            assert [one.number for one in so_far.archived] == expected
            assert [one.number for one in known if one.number in so_far] == [
                one.number for one in known if one.number in expected
            ]
            # told once of each that is kept no longer
            assert len(dominated) == len(set(dominated))
            assert (kept | {trial.number}) - set(dominated) == set(expected)
            kept = set(expected)
            errors = (error_of(one.result, objectives) for one in known if one.result)
            assert so_far.best_error == min(errors, default=None)


def test_of_trials_that_were_added_it_keeps_the_front_and_of_none_nothing() -> None:
    objectives: tuple[Objective, ...] = ("error", "flops", "params")
    trials = random_trials(80, 20, 5)
    whole = ParetoArchive(objectives)
    for trial in trials:
        whole.add(trial)
    assert whole.archived == archived(trials, objectives)
    assert len(whole.archived) > 2
    assert ParetoArchive(objectives).archived == []
    assert ParetoArchive(objectives).best_error is None
