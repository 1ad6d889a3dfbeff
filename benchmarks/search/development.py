"""Made-up problems on which the settings of `additive` are chosen. None of them is reported in the documentation.

    python -m benchmarks.search.development [--strategies additive] [--problems NAME ...] [--seeds 4]

Five are tables of 10,000 to 20,000 networks, whose front is known:

- `nk-1`, `nk-2`: after Kauffman's NK model. Every attribute contributes a random value, which depends on its own level
  and on those of one or two others. A trend in cost and single effects are added.
- `nk-steep`: the exponential of such a sum, so that few networks are good and many are far worse.
- `nk-noisy`: `nk-1`, told with noise of 2 %.
- `ordered`: attributes with an optimum in the middle that shifts with the level of another attribute.

Eight have what other public tables have. Bounds of all but the last hold the whole front, the cheap end too:

- `cells`: small cells of five operations, as in NAS-Bench-201. Where no path is left, a network fails with an error of
  90 %.
- `cells-noisy`: the same, told with noise of 2 %.
- `power`: error falls with a power of the cost, so that cheap networks are far worse than others.
- `plateau`: only few levels of an attribute matter, and errors are measured in steps of half a point.
- `test-set`, `test-set-2`, `test-set-3`: 100 networks, a tenth of them worse than the others, the cheapest most. What
  is measured is a count of errors in 2,000 images: there are ties, and much of the variance beyond cost is chance.
- `window`: the networks of `ordered` of nearly equal cost.

Five have kinds that the others lack:

- `sizes`: five widths of eight levels. Error saturates with each, and a width that is larger than the next is wasted.
- `macro`: eight layers of three operations. Error falls with the logarithm of what the layers do together.
- `ranks`: what is told of a network is its rank in the space.
- `large-window`, `large-noise`: `large` at nearly equal cost, and told with noise of 2 %.

Families of tables (`layered-0` to `layered-19`, `made-sret-0` and so on, `test-sets-0` and so on) run if they are
named; see `benchmarks.search.families`.

`small` has 120 networks with noise in what is measured of each. `large` is a space of GPTs of other sizes than
HW-GPT's, with effects that add up, products of neighbours, and a small random neural network on top. Its front is the
best of a long search.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np

from benchmarks.search.best_known import FrontSearch
from benchmarks.search.controls import Landscape
from benchmarks.search.families import FAMILIES, PER_FAMILY, standardised, whole_front
from benchmarks.search.gpt import GPT, GPTSpace
from benchmarks.search.gpt_domain import GPTDomain
from benchmarks.search.metrics import REFERENCE, front_of, regret
from benchmarks.search.problems import Bounds, Problem
from benchmarks.search.products import Choices, ProductDomain
from benchmarks.search.runs import ENTRIES, run_search
from sret_nas.arrays import FloatArray, IntArray
from sret_nas.pareto import hypervolume
from trials.strategies.table import TableDomain

LARGE = GPTSpace((128, 256, 512), (14, 15, 16), (4, 6, 8))


def _nk(
    sizes: tuple[int, ...], neighbours: int, ruggedness: float, seed: int, costs: IntArray | None = None
) -> tuple[ProductDomain, FloatArray]:
    """Returns a space, and the values of its networks: trend and single effects of variance one, and the NK part."""
    rng = np.random.default_rng(seed)
    of_levels = [np.sort(rng.integers(5, 100, size)) for size in sizes] if costs is None else list(costs)
    domain = ProductDomain([of_level.tolist() for of_level in of_levels])
    levels = domain.every
    logs = np.log(domain.chain.costs(levels)[:, 0])
    single = np.zeros(len(levels))
    for at, size in enumerate(sizes):
        single += rng.normal(size=size)[levels[:, at]]
    rugged = np.zeros(len(levels))
    for at, size in enumerate(sizes):
        others = rng.choice([other for other in range(len(sizes)) if other != at], neighbours, replace=False)
        table = rng.normal(size=(size, *(sizes[other] for other in others)))
        rugged += table[levels[:, at], *(levels[:, other] for other in others)]
    value = -standardised(logs) + 0.7 * standardised(single) + ruggedness * standardised(rugged)
    return domain, value


def _table(name: str, domain: ProductDomain, values: FloatArray, noise: float = 0.0) -> Problem:
    by_key = {tuple(levels): value for levels, value in zip(domain.every.tolist(), values.tolist(), strict=True)}
    costs = domain.chain.costs(domain.every)[:, 0]

    def value(candidate: Choices) -> float:
        return by_key[candidate.levels]

    value_box = float(values.min()), float(np.quantile(values, 0.75))
    bounds = Bounds(value_box, (int(costs.min()), int(costs.max())), log_cost=True)
    table = TableDomain(domain, list(domain))
    return Problem(name, name, table, ("error", "cost"), value, bounds, noise=noise)


def _nk_one(name: str, noise: float = 0.0) -> Problem:
    domain, value = _nk((3,) * 9, 1, 0.8, seed=1)
    return _table(name, domain, 20 + 3 * value, noise)


def _nk_two() -> Problem:
    return _table("nk-2", *_nk((5,) * 6, 2, 1.2, seed=2))


def _steep() -> Problem:
    domain, value = _nk((4,) * 7, 2, 0.8, seed=3)
    return _table("nk-steep", domain, 5 + np.exp(1.2 * value))


CELL_EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
CELL_OPERATIONS = ("none", "identity", "pooling", "small convolution", "large convolution")


def _cells(name: str, noise: float = 0.0) -> Problem:
    """Returns an operation on each edge between four nodes: what counts is what the paths from the first to the last
    do."""
    rng = np.random.default_rng(11)
    domain = ProductDomain([[1, 1, 1, 6, 18]] * len(CELL_EDGES))
    strength = np.array([0.0, 0.0, -0.3, 1.0, 1.35])
    quality, passes = np.zeros(len(domain.every)), np.zeros(len(domain.every))
    paths = [(3,), (0, 4), (1, 5), (0, 2, 5)]
    for path in paths:
        on_path = domain.every[:, list(path)]
        is_open = (on_path > 0).all(axis=1)
        quality += is_open * (np.sqrt(np.maximum(strength[on_path].sum(axis=1) + 0.4, 0)) + rng.normal(scale=0.1))
        passes += is_open
    interactions = np.zeros(len(domain.every))
    for one in range(len(CELL_EDGES)):
        other = (one + 2) % len(CELL_EDGES)
        interactions += rng.normal(size=(5, 5))[domain.every[:, one], domain.every[:, other]]
    error = 6 + 20 * np.exp(-0.8 * quality) + 0.4 * interactions + rng.normal(scale=0.15, size=len(quality))
    error = np.where(passes == 0, 90.0, error)
    return whole_front(replace(_table(name, domain, error), noise=noise))


def _power() -> Problem:
    domain, value = _nk((4,) * 6, 1, 0.4, seed=12)
    costs = domain.chain.costs(domain.every)[:, 0]
    rest = value + standardised(np.log(costs))
    return whole_front(_table("power", domain, 12 + 25 * (costs / costs.min()) ** -2.5 + 0.8 * rest))


def _plateau() -> Problem:
    domain, value = _nk((6,) * 5, 1, 0.6, seed=13)
    matters = np.maximum(domain.every, 3)
    positions = np.ravel_multi_index(tuple(matters.T), (6,) * 5)
    return whole_front(_table("plateau", domain, np.round((20 + 3 * value[positions]) / 0.5) * 0.5))


def _test_set(name: str, seed: int) -> Problem:
    """Returns 100 networks whose costs differ by two orders of magnitude, and of which the
    cheapest fail more or less."""
    rng = np.random.default_rng(seed)
    domain, value = _nk((4,) * 6, 1, 0.5, seed=seed, costs=rng.geometric(0.5, (6, 4)) * 4 ** np.arange(4))
    chosen = rng.choice(len(value), 100, replace=False)
    error = 16 + 0.6 * value[chosen]
    costs = domain.chain.costs(domain.every[chosen])[:, 0]
    cheap = np.argsort(costs)[:10]
    error[cheap] += np.sort(rng.exponential(3.0, len(cheap)))[::-1]
    measured = rng.binomial(2000, error / 100) / 20
    by_key = dict(zip(map(tuple, domain.every[chosen].tolist()), measured.tolist(), strict=True))
    members = [Choices(levels) for levels in by_key]
    bounds = Bounds((0.0, 1.0), (1, 2), log_cost=True)
    problem = Problem(
        name, name, TableDomain(domain, members), ("error", "cost"), lambda member: by_key[member.levels], bounds,
        checkpoints=(10, 20, 50),
    )  # fmt: skip
    return whole_front(problem)


def _window() -> Problem:
    problem = _ordered()
    members = list(problem.domain.members or ())
    costs = np.array([problem.cost(member) for member in members])
    low, high = np.median(costs) * 0.98, np.median(costs) * 1.02
    inside = [member for member, cost in zip(members, costs.tolist(), strict=True) if low <= cost <= high]
    values = [problem.value(member) for member in inside]
    bounds = Bounds((min(values), float(np.quantile(values, 0.1))), (int(low), int(high)), log_cost=True)
    return replace(problem, name="window", title="window", domain=TableDomain(problem.domain, inside), bounds=bounds)


def _small() -> Problem:
    """Returns 120 networks, half of whose variance beyond cost nothing explains, as where each was trained once."""
    domain, value = _nk((4,) * 6, 1, 0.5, seed=6)
    rng = np.random.default_rng(7)
    value = value + rng.normal(scale=0.8, size=len(value))
    chosen = rng.choice(len(value), 120, replace=False)
    problem = _table("small", domain, 20 + 3 * value)
    members = [Choices(tuple(domain.every[position].tolist())) for position in chosen]
    return replace(problem, domain=TableDomain(domain, members), checkpoints=(10, 20, 50))


def _sizes() -> Problem:
    rng = np.random.default_rng(21)
    widths = np.arange(1, 9)
    domain = ProductDomain([(widths**2 * scale).tolist() for scale in rng.integers(2, 12, 5)])
    share = domain.every / 7
    error = (rng.uniform(2, 6, 5) * np.exp(-rng.uniform(1, 3, 5) * share)).sum(axis=1)
    error += (rng.uniform(1, 3, 4) * np.maximum(share[:, :-1] - share[:, 1:], 0) ** 2).sum(axis=1)
    return whole_front(_table("sizes", domain, 25 + error + rng.normal(scale=0.15, size=len(error))))


def _macro() -> Problem:
    rng = np.random.default_rng(22)
    costs = [[1, 10 + 4 * at, 18 + 8 * at] for at in range(8)]
    domain = ProductDomain(costs)
    strength = np.column_stack([np.zeros(8), rng.uniform(0.5, 1.5, 8), rng.uniform(0.9, 2.2, 8)])
    done = 0.5 + strength[np.arange(8), domain.every].sum(axis=1)
    pairs = sum(rng.normal(size=(3, 3))[domain.every[:, at], domain.every[:, at + 1]] for at in range(7))
    return whole_front(_table("macro", domain, 30 - 8 * np.log(done) + 0.3 * standardised(np.asarray(pairs))))


def _ranks() -> Problem:
    domain, value = _nk((4,) * 7, 1, 0.7, seed=23)
    return _table("ranks", domain, np.argsort(np.argsort(value)).astype(float))


def _ordered() -> Problem:
    rng = np.random.default_rng(4)
    sizes = (6, 6, 5, 4, 4, 4)
    domain = ProductDomain([np.sort(rng.integers(5, 100, size)).tolist() for size in sizes])
    places = domain.every / (np.array(sizes) - 1)
    shift = rng.normal(scale=0.6, size=(len(sizes), len(sizes)))
    away = places - 0.5 - 0.5 * (places - 0.5) @ shift
    value = (rng.uniform(0.5, 2, len(sizes)) * away**2).sum(axis=1)
    return _table("ordered", domain, 10 + 4 * value - standardised(np.log(domain.chain.costs(domain.every)[:, 0])))


class _Mixed:
    """A trend, sums of effects, products of neighbouring layers and a small random network, of levels."""

    def __init__(self, *, is_smooth: bool = False) -> None:
        """Draws a landscape; in a smooth one the effects of neighbouring layers are alike (correlated by 0.8)."""
        rng, most = np.random.default_rng(5), LARGE.most_layers
        self._single = rng.normal(size=(2 * most, 4)) * [0, 1, 1, 1]
        if is_smooth:
            apart = np.abs(np.subtract.outer(np.arange(most), np.arange(most)))
            root = np.linalg.cholesky(0.8**apart)
            self._single = np.einsum("st,atl->asl", root, self._single.reshape(2, most, 4)).reshape(2 * most, 4)
        self._across = rng.normal(size=(most - 1, 4, 4))
        self._state = rng.normal(size=(len(LARGE.states), 4, 2))
        self._hidden = rng.normal(size=(8 * most, 24)) / (2 * most) ** 0.5
        self._out = rng.normal(size=24)

    def __call__(self, levels: IntArray) -> FloatArray:
        most, costs = LARGE.most_layers, np.log(LARGE.params_of_levels(levels))
        chosen, columns = levels[:, 1:], np.arange(2 * LARGE.most_layers)
        single = self._single[columns, chosen].sum(axis=1)
        across = self._across[np.arange(most - 1), chosen[:, : most - 1], chosen[:, 1:most]].sum(axis=1)
        state = self._state[levels[:, :1], chosen, (columns >= most).astype(int)].sum(axis=1)
        one_hot = np.eye(4)[chosen].reshape(len(levels), -1)
        deep = np.maximum(one_hot @ self._hidden - 0.5, 0) @ self._out
        total: FloatArray = 40 - 4 * (costs - 17) + 0.25 * single + 0.1 * across + 0.15 * state + 0.4 * deep
        return total


def _large(name: str = "large", *, is_smooth: bool = False) -> Problem:
    domain, landscape = GPTDomain(LARGE), _Mixed(is_smooth=is_smooth)

    def value(network: GPT) -> float:
        return float(landscape(np.array([LARGE.levels(network)]))[0])

    cells = domain.strata
    costs = int(cells[0].params.min()), int(cells[-1].params.max())
    drawn = domain.draw_stratified(np.random.default_rng(0), 2000, "params")
    values = [value(network) for network in drawn]
    bounds = Bounds((min(values) - 2, max(values)), costs)
    return Problem(name, name, domain, ("error", "params"), value, bounds, landscape=landscape)


def _large_window() -> Problem:
    drawn = GPTDomain(LARGE).draw_stratified(np.random.default_rng(0), 4000, "params")
    middle = float(np.median([LARGE.params(network) for network in drawn]))
    costs = round(0.98 * middle), round(1.02 * middle)
    domain, landscape = GPTDomain(LARGE, *costs), _Mixed()
    inside = domain.draw_stratified(np.random.default_rng(0), 2000, "params")
    values = landscape(np.array([LARGE.levels(network) for network in inside]))
    bounds = Bounds((float(values.min()) - 4, float(np.quantile(values, 0.25))), costs)
    return replace(_large(), name="large-window", title="large-window", domain=domain, bounds=bounds)


FACTORIES: dict[str, Callable[[], Problem]] = {
    "nk-1": lambda: _nk_one("nk-1"),
    "nk-2": _nk_two,
    "nk-steep": _steep,
    "nk-noisy": lambda: _nk_one("nk-noisy", noise=0.02),
    "ordered": _ordered,
    "small": _small,
    "cells": lambda: _cells("cells"),
    "cells-noisy": lambda: _cells("cells-noisy", noise=0.02),
    "power": _power,
    "plateau": _plateau,
    "test-set": lambda: _test_set("test-set", seed=14),
    "test-set-2": lambda: _test_set("test-set-2", seed=15),
    "test-set-3": lambda: _test_set("test-set-3", seed=16),
    "window": _window,
    "large": _large,
    "large-smooth": lambda: _large("large-smooth", is_smooth=True),
    "large-window": _large_window,
    "large-noise": lambda: replace(_large(), name="large-noise", title="large-noise", noise=0.02),
    "sizes": _sizes,
    "macro": _macro,
    "ranks": _ranks,
}

MANY: dict[str, Callable[[], Problem]] = {
    **FAMILIES,
    **{f"test-sets-{at}": partial(_test_set, f"test-sets-{at}", 1000 + at) for at in range(PER_FAMILY)},
}
"""Problems of families, which run if they are named."""


@lru_cache(maxsize=8)
def problem_of(name: str) -> Problem:
    """Returns a problem by its name."""
    return (FACTORIES | MANY)[name]()


@lru_cache(maxsize=8)
def best_of(name: str) -> float:
    """Returns the hypervolume of a problem's front."""
    problem = problem_of(name)
    if isinstance(problem.landscape, _Mixed) and isinstance(problem.domain, GPTDomain):
        return _best_of_search(problem.domain, problem.landscape, problem.bounds)
    members = list(problem.domain.members or ())
    values = [problem.value(member) for member in members]
    rows = problem.bounds.normalised(values, [problem.cost(member) for member in members])
    return hypervolume(front_of(rows), REFERENCE)


def _best_of_search(domain: GPTDomain, landscape: Landscape, bounds: Bounds) -> float:
    archive = FrontSearch(domain, landscape, bounds).run()
    return hypervolume(bounds.normalised(archive.values, archive.costs), REFERENCE)


def regrets(problem: Problem, entry: str, seed: int, best: float) -> tuple[dict[int, float], float]:
    """Returns the regret of a search at every checkpoint, and its milliseconds per ask."""
    line = run_search(problem, entry, seed, problem.checkpoints[-1])
    points = problem.bounds.normalised(line["values"], line["costs"])
    number = len(points)
    return {at: regret(points[:at], best) for at in problem.checkpoints}, 1000 * line["seconds"] / number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategies", nargs="+", choices=ENTRIES, default=["additive"], metavar="NAME")
    parser.add_argument("--problems", nargs="+", choices=FACTORIES | MANY, default=list(FACTORIES), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=4, help="how many, from 0 (default %(default)s)")
    parser.add_argument("--evaluations", type=int, default=200)
    given = parser.parse_args()
    for name in given.problems:
        problem, best = problem_of(name), best_of(name)
        problem = replace(problem, checkpoints=tuple(at for at in problem.checkpoints if at <= given.evaluations))
        for entry in given.strategies:
            rows = [regrets(problem, entry, seed, best) for seed in range(given.seeds)]
            means = " / ".join(f"{np.mean([row[at] for row, _ in rows]):.2f}" for at in problem.checkpoints)
            last = " ".join(f"{row[problem.checkpoints[-1]]:.2f}" for row, _ in rows)
            speed = np.mean([ms for _, ms in rows])
            print(f"{name:9} {entry:12} {means}   at the end {last}   {speed:.0f} ms per ask ", flush=True)


if __name__ == "__main__":
    main()
