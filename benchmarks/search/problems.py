"""The problems of the comparison: a domain, what is measured of a network, and the fixed bounds results are read in.

Every problem has two objectives: something learned only by evaluating (perplexity, error, cross-entropy), and a cost
that is known beforehand. Bounds were set once, by looking at the extremes of each problem, and never change.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from hashlib import blake2b
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.search.controls import Landscape, PlantedPairs, shuffled
from benchmarks.search.gpt import GPT, HW_GPT, perplexity_of
from benchmarks.search.gpt_domain import GPTDomain
from benchmarks.search.vit import DATASETS, autoformer_table, pit_table
from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.arrays import FloatArray
from sret_nas.space.search_space import SearchSpace
from trials.strategies.domain import Domain
from trials.strategies.sret import SReTDomain
from trials.strategies.strategy import Candidate
from trials.strategies.table import TableDomain

SRET_TABLE = Path(__file__).resolve().parent.parent / "results" / "recursion_table.jsonl"
MEDIAN_PARAMS_S = 58_513_152
"""Parameters of the median network of HW-GPT S, by count."""
WINDOW = 0.02


@dataclass(frozen=True)
class Bounds:
    """The box in which fronts are measured: from the ideal to the reference point, in value and in cost."""

    value: tuple[float, float]
    cost: tuple[float, float]
    log_cost: bool = False

    def normalised(self, values: npt.ArrayLike, costs: npt.ArrayLike) -> FloatArray:
        """Returns values and costs, of shape (n,) each, as rows (n, 2): the ideal point is (0, 0), the reference (1,
        1)."""
        low, high = self.value
        first = (np.asarray(values, dtype=np.float64) - low) / (high - low)
        scale = np.log if self.log_cost else np.asarray
        least, most = scale(np.array(self.cost, dtype=np.float64))
        return np.column_stack([first, (scale(np.asarray(costs, dtype=np.float64)) - least) / (most - least)])


@dataclass(frozen=True)
class Problem:
    """`value` is what a network is truly worth; a strategy is told it with relative Gaussian `noise`."""

    name: str
    title: str
    domain: Domain[Any]
    objectives: tuple[str, str]
    value: Callable[[Any], float]
    bounds: Bounds
    checkpoints: tuple[int, ...] = (20, 50, 100, 200)
    noise: float = 0.0
    landscape: Landscape | None = None
    """The values of many networks at once, given as levels; None for a table, whose front is known."""

    def cost(self, candidate: Any) -> int:
        position = self.domain.chain.cost_names.index(self.objectives[1])
        return int(self.domain.costs(candidate)[position])

    def told(self, candidate: Any, seed: int) -> float:
        """Returns the value as a strategy is told it: the same for a network and a seed, however often."""
        return self.value(candidate) * (1 + self.noise * _normal(candidate.key, seed))

    @property
    def front_name(self) -> str:
        """The name of a problem's front; problems that differ in noise alone share one."""
        return self.name.partition("-noise")[0]


def _normal(key: Hashable, seed: int) -> float:
    """Returns a standard normal number that looks drawn at random, by a network's key and a seed."""
    digest = blake2b(repr((key, seed)).encode(), digest_size=8).digest()
    return NormalDist().inv_cdf((int.from_bytes(digest, "big") + 0.5) / 2**64)


GPT_BOUNDS = {
    "s": Bounds((21.0, 43.5), (22_746_240, 162_246_144)),
    "m": Bounds((20.5, 36.5), (43_054_592, 405_231_616)),
    "l": Bounds((17.5, 30.5), (68_415_360, 837_040_640)),
}


def _gpt_problem(name: str, title: str, domain: GPTDomain, landscape: Landscape, bounds: Bounds) -> Problem:
    def value(network: GPT) -> float:
        return float(landscape(np.array([domain.space.levels(network)]))[0])

    return Problem(name, title, domain, ("perplexity", "params"), value, bounds, landscape=landscape)


def _hw_gpt(shared: Path, size: str, noise: float = 0.0) -> Problem:
    problem = _gpt_problem(
        f"hwgpt-{size}",
        f"HW-GPT {size.upper()}",
        GPTDomain(HW_GPT[size]),
        perplexity_of(size, shared),
        GPT_BOUNDS[size],
    )
    if not noise:
        return problem
    return replace(
        problem,
        name=f"{problem.name}-noise-{100 * noise:g}",
        title=f"{problem.title}, label noise {100 * noise:g} %",
        noise=noise,
    )


def _window(shared: Path) -> Problem:
    least, most = round((1 - WINDOW) * MEDIAN_PARAMS_S), round((1 + WINDOW) * MEDIAN_PARAMS_S)
    title = f"HW-GPT S, {least / 1e6:.2f} to {most / 1e6:.2f} M parameters"
    bounds = Bounds((30.0, 32.6), (least, most))
    return _gpt_problem(
        "hwgpt-s-window", title, GPTDomain(HW_GPT["s"], least, most), perplexity_of("s", shared), bounds
    )


def _shuffled(shared: Path) -> Problem:
    domain = GPTDomain(HW_GPT["s"])
    landscape = shuffled(perplexity_of("s", shared), domain)
    return _gpt_problem("shuffled", "Control: HW-GPT S, shuffled labels", domain, landscape, GPT_BOUNDS["s"])


def _planted(shared: Path) -> Problem:
    landscape = PlantedPairs(HW_GPT["s"])
    bounds = replace(GPT_BOUNDS["s"], value=(10.0, 48.0))
    title = "Control: planted pairs of far layers"
    return _gpt_problem("planted", title, GPTDomain(HW_GPT["s"]), landscape, bounds)


VIT_BOUNDS = {
    ("autoformer", "c100"): Bounds((21.0, 24.5), (5_000_000, 10_000_000)),
    ("autoformer", "flower"): Bounds((30.0, 52.0), (5_000_000, 10_000_000)),
    ("autoformer", "chaoyang"): Bounds((13.0, 16.5), (5_000_000, 10_000_000)),
    ("pit", "c100"): Bounds((20.0, 50.0), (150_000, 30_000_000), log_cost=True),
    ("pit", "flower"): Bounds((27.0, 65.0), (150_000, 30_000_000), log_cost=True),
    ("pit", "chaoyang"): Bounds((14.0, 23.0), (150_000, 30_000_000), log_cost=True),
}


def _vit(shared: Path, family: str, dataset: str) -> Problem:
    """Returns the problem of 100 networks, half of which a search of 50 sees."""
    table = autoformer_table if family == "autoformer" else pit_table
    domain, errors = table(dataset, shared)
    title = f"ViT-Bench-101 {'AutoFormer' if family == 'autoformer' else 'PiT'}, {DATASETS[dataset]}"
    return Problem(
        f"{family}-{dataset}",
        title,
        domain,
        ("error", "params"),
        lambda network: errors[network.key],
        VIT_BOUNDS[family, dataset],
        checkpoints=(10, 20, 50),
    )


def _sret(shared: Path) -> Problem:
    """Returns the networks of sret_tiny that `recursion/train_table.py` has trained so far."""
    lines = [json.loads(line) for line in SRET_TABLE.read_text(encoding="utf-8").splitlines()]
    rows = [line for line in lines if line.get("seed") == 0]
    candidates = [Candidate(ArchConfig.from_dict(row["architecture"]), "full") for row in rows]
    values = {candidate.key: row["cross_entropy"] for candidate, row in zip(candidates, rows, strict=True)}
    return Problem(
        "sret-tiny",
        f"SReT on CIFAR-10, {len(candidates)} networks",
        TableDomain(SReTDomain(SearchSpace.load("sret_tiny"), Budget()), candidates),
        ("cross_entropy", "flops"),
        lambda candidate: values[candidate.key],
        Bounds((1.35, 1.65), (57_000_000, 3_200_000_000), log_cost=True),
        checkpoints=(10, 20, 40),
    )


def _sret_bench(shared: Path) -> Problem:
    from benchmarks.search.sret_bench import sret_bench_problem  # here, as it imports what a problem is

    return sret_bench_problem()


FACTORIES: dict[str, Callable[[Path], Problem]] = {
    **{f"hwgpt-{size}": partial(_hw_gpt, size=size) for size in HW_GPT},
    "hwgpt-s-window": _window,
    **{
        f"hwgpt-{size}-noise-{100 * noise:g}": partial(_hw_gpt, size=size, noise=noise)
        for noise in (0.02,)
        for size in HW_GPT
    },
    "shuffled": _shuffled,
    "planted": _planted,
    **{f"{family}-{dataset}": partial(_vit, family=family, dataset=dataset) for family, dataset in VIT_BOUNDS},
    "sret-tiny": _sret,
    "sret-bench": _sret_bench,
}


@lru_cache(maxsize=32)
def problem_of(name: str, shared: Path) -> Problem:
    """Returns a problem by its name; `shared` is the folder of the public benchmarks."""
    return FACTORIES[name](shared)
