"""Exact optima against full enumeration."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import cycle, pairwise, product
from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sret_nas.errors import UserError
from sret_nas.optimize import incumbents, meet_in_the_middle
from sret_nas.optimize.branch_and_bound import ProvenOptima
from sret_nas.optimize.dynamic_program import AdditiveScore, Bounds, CostBuckets, ParetoDP
from sret_nas.pareto import non_dominated
from sret_nas.space.chain import Chain, ChainStage, chain_of
from sret_nas.space.search_space import SearchSpace
from tests.counted_spaces import HEADS, RESIDUALS, shipped

FREE: Bounds = [(0, inf), (0, inf)]
OBJECTIVES = [("flops",), ("params",), ("flops", "params"), ("params", "flops")]


def random_chain(seed: int, choices: tuple[int, ...], states: int = 2, most: int = 10**6, linked: float = 1.0) -> Chain:
    """Returns a chain of random costs up to `most` and random states, with a share `linked` of all links."""
    rng = np.random.default_rng(seed)
    stages = tuple(
        ChainStage(
            state=rng.integers(states, size=number) * 8,
            costs=rng.integers(1, most + 1, size=(number, 2)),
            attributes=("choice",),
            levels=np.arange(number)[:, None],
        )
        for number in choices
    )
    links = tuple(
        {
            pair: (int(rng.integers(most)), int(rng.integers(most)))
            for pair in product(np.unique(first.state).tolist(), np.unique(second.state).tolist())
            if rng.random() < linked
        }
        for first, second in pairwise(stages)
    )
    return Chain(("flops", "params"), stages, links)


STAGE: dict[str, Any] = {
    "width": [8], "heads": [2], "blocks": [1], "recursions": [1], "loop": ["internal"], "groups": [[1]],
    "nll": ["none"], "nll_ratio": [1.0], "mlp_ratio": [1.0],
}  # fmt: skip


def small_space() -> SearchSpace:
    stages = (
        {"width": [8, 12], "heads": [2, 4], "blocks": [1, 2], "recursions": [1, 2], "groups": [[2, 1], [1]]},
        {"width": [12, 16], "heads": [4], "recursions": [1, 2, 3], "groups": [[4], [1]], "nll": ["every", "none"]},
        {"width": [16, 24], "heads": [4], "mlp_ratio": [1.0, 2.0, 3.0], "recursions": [1, 2]},
    )
    data = {"name": "small", "image_size": 32, "classes": 10, "stages": [STAGE | stage for stage in stages]}
    return SearchSpace.from_dict(data | {"stem": {"width": [4, 6]}})


CHAINS: dict[str, Callable[[], Chain]] = {
    "smoke": lambda: chain_of(SearchSpace.load("smoke")),
    "three stages, two stems": lambda: chain_of(small_space()),
    "all residuals": lambda: chain_of(RESIDUALS),
    "all heads": lambda: chain_of(HEADS),
    "one stage": lambda: random_chain(0, (700,)),
    "two stages": lambda: random_chain(1, (300, 40)),
    "three stages": lambda: random_chain(2, (24, 30, 24), states=3),
    "five stages, links missing": lambda: random_chain(3, (7, 6, 5, 7, 8), linked=0.7),
    "few costs": lambda: random_chain(4, (30, 30, 20), most=5),
}


class Enumerated:
    """All points of a chain with their costs."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.optima = ProvenOptima(chain)
        points = np.indices([len(stage) for stage in chain.stages]).reshape(len(chain.stages), -1).T
        for number, links in enumerate(chain.links):
            before, after = (chain.stages[at].state[points[:, at]] for at in (number, number + 1))
            is_linked = np.zeros(len(points), dtype=bool)
            for first, second in links:
                is_linked |= (before == first) & (after == second)
            points = points[is_linked]
        self.points = points
        self.costs = chain.costs(points)

    def inside(self, bounds: Bounds) -> npt.NDArray[np.bool_]:
        low, high = np.array(bounds).T
        mask: npt.NDArray[np.bool_] = ((self.costs >= low) & (self.costs <= high)).all(axis=1)
        return mask

    def rows(
        self, scores: npt.NDArray[np.float64], bounds: Bounds, objectives: tuple[str, ...]
    ) -> npt.NDArray[np.float64]:
        """Returns the Pareto front as distinct sorted rows of the named costs and the score."""
        kept = self.inside(bounds)
        axes = [self.chain.cost_names.index(name) for name in objectives]
        rows = np.column_stack([self.costs[kept][:, axes], scores[kept]])
        # The best of every cost first, which leaves few enough to compare with each other.
        rows = rows[np.lexsort(rows.T[::-1])]
        rows = rows[np.append(True, (np.diff(rows[:, :-1], axis=0) != 0).any(axis=1))[: len(rows)]]
        return rows[non_dominated(rows)]


@cache
def enumerated(name: str) -> Enumerated:
    return Enumerated(CHAINS[name]())


@pytest.fixture(params=CHAINS)
def everything(request: pytest.FixtureRequest) -> Enumerated:
    return enumerated(request.param)


def log_trend(flops: float, params: float) -> Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]:
    return lambda costs: flops * np.log(costs[:, 0]) + params * np.log(costs[:, 1])


def no_trend(costs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.zeros(len(costs))


def random_score(chain: Chain, seed: int, trend: Any = no_trend, levels: int | None = None) -> AdditiveScore:
    """Returns a score of normal terms, or of integers from `levels`, with which many scores are exactly equal."""
    rng = np.random.default_rng(seed)

    def terms(*shape: int) -> npt.NDArray[np.float64]:
        return rng.normal(size=shape) if levels is None else rng.integers(levels, size=shape).astype(float)

    return AdditiveScore(
        stages=tuple(terms(len(stage)) for stage in chain.stages),
        pairs=tuple(terms(len(first.states), len(second)) for first, second in pairwise(chain.stages)),
        trend=trend,
    )


def windows(everything: Enumerated) -> list[Bounds]:
    """Returns windows of every form between costs that occur, down to one network and to none."""
    (f0, f1, f2), (p0, p1, p2) = (np.quantile(costs, [0.2, 0.4, 0.6], method="nearest") for costs in everything.costs.T)
    one = everything.costs[len(everything.costs) // 3]
    return [
        FREE, [(0, f1), (0, inf)], [(f1, inf), (-inf, inf)], [(0, inf), (p0, p2)], [(f0, f2), (p0, p2)],
        [(f1, inf), (0, p1)], [(f1, f1), (0, inf)], [(float(one[0]),) * 2, (float(one[1]),) * 2],
        [(f1 + 0.25, f1 + 0.75), (0, inf)], [(0, 0), (0, inf)], [(f2, f0), (0, inf)], [(inf, inf), (0, inf)],
    ]  # fmt: skip


SCORES: dict[str, Callable[[Chain], AdditiveScore]] = {
    "terms": lambda chain: random_score(chain, 0),
    "bigger is better": lambda chain: random_score(chain, 1, log_trend(-1.0, -0.5)),
    "bigger is worse in one cost": lambda chain: random_score(chain, 2, log_trend(-2.0, 0.5)),
    "ties": lambda chain: random_score(chain, 3, levels=2),
    "all equal": lambda chain: random_score(chain, 4, levels=1),
}


@pytest.mark.parametrize("name", SCORES)
class TestAgainstEnumeration:
    def test_best(self, everything: Enumerated, name: str) -> None:
        chain, score = everything.chain, SCORES[name](everything.chain)
        scores = score.of(chain, everything.points)
        for bounds, k in zip(windows(everything), cycle((1, 40, 3, 2, 40)), strict=False):
            expected = np.sort(scores[everything.inside(bounds)])[:k]
            points = everything.optima.best(score, bounds, k)
            np.testing.assert_allclose(score.of(chain, points), expected, rtol=1e-12, atol=1e-12)
            assert len(np.unique(points, axis=0)) == len(points)
            assert inside(chain, points, bounds)

    @pytest.mark.parametrize("objectives", [*OBJECTIVES[:2], pytest.param(OBJECTIVES[2], marks=pytest.mark.slow)])
    def test_front(self, everything: Enumerated, name: str, objectives: tuple[str, ...]) -> None:
        chain, score = everything.chain, SCORES[name](everything.chain)
        scores = score.of(chain, everything.points)
        axes = [chain.cost_names.index(cost) for cost in objectives]
        for bounds in windows(everything):
            points = everything.optima.front(score, bounds, objectives)
            rows = np.column_stack([chain.costs(points)[:, axes], score.of(chain, points)])
            expected = everything.rows(scores, bounds, objectives)
            np.testing.assert_allclose(rows, expected, rtol=1e-12, atol=1e-12)
            assert inside(chain, points, bounds)


def inside(chain: Chain, points: npt.NDArray[np.int64], bounds: Bounds) -> bool:
    low, high = np.array(bounds).T
    costs = chain.costs(points)
    return bool(((costs >= low) & (costs <= high)).all())


def test_the_enumerations_are_not_trivial() -> None:
    assert {name: len(enumerated(name).points) for name in ("smoke", "three stages", "few costs")} == {
        "smoke": 12, "three stages": 17_280, "few costs": 18_000}  # fmt: skip
    three = enumerated("three stages")
    numbers = [int(three.inside(bounds).sum()) for bounds in windows(three)]
    assert min(numbers[:6]) > 1000
    assert numbers[6:] == [1, 1, 0, 0, 0, 0]


@pytest.mark.slow
def test_a_space_of_a_million_networks() -> None:
    everything = Enumerated(chain_of(shipped("paper_ablations")))
    assert len(everything.points) == 1_185_600
    chain, score = everything.chain, random_score(everything.chain, 5, log_trend(-3.0, -1.0))
    scores = score.of(chain, everything.points)
    for bounds in (FREE, [(6e8, 8e8), (4e6, 5e6)]):
        points = everything.optima.best(score, bounds, 300)
        expected = np.sort(scores[everything.inside(bounds)])[:300]
        np.testing.assert_allclose(score.of(chain, points), expected, rtol=1e-12)
        points = everything.optima.front(score, bounds, ("flops",))
        rows = np.column_stack([chain.costs(points)[:, 0], score.of(chain, points)])
        np.testing.assert_allclose(rows, everything.rows(scores, bounds, ("flops",)), rtol=1e-12)


@pytest.mark.parametrize("name", ["smoke", "three stages, two stems", "few costs"])
def test_buckets_of_one_cost_each_find_the_same(name: str) -> None:
    everything = enumerated(name)
    chain, score = everything.chain, random_score(everything.chain, 6, log_trend(-1.0, -1.0))
    for bounds in windows(everything)[:6]:
        found = ParetoDP(chain, bounds, CostBuckets((0, 1), (0.0, 0.0))).find(score)
        found = found[np.argsort(score.of(chain, found))]
        np.testing.assert_allclose(
            score.of(chain, everything.optima.best(score, bounds, 1)), score.of(chain, found)[:1], rtol=1e-12
        )
        rows = np.column_stack([chain.costs(found), score.of(chain, found)])
        points = everything.optima.front(score, bounds, ("flops", "params"))
        front = np.column_stack([chain.costs(points), score.of(chain, points)])
        np.testing.assert_allclose(front, np.unique(rows[non_dominated(rows)], axis=0), rtol=1e-12)


@pytest.mark.slow
@given(
    seed=st.integers(0, 2**32 - 1), choices=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    states=st.integers(1, 3), most=st.sampled_from([1, 3, 50]), linked=st.sampled_from([0.4, 1.0]),
    levels=st.sampled_from([1, 3, 1000]), slope=st.sampled_from([-1, 0, 2]), k=st.sampled_from([1, 3, 10**6]),
    objectives=st.sampled_from(OBJECTIVES), share=st.floats(0.1, 1.0),
)  # fmt: skip
@settings(max_examples=150)
def test_any_small_chain_exactly(
    seed: int, choices: list[int], states: int, most: int, linked: float, levels: int, slope: int, k: int,
    objectives: tuple[str, ...], share: float,
) -> None:  # fmt: skip
    chain = random_chain(seed, tuple(choices), states, most, linked)
    everything = Enumerated(chain)
    score = random_score(chain, seed, lambda costs: slope * costs[:, 0] - costs[:, 1], levels)
    bounds = FREE
    if len(everything.points):
        low, high = np.quantile(everything.costs, [(1 - share) / 2, (1 + share) / 2], axis=0, method="nearest")
        bounds = list(zip(low.tolist(), high.tolist(), strict=True))
    scores = score.of(chain, everything.points)
    points = everything.optima.best(score, bounds, k)
    assert score.of(chain, points).tolist() == np.sort(scores[everything.inside(bounds)])[:k].tolist()
    assert len(set(map(tuple, points.tolist()))) == len(points)
    points = everything.optima.front(score, bounds, objectives)
    axes = [chain.cost_names.index(name) for name in objectives]
    rows = np.column_stack([chain.costs(points)[:, axes], score.of(chain, points)])
    assert rows.tolist() == everything.rows(scores, bounds, objectives).tolist()


def test_more_wanted_than_there_are() -> None:
    everything = enumerated("smoke")
    score = random_score(everything.chain, 0)
    points = everything.optima.best(score, FREE, 1000)
    assert set(map(tuple, points.tolist())) == set(map(tuple, everything.points.tolist()))


def test_one_cost_is_enough() -> None:
    stage = ChainStage(np.array([0, 0, 0]), np.array([[5], [3], [4]]), ("choice",), np.arange(3)[:, None])
    chain = Chain(("flops",), (stage,), ())
    score = AdditiveScore((np.array([1.0, 2.0, 7.0]),), (), lambda costs: np.zeros(len(costs)))
    assert ProvenOptima(chain).best(score, [(0, inf)], 2).tolist() == [[0], [1]]
    assert ProvenOptima(chain).front(score, [(0, inf)], ("flops",)).tolist() == [[1], [0]]


class TestRefusals:
    CHAIN = random_chain(7, (20, 20))

    @pytest.mark.parametrize("cost", [0, 1])
    def test_a_trend_that_rises_and_falls(self, cost: int) -> None:
        score = random_score(self.CHAIN, 0, lambda costs: (costs[:, cost] - 1e6) ** 2)
        with pytest.raises(ValueError, match=f"rises and falls in {self.CHAIN.cost_names[cost]}"):
            ProvenOptima(self.CHAIN).best(score, FREE, 1)
        # Above its turn it only rises.
        above = [(2e6, inf) if axis == cost else (0, inf) for axis in range(2)]
        assert len(ProvenOptima(self.CHAIN).best(score, above, 1)) == 1

    def test_what_is_not_finite(self) -> None:
        with pytest.raises(ValueError, match="trend must be finite"):
            ProvenOptima(self.CHAIN).best(
                random_score(self.CHAIN, 0, lambda costs: np.full(len(costs), np.nan)), FREE, 1
            )
        score = random_score(self.CHAIN, 0)
        score.pairs[0][1, 3] = inf
        with pytest.raises(ValueError, match="terms of a score must be finite"):
            ProvenOptima(self.CHAIN).front(score, FREE, ("flops",))

    def test_no_network_wanted(self) -> None:
        with pytest.raises(ValueError, match="k must be at least 1, got 0"):
            ProvenOptima(self.CHAIN).best(random_score(self.CHAIN, 0), FREE, 0)

    @pytest.mark.parametrize("objectives", [(), ("latency",), ("flops", "flops")])
    def test_other_objectives(self, objectives: tuple[str, ...]) -> None:
        with pytest.raises(ValueError, match="one or two of"):
            ProvenOptima(self.CHAIN).front(random_score(self.CHAIN, 0), FREE, objectives)

    def test_a_chain_that_is_too_rich(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(meet_in_the_middle, "MAX_PATHS", 1000)
        # The cheapest cut is after stage 2: 20 * 20 paths before it, 20 * 31 after it for each of two states.
        chain = random_chain(8, (20, 20, 20, 31))
        right = 20 * 31 * len(chain.stages[1].states)
        with pytest.raises(UserError, match=rf"at most 1,000 .* this space has {400 + right:,}; list fewer values"):
            ProvenOptima(chain).best(random_score(chain, 0), FREE, 1)

    def test_a_front_that_is_too_large(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(incumbents, "MAX_FRONT", 100)
        everything = enumerated("two stages")
        score = random_score(everything.chain, 0, lambda costs: -costs[:, 0])
        with pytest.raises(UserError, match=r"at most 100 networks, this one has more: .* narrow the bounds"):
            everything.optima.front(score, FREE, ("flops",))
