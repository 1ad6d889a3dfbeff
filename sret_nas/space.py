"""A search space: which architectures a search may propose, as plain data in YAML.

A space lists choices per stage. Its networks are the distinct ones among all combinations: a combination that breaks a
rule of `StageConfig` is left out, and spellings of one network (see `ArchConfig.canonical`) count once. Which stages
are distinct depends on no other stage, so the space is the product of one table of distinct stages per stage (and of
the widths of the stem), which is how it is counted, costed in bulk and searched.

`search_spaces/README.md` explains every key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import product
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError

from sret_nas.arch import ArchConfig, Loop, NLLPlacement, Ratio, StageConfig, StemConfig, halved, hidden_width
from sret_nas.cost import IntArray, StageColumns
from sret_nas.errors import UserError
from sret_nas.files import read_yaml, validate

DepthSchedule = Literal["full", "joint", "sandwich", "random", "growing"]
"""How recursion depths are trained together: a searched part of the recipe, never of the architecture."""

Value = int | float | str
"""One choice of a flat dimension, as Optuna's categorical parameters take it."""

_LOOPS: tuple[Loop, ...] = ("internal", "external")
_NLLS: tuple[NLLPlacement, ...] = ("every", "between", "last", "none")

MAX_SPELLINGS = 1_000_000
"""Combinations that one stage may spell; its table is held in memory."""

Item = TypeVar("Item")


def _must_be_list(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise ValueError(f"must be a list of choices, got {value!r}; a single choice is a list of one: [{value}]")
    return value


def _must_be_schedule(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise ValueError(f"must be a schedule, one number per recursion, got {value!r}; [{value}] repeats it")
    return value


def _must_be_distinct(values: tuple[Item, ...]) -> tuple[Item, ...]:
    for position, value in enumerate(values):
        if value in values[:position]:
            raise ValueError(f"must list every choice once, got {_spell(value)} twice")
    return values


def _must_be_distinct_schedules(schedules: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
    _must_be_distinct(schedules)
    seen: dict[tuple[int, ...], tuple[int, ...]] = {}
    for schedule in schedules:
        spelled_out = schedule_of(schedule, max(map(len, schedules)))
        if spelled_out in seen:
            raise ValueError(
                f"must list every schedule once, got {_spell(seen[spelled_out])} and {_spell(schedule)}, "
                "which mean the same because the last number is repeated"
            )
        seen[spelled_out] = schedule
    return schedules


def _spell(value: Any) -> str:
    return str(list(value)) if isinstance(value, tuple) else str(value)


_list = BeforeValidator(_must_be_list)
_distinct = AfterValidator(_must_be_distinct)
_some = Field(min_length=1)

Widths = Annotated[tuple[Annotated[StrictInt, Field(ge=1, le=8192)], ...], _some, _list, _distinct]
Ratios = Annotated[tuple[Ratio, ...], _some, _list, _distinct]
Schedule = Annotated[
    tuple[Annotated[StrictInt, Field(ge=1, le=1_000_000)], ...],
    Field(min_length=1, max_length=16),
    BeforeValidator(_must_be_schedule),
]


class StageChoices(BaseModel):
    """What may vary in one stage; every key is a list of the values that `StageConfig` may take there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: Widths
    heads: Annotated[tuple[Annotated[StrictInt, Field(ge=1, le=512)], ...], _some, _list, _distinct]
    blocks: Annotated[tuple[Annotated[StrictInt, Field(ge=1, le=128)], ...], _some, _list, _distinct]
    recursions: Annotated[tuple[Annotated[StrictInt, Field(ge=1, le=16)], ...], _some, _list, _distinct]
    groups: Annotated[tuple[Schedule, ...], _some, _list, AfterValidator(_must_be_distinct_schedules)]
    """Whole schedules, one number per recursion; one that is too short repeats its last number."""
    loop: Annotated[tuple[Loop, ...], _some, _list, _distinct]
    nll: Annotated[tuple[NLLPlacement, ...], _some, _list, _distinct]
    nll_ratio: Ratios
    mlp_ratio: Ratios

    @property
    def num_spellings(self) -> int:
        """Combinations of the listed values, illegal and repeated ones included."""
        return prod(len(getattr(self, name)) for name in STAGE_DIMENSIONS)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.num_spellings > MAX_SPELLINGS:
            raise ValueError(
                f"a stage must spell at most {MAX_SPELLINGS:,} combinations, got {self.num_spellings:,}; "
                "list fewer values"
            )
        widths = f"and widths are {_spell(self.width)}"
        for name in ("nll_ratio", "mlp_ratio"):
            self._check_useful(
                name,
                lambda ratio: hidden_width(max(self.width), ratio) >= 1,
                f"{name} * width must be at least 1, {widths}",
            )
        self._check_useful(
            "heads", lambda heads: any(w % heads == 0 for w in self.width), f"heads must divide width, {widths}"
        )
        others = list(product(self.heads, self.nll_ratio, self.mlp_ratio))
        self._check_useful(
            "width",
            lambda width: any(is_legal(width, *other) for other in others),
            f"heads must divide width and ratio * width be at least 1, and heads are {_spell(self.heads)}, "
            f"nll_ratio {_spell(self.nll_ratio)}, mlp_ratio {_spell(self.mlp_ratio)}",
        )
        return self

    def _check_useful(self, name: str, is_useful: Callable[[Any], bool], rule: str) -> None:
        """Raises if a value of one dimension is in no legal stage.

        Every width that passes is legal with some heads and ratios, and each of those with any other such ratio, so
        that to find one width for every value of the other dimensions is enough.
        """
        for position, value in enumerate(getattr(self, name)):
            if not is_useful(value):
                raise _error_at((name, position), f"{value} is in no legal network: {rule}", value)


def _error_at(location: tuple[str | int, ...], problem: str, value: object) -> ValidationError:
    """A validation error at a place inside the model that raises it; a `ValueError` would name the model only."""
    kind = PydanticCustomError("value_error", "{error}", {"error": problem})
    return ValidationError.from_exception_data("StageChoices", [InitErrorDetails(type=kind, loc=location, input=value)])


STAGE_DIMENSIONS = tuple(StageChoices.model_fields)


def is_legal(width: int, heads: int, nll_ratio: float, mlp_ratio: float) -> bool:
    """Whether `StageConfig` accepts these together; its other values cannot contradict each other."""
    return width % heads == 0 and hidden_width(width, nll_ratio) >= 1 and hidden_width(width, mlp_ratio) >= 1


def schedule_of(groups: tuple[int, ...], recursions: int) -> tuple[int, ...]:
    """The group count of every recursion: the schedule cut to `recursions`, or its last number repeated."""
    return (groups + groups[-1:] * recursions)[:recursions]


class StageTable:
    """The distinct stages that one `StageChoices` spells, as columns of shape (rows,); a row is one canonical stage.

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
        found = np.flatnonzero((self.key == np.array(wanted)).all(axis=1))
        return int(found[0]) if len(found) else None


@lru_cache(maxsize=64)
def _stage_table(choices: StageChoices, num_tokens: int) -> StageTable:
    """Tables are kept here and not in the spaces, which so stay small to pickle and safe to copy."""
    return StageTable(choices, num_tokens)


_KEY_COLUMNS = ("width", "blocks", "recursions", "mlp_hidden", "num_nlls", "nll_hidden", "heads", "loop", "nll")
"""What tells two stages apart, with the group schedule after it; `loop` and `nll` as positions in `_LOOPS`, `_NLLS`."""


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


class StemChoices(BaseModel):
    """What may vary in the stem."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: Widths | None = None
    """Output channels of the first convolution; null is the paper's half of the first stage's width."""
    strides: tuple[Literal[1, 2], Literal[1, 2], Literal[1, 2]] = (2, 2, 2)


class SearchSpace(BaseModel):
    """All networks that a search may propose. Equal content has an equal `digest`; instances are read-only."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=100)]
    description: str = ""
    image_size: Annotated[StrictInt, Field(ge=8, le=4096)] = 224
    """Side of the square input for which networks are meant and costed, in pixels."""
    channels: Annotated[StrictInt, Field(ge=1, le=1024)] = 3
    classes: Annotated[StrictInt, Field(ge=1, le=1_000_000)] = 1000
    drop_path: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False, strict=True)] = 0.0
    stem: StemChoices = StemChoices()
    stages: Annotated[tuple[StageChoices, ...], Field(min_length=1, max_length=8)]
    depth_schedules: Annotated[tuple[DepthSchedule, ...], _some, _list, _distinct] = ("full",)
    """How depths may be trained together: part of the recipe that is searched, not of the architecture."""

    @classmethod
    def load(cls, name_or_path: str | Path) -> SearchSpace:
        """A shipped space by its name, or the space in a YAML file. Raises `UserError` and `ConfigError`."""
        shipped = shipped_spaces()
        path = shipped.get(str(name_or_path), Path(name_or_path))
        if not path.exists():
            raise UserError(
                f"{name_or_path}: there is no such file and no such shipped search space; "
                f"the shipped ones are {', '.join(shipped)}"
            )
        return cls.from_dict(read_yaml(path), str(path))

    @classmethod
    def from_dict(cls, data: Any, source: str = "search space") -> SearchSpace:
        """A space from plain data, as YAML gives it. Raises `ConfigError` naming `source` and the key path."""
        return validate(cls, data, source)

    def to_dict(self) -> dict[str, Any]:
        """Plain data that `from_dict` turns into an equal space."""
        return self.model_dump(mode="json")

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits of all that decides what is searched; name and description do not."""
        content = self.model_dump(mode="json", exclude={"name", "description"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def num_tokens(self) -> tuple[int, ...]:
        """Tokens (N) in each stage, the same for all networks of the space."""
        side = self.image_size
        for stride in self.stem.strides:
            side = halved(side) if stride == 2 else side
        tokens = []
        for _ in self.stages:
            tokens.append(side * side)
            side = halved(side)
        return tuple(tokens)

    @property
    def stage_choices(self) -> tuple[StageTable, ...]:
        """The distinct stages of each stage."""
        return tuple(_stage_table(stage, tokens) for stage, tokens in zip(self.stages, self.num_tokens, strict=True))

    @property
    def num_networks(self) -> int:
        """How many distinct networks there are, exactly: the number of different `arch_id`s."""
        return len(self.stem.width or (None,)) * prod(len(table) for table in self.stage_choices)

    def network(self, rows: Sequence[int], stem_width: int | None = None) -> ArchConfig:
        """The network made of one row of each table of `stage_choices`; without `stem_width` the paper's stem."""
        stages = tuple(table.stage(row) for table, row in zip(self.stage_choices, rows, strict=True))
        return self._assemble(stages, stem_width)

    def _assemble(self, stages: tuple[StageConfig, ...], stem_width: int | None) -> ArchConfig:
        width = max(1, stages[0].width // 2) if stem_width is None else stem_width
        return ArchConfig(
            stages=stages, stem=StemConfig(width=width, strides=self.stem.strides), image_size=self.image_size,
            channels=self.channels, classes=self.classes, drop_path=self.drop_path,
        )  # fmt: skip

    def dimensions(self) -> dict[str, tuple[Value, ...]]:
        """The choices as flat categorical dimensions: `stem.width` where listed, `stage1.width`, ..., `depth_schedule`.

        A group schedule is spelled with dashes, `8-2`.
        """
        dimensions: dict[str, tuple[Value, ...]] = {"stem.width": self.stem.width} if self.stem.width else {}
        for number, stage in enumerate(self.stages, start=1):
            for name in STAGE_DIMENSIONS:
                dimensions[f"stage{number}.{name}"] = tuple(_label(value) for value in getattr(stage, name))
        return dimensions | {"depth_schedule": self.depth_schedules}

    def decode(self, values: Mapping[str, Value]) -> ArchConfig | None:
        """The network that a choice in every dimension means; None where the combination is no legal network.

        `depth_schedule` is not looked at. Raises `UserError` for a missing dimension or a value that is not listed.
        """
        chosen = {name: self._listed(values, name) for name in self.dimensions() if name != "depth_schedule"}
        stages = []
        for number in range(1, len(self.stages) + 1):
            stage = {name: chosen[f"stage{number}.{name}"] for name in STAGE_DIMENSIONS}
            if not is_legal(stage["width"], stage["heads"], stage["nll_ratio"], stage["mlp_ratio"]):
                return None
            stage["groups"] = schedule_of(stage["groups"], stage["recursions"])
            stages.append(StageConfig(**stage))
        return self._assemble(tuple(stages), chosen.get("stem.width")).canonical()

    def _listed(self, values: Mapping[str, Value], name: str) -> Any:
        """The space's own value behind the one given for a dimension."""
        place, _, key = name.partition(".")
        owner = self.stem if place == "stem" else self.stages[int(place.removeprefix("stage")) - 1]
        listed: tuple[Any, ...] = getattr(owner, key)
        for value in listed:
            if name in values and _label(value) == values[name]:
                return value
        labels = ", ".join(str(_label(value)) for value in listed)
        raise UserError(f"{name} must be one of {labels}, got {values.get(name)!r}")

    def encode(self, arch: ArchConfig) -> dict[str, Value]:
        """A choice in every dimension but `depth_schedule` that `decode` turns into an equal network.

        Raises `UserError` if the network is not in the space.
        """
        rows = self._rows_of(arch)
        if rows is None:
            raise UserError(f"{self.name}: the network {arch.arch_id} ({arch.summary()}) is not in this search space")
        values: dict[str, Value] = {"stem.width": arch.stem.width} if self.stem.width else {}
        for number, (table, row) in enumerate(zip(self.stage_choices, rows, strict=True), start=1):
            values |= {f"stage{number}.{name}": _label(value) for name, value in table.values(row).items()}
        return values

    def contains(self, arch: ArchConfig) -> bool:
        """Whether an equal network (one with the same `arch_id`) is in the space."""
        return self._rows_of(arch) is not None

    def _rows_of(self, arch: ArchConfig) -> tuple[int, ...] | None:
        target = (self.image_size, self.channels, self.classes, self.drop_path, self.stem.strides, len(self.stages))
        if target != (
            arch.image_size, arch.channels, arch.classes, arch.drop_path, arch.stem.strides, len(arch.stages)
        ):  # fmt: skip
            return None
        if arch.stem.width not in (self.stem.width or (max(1, arch.stages[0].width // 2),)):
            return None
        rows = [table.row_of(stage) for table, stage in zip(self.stage_choices, arch.stages, strict=True)]
        found = tuple(row for row in rows if row is not None)
        return found if len(found) == len(rows) else None

    def effective_schedules(self, arch: ArchConfig) -> tuple[DepthSchedule, ...]:
        """The space's depth schedules that differ for this network, under their canonical names, in order."""
        return tuple(dict.fromkeys(canonical_schedule(arch, schedule) for schedule in self.depth_schedules))


def canonical_schedule(arch: ArchConfig, schedule: DepthSchedule) -> DepthSchedule:
    """The plainest schedule that trains this network alike.

    One recursion leaves one depth to train, whatever the schedule; of two, the shallowest and the deepest are all.
    """
    if arch.max_recursions == 1:
        return "full"
    return "joint" if arch.max_recursions == 2 and schedule == "sandwich" else schedule


def _label(value: Any) -> Value:
    """A listed value as a categorical choice."""
    label: Value = "-".join(map(str, value)) if isinstance(value, tuple) else value
    return label


def shipped_spaces() -> dict[str, Path]:
    """The search spaces that come with this package, by name: beside it in a checkout, inside it once installed."""
    package = Path(__file__).resolve().parent
    folder = next((f for f in (package / "search_spaces", package.parent / "search_spaces") if f.is_dir()), package)
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}
