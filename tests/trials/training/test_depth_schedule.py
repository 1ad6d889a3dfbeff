"""Mixed-depth schedules against their definitions."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from trials.training.depth_schedule import depths_of_step, mean_depth_counts


def test_full_is_always_the_full_depth() -> None:
    assert [depths_of_step("full", 3, p / 10, random.Random(0)) for p in range(10)] == [(3,)] * 10


def test_joint_is_every_depth_deepest_last() -> None:
    assert depths_of_step("joint", 4, 0.5, random.Random(0)) == (1, 2, 3, 4)


def test_sandwich_is_both_ends_and_one_between() -> None:
    rng = random.Random(0)
    drawn = Counter(depths_of_step("sandwich", 4, 0.0, rng) for _ in range(300))
    assert set(drawn) == {(1, 2, 4), (1, 3, 4)}
    assert min(drawn.values()) > 100  # both are equally likely: 150 +- 9 each


def test_sandwich_of_two_has_nothing_between() -> None:
    assert depths_of_step("sandwich", 2, 0.0, random.Random(0)) == (1, 2)


def test_random_draws_every_depth_equally_often() -> None:
    rng = random.Random(0)
    drawn = Counter(depths_of_step("random", 3, 0.9, rng) for _ in range(3000))
    assert set(drawn) == {(1,), (2,), (3,)}
    assert max(abs(count - 1000) for count in drawn.values()) < 120  # 4.6 standard deviations


@pytest.mark.parametrize(
    ("progress", "depth"), [(0.0, 1), (0.22, 1), (0.23, 2), (0.44, 2), (0.45, 3), (0.67, 3), (0.999, 3)]
)
def test_growing_reaches_the_full_depth_after_two_thirds(progress: float, depth: int) -> None:
    assert depths_of_step("growing", 3, progress, random.Random(0)) == (depth,)


@pytest.mark.parametrize("schedule", ["full", "joint", "sandwich", "random", "growing"])
def test_one_recursion_has_one_depth(schedule: str) -> None:
    assert depths_of_step(schedule, 1, 0.3, random.Random(0)) == (1,)  # type: ignore[arg-type]


@pytest.mark.parametrize("schedule", ["full", "joint", "sandwich", "random", "growing"])
@pytest.mark.parametrize("deepest", [1, 2, 3, 4])
def test_mean_counts_are_those_of_the_steps(schedule: str, deepest: int) -> None:
    steps, rng = 6000, random.Random(0)
    counted = Counter(
        depth
        for step in range(steps)
        for depth in depths_of_step(schedule, deepest, step / steps, rng)  # type: ignore[arg-type]
    )
    expected = mean_depth_counts(schedule, deepest)  # type: ignore[arg-type]
    assert set(counted) == set(expected)
    for depth, number in expected.items():
        assert counted[depth] / steps == pytest.approx(number, abs=0.03)
