"""Predicted latency as an additive cost: one term per choice, one per pooling.

The times of the parts add up to most of a network's latency. The rest is overhead: weights are fetched from memory
(a part that is timed alone finds them in the cache), functions are called, and some work is done once per pass. Latency
is therefore modelled as a non-negative combination of four sums (`FEATURES`), fitted to whole networks by relative
error. All four are additive over choices and links, and so are the predictions, in whole microseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from math import isqrt
from typing import Any, NamedTuple

import numpy as np

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.sizes import paper_stem_width
from sret_nas.arrays import FloatArray, IntArray
from sret_nas.errors import UserError, describe
from sret_nas.latency.profile import LatencyProfile, Part, PartKind
from sret_nas.space.chain import Chain, chain_of
from sret_nas.space.choice_costs import choice_costs_of
from sret_nas.space.choices import STAGE_DIMENSIONS
from sret_nas.space.search_space import SearchSpace
from sret_nas.space.stage_table import StageTable

FEATURES = ("parts", "params", "applications", "networks")
"""Microseconds of the parts timed alone; parameters; applications of blocks and NLLs; 1 per network."""


class _Use(NamedTuple):
    """Uses of parts of one kind: row `rows[i]` of a stage uses the part of `sizes[i]` `repeats[i]` times.

    `rows` and `repeats` are of shape (n,), `sizes` of shape (n, k).
    """

    kind: PartKind
    rows: IntArray
    sizes: IntArray
    repeats: IntArray


def check_is_predicted(space: SearchSpace) -> None:
    """Raises `UserError` for a space with a variant of the whole network, whose parts are not among those timed."""
    named = ", ".join(space.variant_words())
    if named:
        raise UserError(
            f"{space.name}: latency is predicted for networks with the paper's stem, residual connections and head, "
            f"got {named}: keep only the paper's in the space, or leave latency out, bound FLOPs or parameters, and "
            "measure what is found with `profile`"
        )


def _uses_in_blocks(table: StageTable) -> Iterator[_Use]:
    """Yields the uses of attention, MLPs and NLLs by the rows of a stage's table."""
    columns, all_rows = table.columns, np.arange(len(table))
    heads = np.array(table.choices.heads)[table.spelling[:, STAGE_DIMENSIONS.index("heads")]]
    for recursion in range(columns.groups.shape[1]):
        rows = np.flatnonzero(columns.recursions > recursion)
        groups = columns.groups[rows, recursion]
        permuted = table.permuted(recursion)[rows]
        sizes = np.column_stack([columns.width[rows], heads[rows], groups, permuted])
        yield _Use("attention", rows, sizes, columns.blocks[rows])
    yield _Use(
        "mlp", all_rows, np.column_stack([columns.width, columns.mlp_hidden]), columns.blocks * columns.recursions
    )
    rows = np.flatnonzero(columns.num_nlls > 0)
    sizes = np.column_stack([columns.width[rows], columns.nll_hidden[rows]])
    yield _Use("mlp", rows, sizes, (columns.blocks * columns.num_nlls)[rows])


def _stem_sizes(space: SearchSpace) -> IntArray:
    """Returns the sizes (see `Part`) of the stem of every choice of stage 1, of shape (choices, 6)."""
    width = choice_costs_of(space).width[0]
    rows = space.stage_tables[0].columns.width
    stem = np.concatenate([
        paper_stem_width(rows) if one.width is None else np.full(len(rows), one.width) for one in space.stem.stems
    ])  # fmt: skip
    shared = np.tile((space.channels, *space.stem.strides), (len(width), 1))
    return np.column_stack([shared[:, 0], stem, width, shared[:, 1:]])


def parts_of(space: SearchSpace) -> tuple[Part, ...]:
    """Returns the distinct parts of all networks of a space, sorted.

    Raises `UserError` for a space that `check_is_predicted` refuses.
    """
    check_is_predicted(space)
    costs, parts = choice_costs_of(space), set[Part]()
    sides = [isqrt(tokens) for tokens in space.num_tokens]

    def add(kind: PartKind, side: int, sizes: IntArray) -> None:
        """Adds the parts of all rows of `sizes`."""
        parts.update(Part(kind, side, tuple(row)) for row in np.unique(sizes, axis=0).tolist())

    add("stem", space.image_size, _stem_sizes(space))
    for side, table in zip(sides, space.stage_tables, strict=True):
        for use in _uses_in_blocks(table):
            add(use.kind, side, use.sizes)
    for side, links in zip(sides, costs.links, strict=False):
        parts.update(Part("pool", side, pair) for pair in links)
    parts.update(Part("head", sides[-1], (width, space.classes)) for width in np.unique(costs.width[-1]).tolist())
    return tuple(sorted(parts))


class LatencyFeatures:
    """The features of a space's choices and poolings.

    `stages[s]` is of shape (choices, features); `links[s]` maps two widths to an array of shape (features,).
    """

    def __init__(self, space: SearchSpace, part_times: Mapping[Part, float]) -> None:
        """Sums the features; `part_times` holds the microseconds of each of `parts_of(space)`."""
        self.space = space
        self._times = part_times
        costs, tables = choice_costs_of(space), space.stage_tables
        sides = [isqrt(tokens) for tokens in space.num_tokens]
        chain = chain_of(space)
        self.stages = [self._of_blocks(table, side) for table, side in zip(tables, sides, strict=True)]
        first = np.tile(self.stages[0], (len(costs.width[0]) // len(tables[0]), 1))
        first[:, 0] += self._of_parts("stem", space.image_size, _stem_sizes(space))
        self.stages[0] = first
        head = np.column_stack([costs.width[-1], np.full(len(costs.width[-1]), space.classes)])
        self.stages[-1][:, 0] += self._of_parts("head", sides[-1], head)
        self.stages[-1][:, 3] = 1.0
        params = chain.cost_names.index("params")
        for features, stage in zip(self.stages, chain.stages, strict=True):
            features[:, 1] = stage.costs[:, params]
        self.links = [
            {
                pair: np.array([part_times[Part("pool", side, pair)], cost[params], 0.0, 0.0])
                for pair, cost in links.items()
            }
            for side, links in zip(sides, chain.links, strict=False)
        ]  # fmt: skip

    def _of_blocks(self, table: StageTable, side: int) -> FloatArray:
        """Returns the features of a stage's rows without stem and head, of shape (rows, features)."""
        features = np.zeros((len(table), len(FEATURES)))
        for use in _uses_in_blocks(table):
            features[use.rows, 0] += use.repeats * self._of_parts(use.kind, side, use.sizes)
            features[use.rows, 2] += use.repeats * (use.kind == "attention")
        features[:, 2] += table.columns.blocks * table.columns.num_nlls
        return features

    def _of_parts(self, kind: PartKind, side: int, sizes: IntArray) -> FloatArray:
        """Returns the time of the part of each row of `sizes`, of shape (n,)."""
        distinct, row_index = np.unique(sizes, axis=0, return_inverse=True)
        times = np.array([self._times[Part(kind, side, tuple(row))] for row in distinct.tolist()])
        return times[row_index.ravel()]

    def of_network(self, arch: ArchConfig) -> FloatArray:
        """Returns the features of a network of the space, of shape (features,)."""
        features: FloatArray = _sum_along(self.space, arch, self.stages, self.links)
        return features


def _sum_along(space: SearchSpace, arch: ArchConfig, stages: Sequence[Any], links: Sequence[Mapping[Any, Any]]) -> Any:
    """Sums the entries of a network's choices and links. Raises `UserError` if it is not in the space."""
    point = choice_costs_of(space).choices(space, arch)
    widths = (stage.width for stage in arch.stages)
    return sum(stage[choice] for stage, choice in zip(stages, point, strict=True)) + sum(
        between[pair] for between, pair in zip(links, pairwise(widths), strict=True)
    )


MAX_LATENCY_US = 1e12
"""Largest term of a choice: a million seconds. Sums of several terms stay far below 2**63."""


class LatencyTable:
    """The predicted latency of a space's networks in whole microseconds, as an additive cost.

    `stages[s]` is of shape (choices,); `links[s]` maps the widths of two neighbours to the term of their pooling.
    """

    def __init__(self, space: SearchSpace, profile: LatencyProfile) -> None:
        """Computes all terms. Raises `UserError` if the profile lacks a part of the space or predicts absurd times."""
        self.space = space
        self.profile = profile
        times = dict(profile.parts)
        if missing := next((part for part in parts_of(space) if part not in times), None):
            raise UserError(f"the latency profile of {space.name} lacks the part {describe(tuple(missing))}: delete it")
        absurd = UserError(f"the latency profile of {space.name} predicts years: it was edited, delete it")
        if not all(abs(time) <= MAX_LATENCY_US for time in times.values()):  # sums of such times overflow
            raise absurd
        features = LatencyFeatures(space, times)
        coefficients = np.array(profile.coefficients)

        def whole(values: FloatArray) -> IntArray:
            """Returns the predicted microseconds of features of shape (..., features), rounded, of shape (...).

            Raises `UserError` for numbers that no measurement gives.
            """
            # Not a matrix product: its order of summation, and so its rounding, depends on the machine.
            exact = (values * coefficients).sum(axis=-1)
            if not np.all(np.abs(exact) <= MAX_LATENCY_US):
                raise absurd
            rounded: IntArray = np.rint(exact).astype(np.int64)
            return rounded

        self.stages = [whole(stage) for stage in features.stages]
        self.links = [{pair: int(whole(value)) for pair, value in links.items()} for links in features.links]

    def latency(self, arch: ArchConfig) -> int:
        """Returns the predicted latency of a network in microseconds. Raises `UserError` if it is not in the space."""
        return int(_sum_along(self.space, arch, self.stages, self.links))

    @cached_property
    def chain(self) -> Chain:
        """The chain of the space with latency as its last cost."""
        chain = chain_of(self.space)
        stages = tuple(
            replace(stage, costs=np.column_stack([stage.costs, latency]))
            for stage, latency in zip(chain.stages, self.stages, strict=True)
        )
        links = tuple(
            {pair: (*costs, latencies[pair]) for pair, costs in stage.items()}
            for stage, latencies in zip(chain.links, self.links, strict=True)
        )
        return replace(chain, cost_names=(*chain.cost_names, "latency"), stages=stages, links=links)
