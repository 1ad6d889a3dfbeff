from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, product
from math import inf

import numpy as np
import numpy.typing as npt
import pytest

from sret_nas.optimize.dynamic_program import AdditiveScore, Bounds, CostBuckets, ParetoDP, best_of_each
from sret_nas.space.chain import Chain, ChainStage, chain_of
from sret_nas.space.search_space import SearchSpace
from tests.counted_spaces import PATCHES, shipped

Floats = npt.NDArray[np.float64]
FREE: Bounds = [(0, inf), (0, inf)]


def three_stages(seed: int = 0, choices: tuple[int, ...] = (30, 24, 20), most: int = 1000) -> Chain:
    """Returns random costs and states; neighbours (0, 2) of the first two stages are not linked."""
    rng = np.random.default_rng(seed)
    stages = tuple(
        ChainStage(rng.integers(3, size=number), rng.integers(1, most, size=(number, 2)), (), np.zeros((number, 0)))
        for number in choices
    )
    links = tuple(
        {pair: (int(rng.integers(most)), int(rng.integers(most)))
         for pair in product(range(3), range(3)) if number > 0 or pair != (0, 2)}
        for number in range(len(choices) - 1)
    )  # fmt: skip
    return Chain(("flops", "params"), stages, links)


def bigger_is_better(costs: Floats) -> Floats:
    return -np.log(costs[:, 0]) - 0.5 * np.log(costs[:, 1])  # type: ignore[no-any-return]


def no_trend(costs: Floats) -> Floats:
    return np.zeros(len(costs))


def random_score(chain: Chain, seed: int, trend: Callable[[Floats], Floats] = bigger_is_better) -> AdditiveScore:
    rng = np.random.default_rng(seed)
    return AdditiveScore(
        stages=tuple(rng.normal(size=len(stage)) for stage in chain.stages),
        pairs=tuple(rng.normal(size=(len(first.states), len(second))) for first, second in pairwise(chain.stages)),
        trend=trend,
    )


def all_points(chain: Chain) -> npt.NDArray[np.int64]:
    points = np.indices([len(stage) for stage in chain.stages]).reshape(len(chain.stages), -1).T
    for number, links in enumerate(chain.links):
        pairs = zip(*(chain.stages[at].state[points[:, at]].tolist() for at in (number, number + 1)), strict=True)
        points = points[[pair in links for pair in pairs]]
    return points


def least_by_cost(chain: Chain, score: AdditiveScore, points: npt.NDArray[np.int64], axes: tuple[int, ...]) -> dict:  # type: ignore[type-arg]
    least: dict[tuple[int, ...], float] = {}
    for cost, value in zip(chain.costs(points)[:, axes].tolist(), score.of(chain, points).tolist(), strict=True):
        least[tuple(cost)] = min(value, least.get(tuple(cost), inf))
    return least


def test_a_score_is_its_terms_and_its_trend() -> None:
    first = ChainStage(np.array([8, 4]), np.array([[1, 1], [2, 2]]), (), np.zeros((2, 0)))
    second = ChainStage(np.array([5, 5, 5]), np.array([[10, 0], [20, 0], [30, 0]]), (), np.zeros((3, 0)))
    chain = Chain(("flops", "params"), (first, second), ({(8, 5): (100, 0), (4, 5): (200, 0)},))
    # States in sorted order: the first row of pairs is for state 4, which is choice 1.
    pairs = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    score = AdditiveScore((np.array([1.0, 2.0]), np.array([10.0, 20.0, 30.0])), (pairs,), lambda costs: costs[:, 0])
    points = np.array([[0, 0], [0, 2], [1, 1]])
    expected = [1 + 10 + 0.4 + 111, 1 + 30 + 0.6 + 131, 2 + 20 + 0.2 + 222]
    assert score.of(chain, points).tolist() == pytest.approx(expected)
    assert score.of(chain, points[:0]).tolist() == []


class TestResolution:
    COSTS = np.array([[100, 7], [101, 7], [104, 9], [200, 7], [100, 7]])

    def test_each_cost_its_own(self) -> None:
        assert groups(CostBuckets((0, 1), (0.0, 0.0)).buckets(self.COSTS)) == [[0, 4], [1], [2], [3]]

    def test_one_axis(self) -> None:
        assert groups(CostBuckets((1,), (0.0,)).buckets(self.COSTS)) == [[0, 1, 3, 4], [2]]

    @pytest.mark.parametrize("width", [0.01, 0.05, 1.0])
    def test_costs_of_a_bucket_are_no_further_apart_than_its_width(self, width: float) -> None:
        costs = np.arange(1, 5000)[:, None]
        bucket = CostBuckets((0,), (width,)).buckets(costs)
        for members in groups(bucket):
            assert costs[members].max() / costs[members].min() <= (1 + width) * (1 + 1e-9)
        assert len(np.unique(bucket)) <= np.log(5000) / np.log1p(width) + 1


def groups(bucket: npt.NDArray[np.int64]) -> list[list[int]]:
    return sorted(np.flatnonzero(bucket == number).tolist() for number in np.unique(bucket))


def test_best_of_each() -> None:
    bucket, score = np.array([5, 2, 5, 2, 9]), np.array([3.0, 1.0, 2.0, 1.0, inf])
    assert sorted(best_of_each(bucket, score).tolist()) == [1, 2, 4]
    assert best_of_each(bucket[:0], score[:0]).tolist() == []


CHAINS = {
    "smoke": chain_of(SearchSpace.load("smoke")),
    "variants": chain_of(PATCHES),
    "three stages": three_stages(),
    "few costs": three_stages(1, most=4),
    "one stage": three_stages(2, (200,)),
    "four stages": three_stages(3, (8, 9, 10, 8)),
}


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("trend", [no_trend, bigger_is_better])
class TestBestNetworks:
    def test_exact_at_every_cost_with_a_bucket_each(self, name: str, trend: Callable[[Floats], Floats]) -> None:
        chain = CHAINS[name]
        score, points = random_score(chain, 0, trend), all_points(chain)
        low, high = np.quantile(chain.costs(points), [0.2, 0.7], axis=0)
        for bounds in (FREE, list(zip(low.tolist(), high.tolist(), strict=True)), [(0, high[0]), (low[1], inf)]):
            found = ParetoDP(chain, bounds, CostBuckets((0, 1), (0.0, 0.0))).find(score)
            inside = points[is_inside(chain, points, bounds)]
            expected = least_by_cost(chain, score, inside, (0, 1))
            assert least_by_cost(chain, score, found, (0, 1)) == pytest.approx(expected)

    def test_one_cost_alone_without_a_trend(self, name: str, trend: Callable[[Floats], Floats]) -> None:
        chain = CHAINS[name]
        score = random_score(chain, 1, lambda costs: trend(np.column_stack([costs[:, 0], costs[:, 0]])))
        found = ParetoDP(chain, FREE, CostBuckets((0,), (0.0,))).find(score)
        expected = least_by_cost(chain, score, all_points(chain), (0,))
        assert least_by_cost(chain, score, found, (0,)) == pytest.approx(expected)

    def test_answers_are_networks_inside_the_bounds(self, name: str, trend: Callable[[Floats], Floats]) -> None:
        chain = CHAINS[name]
        score, points = random_score(chain, 2, trend), all_points(chain)
        low, high = np.quantile(chain.costs(points), [0.3, 0.6], axis=0, method="nearest")
        bounds = list(zip(low.tolist(), high.tolist(), strict=True))
        found = ParetoDP(chain, bounds, CostBuckets((0, 1), (0.1, 0.1))).find(score)
        assert set(map(tuple, found.tolist())) <= set(map(tuple, points[is_inside(chain, points, bounds)].tolist()))


@pytest.mark.parametrize("offset", [0.0, 0.3, 0.5])
@pytest.mark.parametrize("bounds", [FREE, [(0, 2000), (300, inf)]], ids=["free", "bounded"])
def test_every_bucket_has_its_best_network_wherever_buckets_begin(bounds: Bounds, offset: float) -> None:
    chain, buckets = three_stages(4, (20, 20)), CostBuckets((0,), (0.5,))
    score = random_score(chain, 0, no_trend)

    def least(points: npt.NDArray[np.int64]) -> dict[int, float]:
        codes, values = buckets.buckets(chain.costs(points), offset), score.of(chain, points)
        return {code: float(values[codes == code].min()) for code in np.unique(codes).tolist()}

    points = all_points(chain)
    expected = least(points[is_inside(chain, points, bounds)])
    assert len(expected) >= 4
    assert least(ParetoDP(chain, bounds, buckets).find(score, offset)) == pytest.approx(expected)


def is_inside(chain: Chain, points: npt.NDArray[np.int64], bounds: Bounds) -> npt.NDArray[np.bool_]:
    low, high = np.array(bounds).T
    costs = chain.costs(points)
    mask: npt.NDArray[np.bool_] = ((costs >= low) & (costs <= high)).all(axis=1)
    return mask


def test_bounds_that_hold_nothing() -> None:
    chain = three_stages()
    for bounds in ([(0, 1), (0, inf)], [(inf, inf), (0, inf)], [(500, 400), (0, inf)]):
        assert ParetoDP(chain, bounds, CostBuckets((0,), (0.05,))).find(random_score(chain, 0)).shape == (0, 3)


def test_finer_buckets_find_better_networks() -> None:
    """Finer buckets find lower scores in a space of 1.4e12 networks."""
    chain = chain_of(shipped("sret_tiny"))
    score = random_score(chain, 3, lambda costs: np.abs(np.log(costs[:, 0] / 1e9)))
    least = []
    for width in (0.3, 0.01):
        found = ParetoDP(chain, FREE, CostBuckets((0,), (width,))).find(score)
        assert len(np.unique(CostBuckets((0,), (width,)).buckets(chain.costs(found)))) >= 10
        least.append(float(score.of(chain, found).min()))
    assert least[1] <= least[0]


@pytest.mark.slow
def test_buckets_grow_until_prefixes_are_few_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Narrow buckets of two costs would otherwise exhaust the memory; results stay inside the bounds."""
    chain = chain_of(shipped("sret_tiny"))
    rng = np.random.default_rng(0)
    score = AdditiveScore(
        tuple(rng.normal(size=len(stage)) for stage in chain.stages),
        tuple(np.zeros((len(before.states), len(after))) for before, after in pairwise(chain.stages)),
        lambda costs: np.zeros(len(costs)),
    )
    bounds = ((500e6, 1e9), (0, 3e6))
    narrow = CostBuckets((0, 1), (0.01, 0.01))
    many = ParetoDP(chain, bounds, narrow).find(score)
    monkeypatch.setattr("sret_nas.optimize.dynamic_program.MAX_PREFIXES", 50)
    few = ParetoDP(chain, bounds, narrow).find(score)
    assert len(many) > 50 * 4 >= len(few) > 0  # the last stage has four states
    costs = chain.costs(few)
    assert ((costs >= [500e6, 0]) & (costs <= [1e9, 3e6])).all()
