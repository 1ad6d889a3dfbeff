"""Made-up problems on which the settings of `additive` are chosen. None of them is reported in the documentation.

    python -m benchmarks.search.development [--strategies additive] [--problems NAME ...] [--seeds 4]

Five are tables of 10,000 to 20,000 networks, whose front is known:

- `nk-1`, `nk-2`: after Kauffman's NK model. Every attribute contributes a random value, which depends on its own level
  and on those of one or two others. A trend in cost and single effects are added.
- `nk-steep`: the exponential of such a sum, so that few networks are good and many are far worse.
- `nk-noisy`: `nk-1`, told with noise of 2 %.
- `ordered`: attributes with an optimum in the middle that shifts with the level of another attribute.

`small` has 120 networks with noise in what is measured of each. `large` is a space of GPTs of other sizes than
HW-GPT's, with effects that add up, products of neighbours, and a small random neural network on top. Its front is the
best of a long search.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np

from benchmarks.search.best_known import FrontSearch
from benchmarks.search.controls import Landscape
from benchmarks.search.gpt import GPT, GPTDomain, GPTSpace
from benchmarks.search.metrics import REFERENCE, front_of, regret
from benchmarks.search.problems import Bounds, Problem
from benchmarks.search.products import Choices, ProductDomain
from benchmarks.search.runs import ENTRIES, run_search
from sret_nas.arrays import FloatArray, IntArray
from sret_nas.pareto import hypervolume
from trials.strategies.table import TableDomain

LARGE = GPTSpace((128, 256, 512), (14, 15, 16), (4, 6, 8))


def _nk(sizes: tuple[int, ...], neighbours: int, ruggedness: float, seed: int) -> tuple[ProductDomain, FloatArray]:
    """A space, and the values of its networks: trend and single effects of variance one, and the NK part."""
    rng = np.random.default_rng(seed)
    domain = ProductDomain([np.sort(rng.integers(5, 100, size)).tolist() for size in sizes])
    levels = domain.every
    costs = np.log(domain.chain.costs(levels)[:, 0])
    single = sum(rng.normal(size=size)[levels[:, at]] for at, size in enumerate(sizes))
    rugged = np.zeros(len(levels))
    for at, size in enumerate(sizes):
        others = rng.choice([other for other in range(len(sizes)) if other != at], neighbours, replace=False)
        table = rng.normal(size=(size, *(sizes[other] for other in others)))
        rugged += table[levels[:, at], *(levels[:, other] for other in others)]
    value = -_standardised(costs) + 0.7 * _standardised(single) + ruggedness * _standardised(rugged)
    return domain, value


def _standardised(values: FloatArray) -> FloatArray:
    standardised: FloatArray = (values - values.mean()) / values.std()
    return standardised


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


def _small() -> Problem:
    """120 networks, half of whose variance beyond cost nothing explains, as where each was trained once."""
    domain, value = _nk((4,) * 6, 1, 0.5, seed=6)
    rng = np.random.default_rng(7)
    value = value + rng.normal(scale=0.8, size=len(value))
    chosen = rng.choice(len(value), 120, replace=False)
    problem = _table("small", domain, 20 + 3 * value)
    members = [Choices(tuple(domain.every[position].tolist())) for position in chosen]
    return replace(problem, domain=TableDomain(domain, members), checkpoints=(10, 20, 50))


def _ordered() -> Problem:
    rng = np.random.default_rng(4)
    sizes = (6, 6, 5, 4, 4, 4)
    domain = ProductDomain([np.sort(rng.integers(5, 100, size)).tolist() for size in sizes])
    places = domain.every / (np.array(sizes) - 1)
    shift = rng.normal(scale=0.6, size=(len(sizes), len(sizes)))
    away = places - 0.5 - 0.5 * (places - 0.5) @ shift
    value = (rng.uniform(0.5, 2, len(sizes)) * away**2).sum(axis=1)
    return _table("ordered", domain, 10 + 4 * value - _standardised(np.log(domain.chain.costs(domain.every)[:, 0])))


class _Mixed:
    """A trend, sums of effects, products of neighbouring layers and a small random network, of levels."""

    def __init__(self) -> None:
        rng, most = np.random.default_rng(5), LARGE.most_layers
        self._single = rng.normal(size=(2 * most, 4)) * [0, 1, 1, 1]
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


def _large() -> Problem:
    domain, landscape = GPTDomain(LARGE), _Mixed()

    def value(network: GPT) -> float:
        return float(landscape(np.array([LARGE.levels(network)]))[0])

    cells = domain.strata
    costs = int(cells[0].params.min()), int(cells[-1].params.max())
    drawn = domain.draw_stratified(np.random.default_rng(0), 2000, "params")
    values = [value(network) for network in drawn]
    bounds = Bounds((min(values) - 2, max(values)), costs)
    return Problem("large", "large", domain, ("error", "params"), value, bounds, landscape=landscape)


FACTORIES: dict[str, Callable[[], Problem]] = {
    "nk-1": lambda: _nk_one("nk-1"),
    "nk-2": _nk_two,
    "nk-steep": _steep,
    "nk-noisy": lambda: _nk_one("nk-noisy", noise=0.02),
    "ordered": _ordered,
    "small": _small,
    "large": _large,
}


@lru_cache(maxsize=8)
def problem_of(name: str) -> Problem:
    """A problem by its name."""
    return FACTORIES[name]()


@lru_cache(maxsize=8)
def best_of(name: str) -> float:
    """The hypervolume of a problem's front."""
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
    """The regret of a search at every checkpoint, and its milliseconds per ask."""
    line = run_search(problem, entry, seed, problem.checkpoints[-1])
    points = problem.bounds.normalised(line["values"], line["costs"])
    number = len(points)
    return {at: regret(points[:at], best) for at in problem.checkpoints}, 1000 * line["seconds"] / number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategies", nargs="+", choices=ENTRIES, default=["additive"], metavar="NAME")
    parser.add_argument("--problems", nargs="+", choices=FACTORIES, default=list(FACTORIES), metavar="NAME")
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
