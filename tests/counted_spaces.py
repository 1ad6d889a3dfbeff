"""Small search spaces, and every network of one by brute force, for tests of counts and draws."""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import Any

import numpy as np

from benchmarks.bulk_cost import bulk_cost
from sret_nas.arch.budget import Budget
from sret_nas.arch.cost import StageColumns
from sret_nas.arrays import IntArray
from sret_nas.space.choice_costs import choice_costs_of
from sret_nas.space.search_space import SearchSpace

STAGE: dict[str, Any] = {
    "width": [8], "heads": [2], "blocks": [1], "recursions": [1], "loop": ["internal"], "groups": [[1]],
    "nll": ["none"], "nll_ratio": [1.0], "mlp_ratio": [1.0],
}  # fmt: skip


def space_of(*stages: dict[str, Any], **others: Any) -> SearchSpace:
    data = {"name": "test", "image_size": 32, "classes": 10, "stages": [STAGE | stage for stage in stages]}
    return SearchSpace.from_dict(data | others)


FIRST = {"width": [8, 12], "heads": [2, 3], "blocks": [1, 2], "recursions": [1, 2], "loop": ["internal", "external"],
         "groups": [[2, 1], [1]], "nll": ["every", "none"], "mlp_ratio": [1.0, 2.0]}  # fmt: skip
SECOND = {"width": [12, 16], "heads": [4], "recursions": [1, 2, 3], "groups": [[4], [1]],
          "nll": ["every", "between", "last", "none"], "nll_ratio": [0.5, 1.0]}  # fmt: skip
THIRD = {"width": [16, 24], "heads": [4], "mlp_ratio": [1.0, 2.0]}

VARIED = space_of(
    {"width": [8, 12], "recursions": [1, 2, 3], "groups": [[2, 2], [1], [1000]], "permute": [True, False],
     "inverse": [False, True], "permute_single": [False, True]},
    {"width": [12, 16], "heads": [4], "groups": [[4, 1], [1]], "recursions": [2], "inverse": [False]},
    {"width": [16, 24], "heads": [4], "recursions": [1, 2], "nll": ["every", "none"]},
    residual="branch", head="distillation_token", stem={"width": [4, 6], "norm": "layer"},
)  # fmt: skip
"""Every variant that a stage can list, and a head, residuals and a stem that are not the paper's."""

PATCHES = space_of(
    {"width": [8, 12], "recursions": [1, 2], "groups": [[2, 2], [1]], "permute": [False, True]}, {"width": [12]},
    residual="plain", head="class_token", stem={"kind": "patch", "strides": [2, 4, 1]},
)  # fmt: skip

STEMS = space_of(
    {"width": [8, 12], "recursions": [1, 2], "groups": [[2, 2], [1]]}, {"width": [12], "mlp_ratio": [1.0, 2.0]},
    stem={"width": [4, 6], "kind": ["patch", "conv"], "norm": ["layer", "none", "batch"], "strides": [1, 2, 2]},
)  # fmt: skip
"""Every kind of stem, with every norm."""

RESIDUALS = space_of(
    {"width": [8, 12], "recursions": [1, 2], "groups": [[2, 2], [1]]}, {"width": [12, 16], "heads": [4]},
    {"width": [12], "blocks": [1, 2], "nll": ["every", "none"]},
    residual=["plain", "path", "branch"], stem={"kind": ["conv", "patch"]},
)  # fmt: skip
"""Every residual, with two stems."""

HEADS = space_of(
    {"width": [8, 12], "recursions": [1, 2]},
    {"width": [12, 16], "heads": [4], "recursions": [1, 2], "groups": [[1], [2, 1], [1, 2]], "inverse": [True, False],
     "permute_single": [False, True]},
    head=["class_token", "average", "distillation_token"], residual=["path", "plain"], stem={"norm": ["batch", "none"]},
)  # fmt: skip
"""Every head, where many last stages do not always see all tokens in their places, with two residuals and stems."""

MIDDLING = space_of(FIRST, SECOND, THIRD)
FOUR_STAGES = space_of(
    {"width": [8, 12], "mlp_ratio": [1.0, 2.0], "recursions": [1, 2]},
    {"width": [12, 16], "blocks": [1, 2], "nll": ["every", "none"]},
    {"width": [16], "recursions": [1, 2], "nll": ["every", "none"]},
    {"width": [16, 24], "mlp_ratio": [1.0, 2.0]},
    image_size=64, stem={"width": [4, 6]},
)  # fmt: skip


@cache
def shipped(name: str) -> SearchSpace:
    """Returns a shipped space, the same one for all tests of a process, so that its tables are computed once."""
    return SearchSpace.load(name)


class EveryNetwork:
    """All networks of a space: `choices` (n, stages), and `flops` and `params` (n,) from the closed form in bulk."""

    def __init__(self, space: SearchSpace) -> None:
        costs = choice_costs_of(space)
        self.shape = tuple(len(flops) for flops in costs.flops)
        every: IntArray = np.indices(self.shape).reshape(len(self.shape), -1).T
        options = [
            [options[number] for number in option[column].tolist()]
            for options, option, column in zip(costs.options, costs.option, every.T, strict=True)
        ]
        kept = np.array([len({option.residual for option in network}) == 1 for network in zip(*options, strict=True)])
        self.choices: IntArray = every[kept]
        self._places = np.flatnonzero(kept)
        columns = [
            StageColumns(**{name: value[rows[column]] for name, value in vars(table.columns).items()})
            for table, rows, column in zip(space.stage_tables, costs.row, self.choices.T, strict=True)
        ]
        of_ends = [(options[0][at].residual, options[0][at].stem, options[-1][at].head) for at in self._places.tolist()]
        self.flops, self.params = np.zeros((2, len(of_ends)), dtype=np.int64)
        for residual, stem, head in product(space.residual, space.stem.stems, space.head):
            has = np.array([one == (residual, stem, head) for one in of_ends])
            stem_width = np.maximum(1, columns[0].width // 2) if stem.width is None else np.full(len(has), stem.width)
            found = bulk_cost(
                columns, space.stem.config(stem, 1), space.image_size, space.channels, space.classes, stem_width,
                residual, head,
            )  # fmt: skip
            self.flops[has], self.params[has] = (cost[has] for cost in found)

    def is_inside(self, budget: Budget) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Returns which networks a budget allows, of shape (n,)."""
        pairs = zip(self.flops.tolist(), self.params.tolist(), strict=True)
        return np.array([budget.allows(*costs) for costs in pairs])

    def times_drawn(self, choices: IntArray) -> IntArray:
        """Returns how often each network is in an array of drawn choices, of shape (n,)."""
        places = np.ravel_multi_index(tuple(choices.T), self.shape)
        assert np.isin(places, self._places).all()
        counts: IntArray = np.bincount(places, minlength=int(np.prod(self.shape)))[self._places]
        return counts


def chi_square_deviation(times_drawn: IntArray, expected: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """Returns Pearson's chi-square in its standard deviations: with df degrees of freedom it is df +- sqrt(2 df)."""
    chi_square = float(((times_drawn - expected) ** 2 / expected).sum())
    df = len(expected) - 1
    return (chi_square - df) / (2 * df) ** 0.5
