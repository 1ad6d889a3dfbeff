"""The networks trained from scratch: at each cost the best, a middling and the worst by the inherited model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.sret_bench.setting import Setting
from benchmarks.sret_bench.tables import Line
from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.feasible.feasible_set import FeasibleSet
from trials.strategies.sret import SReTDomain
from trials.strategies.strategy import Candidate
from trials.strategies.structure import StructureModel

STRUCTURES = "best", "worst", "middling"
MIDDLING_DRAWS = 501
"""Networks drawn at a cost; the middling one is that of their median prediction."""
WINDOW = 0.97
"""Least FLOPs of a network over the FLOPs it is chosen for."""


@dataclass(frozen=True)
class Chosen:
    """A network, with the cost and the kind of structure it stands for, and the inherited error predicted of it."""

    cost_position: int
    structure: str
    arch: ArchConfig
    predicted_error: float

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "arch": self.arch.to_dict()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Chosen:
        return cls(**{**data, "arch": ArchConfig.from_dict(data["arch"])})


def costs(setting: Setting) -> list[int]:
    """Returns the FLOPs at which networks are chosen, from low to high."""
    low, high = setting.cost_range
    return [round(cost) for cost in np.geomspace(low, high, setting.num_costs).tolist()]


def choose(setting: Setting, lines: Sequence[Line]) -> list[Chosen]:
    """Returns the networks in the order in which they are trained, from the inherited scores of one supernet.

    The best is the exact optimum of the model in a window of cost, by dynamic programming; the worst is that of a model
    of negated errors. Costs come from both ends inwards, so that few trainings already span the range.
    """
    domain = SReTDomain(setting.space, Budget())
    candidates = [Candidate(ArchConfig.from_dict(line["architecture"]), "full") for line in lines]
    errors = np.array([line["error"] for line in lines])
    axis = domain.chain.cost_names.index("flops")
    model, negated = (StructureModel(domain, candidates, list(sign * errors), axis) for sign in (1, -1))
    rng = np.random.default_rng(2)
    chosen = []
    limits = costs(setting)
    for position in from_both_ends(len(limits)):
        limit = limits[position]
        window = FeasibleSet(setting.space, Budget(flops_min=round(WINDOW * limit), flops_max=limit))
        drawn = [Candidate(arch, "full") for arch in window.sample_many(rng, MIDDLING_DRAWS)]
        order = np.argsort(model.belief(drawn).mean, kind="stable")
        found = {
            "best": model.best_within(limit),
            "worst": negated.best_within(limit),
            "middling": drawn[int(order[len(drawn) // 2])],
        }
        for structure in STRUCTURES:
            candidate = found[structure]
            assert candidate is not None, limit  # the window holds networks: some were drawn
            predicted = round(float(model.belief([candidate]).mean[0]), 6)
            chosen.append(Chosen(position, structure, candidate.arch, predicted))
    return chosen


def from_both_ends(number: int) -> list[int]:
    """Returns 0 to `number` - 1 with the ends first, then what lies halfway: 0, 7, 3, 5, 1, 2, 4, 6 of eight."""
    order = [0, number - 1][:number]
    while len(order) < number:
        known = sorted(order)
        gaps = [(high - low, -low) for low, high in pairwise(known)]
        width, low = max(gaps)
        order.append(-low + width // 2)
    return order
