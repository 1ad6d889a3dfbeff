"""Table of the distinct stages that one stage's choices allow.

The spellings of a stage are all combinations of its listed values. Spellings that `StageConfig` refuses are dropped,
and spellings that `StageConfig.canonical` makes equal share one row. Both steps work on arrays of all spellings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from sret_nas.arch.cost import StageColumns
from sret_nas.arch.parts import Loop, NLLPlacement, StageConfig
from sret_nas.arch.sizes import hidden_width
from sret_nas.arrays import IntArray
from sret_nas.space.choices import StageChoices, is_legal, schedule_of

_LOOPS: tuple[Loop, ...] = ("internal", "external")
"""The loop orders; a key holds positions in here."""

_NLLS: tuple[NLLPlacement, ...] = ("every", "between", "last", "none")
"""The placements of NLLs; a key holds positions in here."""

_NUM_NLLS_OF_ONE = np.array(
    [StageConfig(width=1, heads=1, blocks=1, recursions=1, groups=(1,), nll=nll).num_nlls for nll in _NLLS]
)
"""NLLs that follow each block if it is applied once, by the positions in `_NLLS`."""

MAX_KEPT_STAGES = 4096
"""Stages that a table keeps when they were asked for: a kilobyte each, which takes a tenth of a millisecond to make."""

_KEY_COLUMNS = (
    "width", "blocks", "recursions", "mlp_hidden", "num_nlls", "nll_hidden", "heads", "loop", "nll",
    "permute", "inverse", "permute_single",
)  # fmt: skip
"""Columns of a key, followed by the group schedule; stages with equal keys are equal."""


class StageTable:
    """The distinct stages of one `StageChoices` on `num_tokens` tokens (N); each row is one canonical stage.

    Attributes:
        key: Canonical key of each row, of shape (rows, `_KEY_COLUMNS` and group counts).
        spelling: For each row and each dimension of the choices, the position of the listed value, of shape (rows,
            dimensions). Of several spellings the first is used.
        columns: The rows as arguments of the cost formulas.
    """

    def __init__(self, choices: StageChoices, num_tokens: int) -> None:
        """Finds the distinct stages of the listed values on `num_tokens` tokens of the image (N)."""
        self.choices = choices
        self.num_tokens = num_tokens
        self._stages: dict[int, StageConfig] = {}
        shape = [len(getattr(choices, name)) for name in choices.dimensions]
        position = dict(zip(choices.dimensions, np.indices(shape).reshape(len(shape), -1), strict=True))
        key = _canonical_key(choices, num_tokens, position)
        legal = np.flatnonzero(_is_legal_spelling(choices, position))
        first = legal[_first_of_equal_rows(key[legal])]
        self.key: IntArray = key[first]
        self.spelling: IntArray = np.stack(list(position.values()), axis=1)[first]

        self.columns = StageColumns(
            **{name: np.ascontiguousarray(self.key[:, column]) for column, name in enumerate(_KEY_COLUMNS[:6])},
            groups=np.ascontiguousarray(self.key[:, len(_KEY_COLUMNS) :]),
        )

    def __len__(self) -> int:
        return len(self.key)

    @cached_property
    def keeps_all_tokens(self) -> npt.NDArray[np.bool_]:
        """Masks the rows whose attention always sees all tokens, in their places, as class tokens need it; (rows,)."""
        is_whole = (self.columns.groups == 1).all(axis=1)
        mask: npt.NDArray[np.bool_] = is_whole & (self.key[:, _KEY_COLUMNS.index("permute_single")] == 0)
        return mask

    def costs(self, class_tokens: int, coefficients: int) -> tuple[IntArray, IntArray, IntArray]:
        """Returns FLOPs, parameters, and FLOPs of one recursion, of shape (rows,) each.

        Args:
            class_tokens: Tokens that join those of the image, which count in the costs alone.
            coefficients: Coefficients of each residual connection.
        """
        cost = self.columns.cost(self.num_tokens + class_tokens, coefficients)
        once = replace(
            self.columns, recursions=np.ones_like(self.columns.recursions),
            num_nlls=_NUM_NLLS_OF_ONE[self.key[:, _KEY_COLUMNS.index("nll")]],
        )  # fmt: skip
        return cost.flops, cost.params, once.cost(self.num_tokens + class_tokens, coefficients).flops

    def stage(self, row: int) -> StageConfig:
        """Returns the stage of one row, in canonical form."""
        if row in self._stages:
            return self._stages[row]
        values = self.values(row)
        groups = schedule_of(values.pop("groups"), values["recursions"])
        stage = StageConfig(groups=groups, **values).canonical(self.num_tokens)
        if len(self._stages) < MAX_KEPT_STAGES:
            self._stages[row] = stage
        return stage

    def permuted(self, recursion: int) -> IntArray:
        """Returns whether each row permutes its tokens in a recursion (from 0), of shape (rows,).

        0 stands for no, 1 for yes and put back into their order, 2 for yes and left as they are.
        """
        permute, inverse, single = (self.key[:, _KEY_COLUMNS.index(name)] for name in StageChoices.VARIANTS)
        groups = self.columns.groups[:, recursion]
        is_cut = (groups > 1) & (groups < self.num_tokens)
        is_moved = is_cut | ((single == 1) & (groups == 1) & (self.num_tokens > 1))
        is_permuted = (permute == 1) & (recursion > 0) & (recursion < self.columns.recursions) & is_moved
        return np.where(is_permuted, 2 - inverse, 0)

    def values(self, row: int) -> dict[str, Any]:
        """Returns the listed values that spell one row, by dimension."""
        return {
            name: getattr(self.choices, name)[position]
            for name, position in zip(self.choices.dimensions, self.spelling[row].tolist(), strict=True)
        }

    def row_of(self, stage: StageConfig) -> int | None:
        """Returns the row of the stage that equals the given one, however it is spelled; None without one."""
        stage = stage.canonical(self.num_tokens)
        max_recursions = self.columns.groups.shape[1]
        if len(stage.groups) > max_recursions:
            return None
        groups = stage.groups + (1,) * (max_recursions - len(stage.groups))
        nll_hidden = stage.nll_hidden if stage.num_nlls else 0
        key = (stage.width, stage.blocks, stage.recursions, stage.mlp_hidden, stage.num_nlls, nll_hidden,
                  stage.heads, _LOOPS.index(stage.loop), _NLLS.index(stage.nll),
                  stage.permute, stage.inverse, stage.permute_single, *groups)  # fmt: skip
        return self._row_with.get(key)

    @cached_property
    def _row_with(self) -> dict[tuple[int, ...], int]:
        """The row of each key."""
        return {tuple(key): row for row, key in enumerate(self.key.tolist())}


def _tabulate(function: Callable[..., int], *choices: Sequence[Any]) -> IntArray:
    """Evaluates a function on every combination of the lists; the result has one axis per list."""
    values = [function(*combination) for combination in product(*choices)]
    return np.array(values, dtype=np.int64).reshape([len(listed) for listed in choices])


def _canonical_key(choices: StageChoices, num_tokens: int, position: Mapping[str, IntArray]) -> IntArray:
    """Returns the canonical key of every spelling, of shape (spellings, columns).

    Equal keys mean equal stages, in agreement with `StageConfig.canonical` and `ArchConfig.arch_id`. `position` holds,
    for each dimension, the positions of the listed values, of shape (spellings,).
    """
    column: dict[str, IntArray] = {
        name: np.array(getattr(choices, name), dtype=np.int64)[position[name]]
        for name in ("width", "heads", "blocks", "recursions")
    }
    width, recursions = position["width"], position["recursions"]

    hidden = _tabulate(hidden_width, choices.width, choices.mlp_ratio)
    column["mlp_hidden"] = hidden[width, position["mlp_ratio"]]

    def canonical_stage(nll: NLLPlacement, recursions: int) -> StageConfig:
        """Returns a small stage whose placement and number of NLLs are those of all stages with these values."""
        return StageConfig(
            width=1, heads=1, blocks=1, recursions=recursions, groups=(1,) * recursions, nll=nll
        ).canonical(1)

    placement = _tabulate(
        lambda nll, count: _NLLS.index(canonical_stage(nll, count).nll), choices.nll, choices.recursions
    )
    num_nlls = _tabulate(lambda nll, count: canonical_stage(nll, count).num_nlls, choices.nll, choices.recursions)
    column["nll"] = placement[position["nll"], recursions]
    column["num_nlls"] = num_nlls[position["nll"], recursions]
    hidden = _tabulate(hidden_width, choices.width, choices.nll_ratio)
    column["nll_hidden"] = np.where(column["num_nlls"] > 0, hidden[width, position["nll_ratio"]], 0)

    loop = _tabulate(_LOOPS.index, choices.loop)[position["loop"]]
    column["loop"] = np.where((column["recursions"] == 1) | (column["blocks"] == 1), 0, loop)

    max_recursions = max(choices.recursions)
    schedules = np.array([schedule_of(groups, max_recursions) for groups in choices.groups], dtype=np.int64)
    groups = np.minimum(schedules, num_tokens)[position["groups"]]
    is_run = np.arange(max_recursions) < column["recursions"][:, None]
    groups = np.where(is_run, groups, 1)
    column |= _canonical_permutation(choices, num_tokens, position, groups[:, 1:], is_run[:, 1:])
    return np.column_stack([*(column[name] for name in _KEY_COLUMNS), groups])


def _canonical_permutation(
    choices: StageChoices, num_tokens: int, position: Mapping[str, IntArray], groups: IntArray,
    is_run: npt.NDArray[np.bool_],
) -> dict[str, IntArray]:  # fmt: skip
    """Returns the canonical `permute`, `inverse` and `permute_single` of every spelling, of shape (spellings,) each.

    It agrees with `StageConfig.canonical`, where fields without effect have their defaults.

    Args:
        choices: The listed values.
        num_tokens: Tokens of the image (N).
        position: The positions of the listed values, as in `_canonical_key`.
        groups: Slices of the second recursion and later ones, of shape (spellings, recursions).
        is_run: Which of these recursions are run, likewise.
    """
    permute, inverse, single = (
        np.array(getattr(choices, name))[position[name]]
        if name in position
        else np.full(len(groups), getattr(choices, name)[0])
        for name in StageChoices.VARIANTS
    )
    has_slices = (is_run & (groups > 1) & (groups < num_tokens)).any(axis=1)
    has_single = (is_run & (groups == 1)).any(axis=1) & (num_tokens > 1)
    single = single & permute & ~inverse & has_single
    matters = has_slices | single
    return {
        "permute": (permute | ~matters).astype(np.int64),
        "inverse": (inverse | ~permute | ~matters).astype(np.int64),
        "permute_single": single.astype(np.int64),
    }


def _is_legal_spelling(choices: StageChoices, position: Mapping[str, IntArray]) -> npt.NDArray[np.bool_]:
    """Masks the spellings that `StageConfig` accepts, of shape (spellings,)."""
    names = ("width", "heads", "nll_ratio", "mlp_ratio")
    legal = _tabulate(is_legal, *(getattr(choices, name) for name in names))
    return legal[tuple(position[name] for name in names)].astype(bool)


def _first_of_equal_rows(rows: IntArray) -> IntArray:
    """Returns the positions of the rows that equal no earlier row, in ascending order."""
    code = np.zeros(len(rows), dtype=np.int64)
    for column in rows.T:
        # Ranking after every column keeps the code below rows * rows, far from overflow.
        values, rank = np.unique(column, return_inverse=True)
        if len(values) > 1:
            code = np.unique(code * len(values) + rank, return_inverse=True)[1]
    return np.sort(np.unique(code, return_index=True)[1])
