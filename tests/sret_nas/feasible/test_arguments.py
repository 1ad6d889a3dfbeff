"""What a feasible set is not made of, and what cannot draw from it."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from sret_nas import Budget, FeasibleSet, SearchSpace, UserError

SMOKE = SearchSpace.load("smoke")
SET = FeasibleSet(SMOKE, Budget())


@pytest.mark.parametrize("space", ["smoke", None, SMOKE.to_dict()])
def test_what_is_no_space(space: Any) -> None:
    with pytest.raises(UserError, match=r"^the space must be a SearchSpace, got .*: SearchSpace\.load reads one$"):
        FeasibleSet(space, Budget())


@pytest.mark.parametrize("budget", [None, 10**9, "1G", {"flops_max": 10**9}])
def test_what_is_no_budget(budget: Any) -> None:
    with pytest.raises(UserError, match=r"^the budget must be a Budget, such as Budget\(flops_max=10\*\*9\), got "):
        FeasibleSet(SMOKE, budget)


@pytest.mark.parametrize("name", ["FLOPs", "parameters", "latency", None])
def test_an_unknown_cost_is_not_taken_for_another_one(name: Any) -> None:
    for extreme in (SET.cheapest, SET.most_expensive):
        with pytest.raises(UserError, match=r"^the cost must be flops or params, got "):
            extreme(name)


@pytest.mark.parametrize("rng", [0, None, random.Random(0), np.random.RandomState(0)])
def test_what_cannot_draw(rng: Any) -> None:
    with pytest.raises(UserError, match=r"^draws need a generator, such as numpy\.random\.default_rng\(0\), got "):
        SET.sample(rng)


@pytest.mark.parametrize("number", [-1, 3.0, "3", None])
def test_an_impossible_number_of_draws(number: Any) -> None:
    with pytest.raises(UserError, match=r"^the number of draws must be a whole number of at least 0, got "):
        SET.sample_many(np.random.default_rng(0), number)


def test_no_draws_are_none() -> None:
    assert SET.sample_many(np.random.default_rng(0), 0) == []


def test_numbers_of_numpy_are_numbers() -> None:
    assert len(SET.sample_many(np.random.default_rng(0), np.int64(3))) == 3  # type: ignore[arg-type]


def test_a_bound_of_floats_is_a_bound() -> None:
    """A window between two networks, whose nearest one is found by exact fractions."""
    low, high = sorted({network.flops for network in (SET.cheapest(), SET.most_expensive())})
    with pytest.raises(UserError, match=r"^no network of smoke"):
        FeasibleSet(SMOKE, Budget(flops_min=float(high + 1), flops_max=float(high + 2))).check()
    assert FeasibleSet(SMOKE, Budget(flops_max=float(low))).count == FeasibleSet(SMOKE, Budget(flops_max=low)).count


def test_a_budget_missed_by_little_is_not_missed_by_once() -> None:
    most = SET.most_expensive().flops
    with pytest.raises(UserError, match=r"\(the minimum of .* is 1\.0\d+ times that\)"):
        FeasibleSet(SMOKE, Budget(flops_min=most + most // 10**5)).check()
