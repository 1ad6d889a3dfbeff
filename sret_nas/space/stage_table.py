"""The distinct stages of one stage's choices, as a table: found, costed and looked up in bulk.

The spellings of a stage are all combinations of its listed values. Those that `StageConfig` refuses are left out, and
those that `StageConfig.canonical` makes equal are one row. Both are decided for all spellings at once, by arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from sret_nas.arch.config import Loop, NLLPlacement, StageConfig, hidden_width
from sret_nas.arch.cost import StageColumns
from sret_nas.arrays import IntArray
from sret_nas.space.choices import STAGE_DIMENSIONS, StageChoices, is_legal, schedule_of

_LOOPS: tuple[Loop, ...] = ("internal", "external")
"""The loop orders by the position that stands for them in a key."""

_NLLS: tuple[NLLPlacement, ...] = ("every", "between", "last", "none")
"""The placements of NLLs by the position that stands for them in a key."""

_KEY_COLUMNS = ("width", "blocks", "recursions", "mlp_hidden", "num_nlls", "nll_hidden", "heads", "loop", "nll")
"""What tells two stages apart, with the group schedule after it; `loop` and `nll` as positions in `_LOOPS`, `_NLLS`."""


class StageTable:
    """The distinct stages that one `StageChoices` spells where it sees `num_tokens` tokens (N).

    Columns are of shape (rows,); a row is one canonical stage.

    `columns` costs them in bulk; `flops` and `params` are their costs. `spelling` of shape (rows, 9) holds, for each of
    `STAGE_DIMENSIONS`, the position of the value that spells the row, in its first spelling.
    """

    def __init__(self, choices: StageChoices, num_tokens: int) -> None:
        self.choices = choices
        self.num_tokens = num_tokens
        shape = [len(getattr(choices, name)) for name in STAGE_DIMENSIONS]
        position = dict(zip(STAGE_DIMENSIONS, np.indices(shape).reshape(len(shape), -1), strict=True))
        key = _canonical_key(choices, num_tokens, position)
        legal = np.flatnonzero(_is_legal_spelling(choices, position))
        first = legal[_first_of_equal_rows(key[legal])]
        self.key: IntArray = key[first]
        self.spelling: IntArray = np.stack(list(position.values()), axis=1)[first]

        self.columns = StageColumns(
            **{name: np.ascontiguousarray(self.key[:, column]) for column, name in enumerate(_KEY_COLUMNS[:6])},
            groups=np.ascontiguousarray(self.key[:, len(_KEY_COLUMNS) :]),
        )
        terms = self.columns.terms(num_tokens)
        self.flops: IntArray = terms.flops
        self.params: IntArray = terms.params

    def __len__(self) -> int:
        return len(self.key)

    def stage(self, row: int) -> StageConfig:
        """The stage of one row, in canonical form."""
        values = self.values(row)
        groups = schedule_of(values.pop("groups"), values["recursions"])
        return StageConfig(groups=groups, **values).canonical(self.num_tokens)

    def values(self, row: int) -> dict[str, Any]:
        """The listed values that spell one row, by dimension."""
        return {
            name: getattr(self.choices, name)[position]
            for name, position in zip(STAGE_DIMENSIONS, self.spelling[row].tolist(), strict=True)
        }

    def row_of(self, stage: StageConfig) -> int | None:
        """The row of an equal stage, however it is spelled; None if the space has none."""
        stage = stage.canonical(self.num_tokens)
        most = self.columns.groups.shape[1]
        if len(stage.groups) > most:
            return None
        groups = stage.groups + (1,) * (most - len(stage.groups))
        nll_hidden = stage.nll_hidden if stage.num_nlls else 0
        wanted = (stage.width, stage.blocks, stage.recursions, stage.mlp_hidden, stage.num_nlls, nll_hidden,
                  stage.heads, _LOOPS.index(stage.loop), _NLLS.index(stage.nll), *groups)  # fmt: skip
        return self._row_with.get(wanted)

    @cached_property
    def _row_with(self) -> dict[tuple[int, ...], int]:
        """The row of every key."""
        return {tuple(key): row for row, key in enumerate(self.key.tolist())}


def _tabulate(function: Callable[..., int], *choices: Sequence[Any]) -> IntArray:
    """`function` of every combination of a few lists, as an array with one axis per list."""
    values = [function(*combination) for combination in product(*choices)]
    return np.array(values, dtype=np.int64).reshape([len(listed) for listed in choices])


def _canonical_key(choices: StageChoices, num_tokens: int, position: Mapping[str, IntArray]) -> IntArray:
    """What `StageConfig.canonical` and `ArchConfig.arch_id` make of every spelling, of shape (spellings, columns)."""
    column: dict[str, IntArray] = {
        name: np.array(getattr(choices, name), dtype=np.int64)[position[name]]
        for name in ("width", "heads", "blocks", "recursions")
    }
    width, recursions = position["width"], position["recursions"]

    hidden = _tabulate(hidden_width, choices.width, choices.mlp_ratio)
    column["mlp_hidden"] = hidden[width, position["mlp_ratio"]]

    def canonical_stage(nll: NLLPlacement, recursions: int) -> StageConfig:
        return StageConfig(
            width=1, heads=1, blocks=1, recursions=recursions, groups=(1,) * recursions, nll=nll
        ).canonical(1)

    placement = _tabulate(
        lambda nll, count: _NLLS.index(canonical_stage(nll, count).nll), choices.nll, choices.recursions
    )
    number = _tabulate(lambda nll, count: canonical_stage(nll, count).num_nlls, choices.nll, choices.recursions)
    column["nll"] = placement[position["nll"], recursions]
    column["num_nlls"] = number[position["nll"], recursions]
    hidden = _tabulate(hidden_width, choices.width, choices.nll_ratio)
    column["nll_hidden"] = np.where(column["num_nlls"] > 0, hidden[width, position["nll_ratio"]], 0)

    loop = _tabulate(_LOOPS.index, choices.loop)[position["loop"]]
    column["loop"] = np.where((column["recursions"] == 1) | (column["blocks"] == 1), 0, loop)

    most = max(choices.recursions)
    schedules = np.array([schedule_of(groups, most) for groups in choices.groups], dtype=np.int64)
    groups = np.minimum(schedules, num_tokens)[position["groups"]]
    groups = np.where(np.arange(most) < column["recursions"][:, None], groups, 1)
    return np.column_stack([*(column[name] for name in _KEY_COLUMNS), groups])


def _is_legal_spelling(choices: StageChoices, position: Mapping[str, IntArray]) -> npt.NDArray[np.bool_]:
    names = ("width", "heads", "nll_ratio", "mlp_ratio")
    legal = _tabulate(is_legal, *(getattr(choices, name) for name in names))
    return legal[tuple(position[name] for name in names)].astype(bool)


def _first_of_equal_rows(rows: IntArray) -> IntArray:
    """Positions of the rows that equal no earlier one, in order."""
    code = np.zeros(len(rows), dtype=np.int64)
    for column in rows.T:
        # Ranking after every column keeps the code below rows * rows, far from overflow.
        values, rank = np.unique(column, return_inverse=True)
        if len(values) > 1:
            code = np.unique(code * len(values) + rank, return_inverse=True)[1]
    return np.sort(np.unique(code, return_index=True)[1])
