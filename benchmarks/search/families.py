"""Families of made-up tables: as many problems of one kind as there are seeds, to tell small differences from chance.

- `layered`: 100 ViTs with a choice of MLP ratio and heads in every layer, drawn as random networks usually are: depth
  and width first. Error falls with width and depth, a little with what each layer chooses, and has chance in it.
- `made-sret`: 60 networks of `sret_tiny`. Cross-entropy is a curve over the logarithm of FLOPs, sums of effects, a few
  products of choices, and chance.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from benchmarks.search.gpt import GPT
from benchmarks.search.gpt_domain import GPTDomain
from benchmarks.search.metrics import front_of
from benchmarks.search.problems import Bounds, Problem
from benchmarks.search.vit import AutoFormerSpace
from sret_nas.arch.budget import Budget
from sret_nas.arrays import FloatArray
from sret_nas.space.search_space import SearchSpace
from trials.strategies.domain import Domain
from trials.strategies.sret import SReTDomain
from trials.strategies.table import TableDomain

PER_FAMILY = 20
VIT_SPACES = (
    AutoFormerSpace((128, 192, 256), (8, 9, 10), (2, 4), mlp_ratios=(2.0, 3.0), biases=(True,)),
    AutoFormerSpace((256, 288, 320, 352), (14, 16), (4, 5, 6), mlp_ratios=(3.0, 3.5, 4.0), biases=(True,)),
)
"""Other sizes than those of any reported table."""


def standardised(values: FloatArray) -> FloatArray:
    """Returns values less their mean, in standard deviations."""
    found: FloatArray = (values - values.mean()) / values.std()
    return found


def whole_front(problem: Problem) -> Problem:
    """Returns the problem with bounds that hold all networks of the front, and a tenth of its range."""
    members = list(problem.domain.members or ())
    values, costs = np.array([problem.value(m) for m in members]), np.array([problem.cost(m) for m in members])
    front = front_of(np.column_stack([values, costs]))[:, 0]
    box = float(front.min()), float(front.max() + 0.1 * np.ptp(front))
    return replace(problem, bounds=Bounds(box, (int(costs.min()), int(costs.max())), log_cost=problem.bounds.log_cost))


def _problem(
    name: str, domain: Domain[Any], members: Sequence[Any], values: FloatArray, cost: str, *,
    log_cost: bool, checkpoints: tuple[int, ...],
) -> Problem:  # fmt: skip
    by_key: dict[Hashable, float] = dict(zip([m.key for m in members], values.tolist(), strict=True))
    problem = Problem(
        name, name, TableDomain(domain, list(members)), ("error", cost), lambda member: by_key[member.key],
        Bounds((0.0, 1.0), (1, 2), log_cost=log_cost), checkpoints=checkpoints,
    )  # fmt: skip
    return whole_front(problem)


def layered(name: str, seed: int) -> Problem:
    """Returns a table of ViTs whose layers choose."""
    rng = np.random.default_rng(seed)
    space = VIT_SPACES[seed % len(VIT_SPACES)]
    networks: dict[Hashable, GPT] = {}
    while len(networks) < 100:
        depth = int(rng.choice(space.layers))
        width, ratios = int(rng.choice(space.embeds)), tuple(rng.choice(space.mlp_ratios, depth).tolist())
        network = GPT(width, True, ratios, tuple(rng.choice(space.heads, depth).tolist()))
        networks.setdefault(network.key, network)
    members = list(networks.values())
    width_of = standardised(np.log([member.embed for member in members]))
    depth_of = standardised(np.array([float(len(member.heads)) for member in members]))
    ratio_of = np.array([np.mean(member.mlp_ratios) for member in members])
    heads_of = np.array([np.mean(member.heads) for member in members])
    effects = rng.normal(size=(max(space.layers), 2))
    effects *= np.exp(-np.arange(max(space.layers)) / rng.uniform(2, 20))[:, None]
    own = np.array([
        effects[: len(member.heads), 0] @ (np.array(member.mlp_ratios) - ratio)
        + effects[: len(member.heads), 1] @ (np.array(member.heads) - heads)
        for member, ratio, heads in zip(members, ratio_of, heads_of, strict=True)
    ])  # fmt: skip
    value = -standardised(rng.normal(1.0, 0.5) * width_of + rng.normal(0.4, 0.3) * depth_of)
    value -= rng.normal(0.2, 0.2) * standardised(ratio_of) + rng.normal(0.1, 0.2) * standardised(heads_of)
    value -= abs(rng.normal(0.2, 0.2)) * standardised(own)
    value += rng.normal(0, 0.2) * width_of * depth_of + rng.normal(0, 0.15) * width_of**2
    error = rng.uniform(10, 40) + rng.uniform(0.5, 2.5) * value
    measured = rng.binomial(10_000, np.clip(error, 1, 99) / 100) / 100
    measured = np.round(measured + rng.uniform(0, 0.4) * rng.normal(size=len(members)), 2)
    return _problem(name, GPTDomain(space), members, measured, "params", log_cost=False, checkpoints=(10, 20, 50))


def made_sret(name: str, seed: int) -> Problem:
    """Returns a table of networks of `sret_tiny`."""
    rng = np.random.default_rng(seed)
    domain = SReTDomain(SearchSpace.load("sret_tiny"), Budget())
    members = list({member.key: member for member in domain.draw_stratified(rng, 60, "flops")}.values())
    choices = {name: list(values) for name, values in domain.dimensions.items()}
    encoded = [domain.encode(member) for member in members]
    levels = {
        name: np.array([values.index(choice[name]) for choice in encoded]) for name, values in choices.items()
    }  # fmt: skip
    total, products = np.zeros(len(members)), np.zeros(len(members))
    for name_of, values in choices.items():
        has_order = rng.random() < 0.5
        effects = np.arange(len(values)) * rng.normal() if has_order else rng.normal(size=len(values))
        total += rng.exponential() * effects[levels[name_of]]
    for _ in range(6):
        one, other = rng.choice(list(choices), 2, replace=False)
        products += rng.normal(size=(len(choices[one]), len(choices[other])))[levels[one], levels[other]]
    logs = standardised(np.log([domain.costs(member)[0] for member in members]))
    value = rng.normal(0.15, 0.1) * logs**2 - logs + rng.uniform(0.3, 0.9) * standardised(total)
    value += rng.uniform(0.1, 0.5) * standardised(products) + rng.uniform(0.05, 0.4) * rng.normal(size=len(members))
    values_told = np.round(1.5 + 0.08 * value, 4)
    return _problem(name, domain, members, values_told, "flops", log_cost=True, checkpoints=(10, 20, 40))


FAMILIES: dict[str, Callable[[], Problem]] = {
    **{f"layered-{at}": partial(layered, f"layered-{at}", 2000 + at) for at in range(PER_FAMILY)},
    **{f"made-sret-{at}": partial(made_sret, f"made-sret-{at}", 3000 + at) for at in range(PER_FAMILY)},
}
