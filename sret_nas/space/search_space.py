"""A search space: the architectures that a search may propose, as plain data in YAML.

A space lists choices per stage. Its networks are the distinct ones among all combinations: combinations that break a
rule of `StageConfig` are dropped, and all spellings of one network (see `ArchConfig.canonical`) count once. Whether two
stages are equal does not depend on the other stages. The space is therefore the product of one `StageTable` per stage
(and of the stems, residual connections and heads), and it is counted, costed and searched as such.

`docs/search-spaces.md` explains every key.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, PrivateAttr, StrictInt, model_validator

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.parts import Head, Residual, StageConfig, WithVariants
from sret_nas.arch.sizes import token_sides
from sret_nas.arrays import IntArray
from sret_nas.errors import UserError
from sret_nas.files import as_path, short_digest, validate
from sret_nas.space.choices import (
    MAX_SPELLINGS,
    Listed,
    OneOrListed,
    StageChoices,
    StemChoice,
    StemChoices,
    error_at,
    is_legal,
    schedule_of,
)
from sret_nas.space.stage_table import StageTable
from sret_nas.space.tables import SpaceTables
from sret_nas.yaml_files import read_yaml
from sret_nas.yaml_kinds import require_kind

DepthSchedule = Literal["full", "joint", "sandwich", "random", "growing"]
"""How different recursion depths are trained together: part of the searched recipe, not of the architecture."""

MAX_WIDTH_PAIRS = 10_000
"""Most pairs of widths of two successive stages; counting networks takes half a millisecond for each."""

Value = int | float | str
"""One choice of a flat dimension; Optuna's categorical parameters accept these types."""


class SearchSpace(WithVariants):
    """All networks that a search may propose. Instances are read-only; equal content has an equal `digest`."""

    VARIANTS = ("residual", "head")

    name: Annotated[str, Field(min_length=1, max_length=100)]
    description: str = ""
    image_size: Annotated[StrictInt, Field(ge=8, le=4096)] = 224
    """Side of the square input that networks are built and costed for, in pixels."""
    channels: Annotated[StrictInt, Field(ge=1, le=1024)] = 3
    classes: Annotated[StrictInt, Field(ge=1, le=1_000_000)] = 1000
    drop_path: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False, strict=True)] = 0.0
    stem: StemChoices = StemChoices()
    stages: Annotated[tuple[StageChoices, ...], Field(min_length=1, max_length=8)]
    depth_schedules: Listed[DepthSchedule] = ("full",)
    """The schedules to choose from; see `DepthSchedule`."""
    residual: OneOrListed[Residual] = ("path",)
    """The residual connections: of all networks, or those to choose from."""
    head: OneOrListed[Head] = ("average",)
    """The head: of all networks, or those to choose from. Where the average over tokens is among them, networks with
    class tokens are those whose last stage always sees all tokens."""
    _tables: SpaceTables = PrivateAttr(default_factory=SpaceTables)

    @model_validator(mode="after")
    def _check_size(self) -> Self:
        """Raises `ValueError` for stages that spell too many combinations, or have too many widths, together."""
        num_spellings = sum(stage.num_spellings for stage in self.stages)
        if num_spellings > MAX_SPELLINGS:
            raise ValueError(
                f"the stages must spell at most {MAX_SPELLINGS:,} combinations together, got {num_spellings:,}; list "
                "fewer values"
            )
        num_widths = [len(set(stage.width)) for stage in self.stages]
        for stage, (before, after) in enumerate(pairwise(num_widths)):
            if before * after > MAX_WIDTH_PAIRS:
                raise ValueError(
                    f"stages[{stage}] and stages[{stage + 1}] must have at most {MAX_WIDTH_PAIRS:,} pairs of widths, "
                    f"got {before:,} x {after:,}; list fewer widths"
                )
        return self

    @model_validator(mode="after")
    def _check_head(self) -> Self:
        """Raises an error for class tokens in a last stage that may slice its tokens or move them, or always does so.

        Raises `ValueError` if all networks have class tokens, and `ValidationError` if only some heads are impossible.
        """
        last, heads = self.stages[-1], [head for head in self.head if head != "average"]
        if "average" in self.head:
            return self._check_listed_heads(heads)
        if heads and any(groups > 1 for schedule in last.groups for groups in schedule):
            raise ValueError(
                f"head {heads[0]} needs attention over all tokens in the last stage, groups: [[1]], got "
                f"{[list(schedule) for schedule in last.groups]}"
            )
        if heads and True in last.permute_single and False in last.inverse:
            raise ValueError(
                f"head {heads[0]} needs tokens that keep their places in the last stage, got permute_single: true "
                "and inverse: false"
            )
        return self

    def _check_listed_heads(self, heads: Sequence[Head]) -> Self:
        """Raises `ValidationError` for heads with class tokens if no last stage always sees all tokens."""
        last = self.stages[-1]
        fewest = min(last.recursions)  # the more recursions, the more slices and permutations
        is_whole = self.num_tokens[-1] == 1 or any(max(schedule_of(groups, fewest)) == 1 for groups in last.groups)
        is_kept = fewest == 1 or False in last.permute or True in last.inverse or False in last.permute_single
        if heads and not (is_whole and is_kept):
            raise error_at(
                ("head", self.head.index(heads[0])),
                f"{heads[0]} is in no legal network: it needs attention over all tokens, in their places, in the last "
                f"stage, such as groups: [1], got {[list(schedule) for schedule in last.groups]}",
                heads[0],
            )
        return self

    def __copy__(self) -> Self:
        """Returns a copy without tables, because `model_copy(update=...)` turns the copy into another space."""
        copied = super().__copy__()
        copied._tables = SpaceTables()
        return copied

    @property
    def tables(self) -> SpaceTables:
        """Cache of what has been computed from the space."""
        return self._tables

    @classmethod
    def load(cls, name_or_path: str | Path) -> SearchSpace:
        """Reads a shipped space by its name, or a space from a YAML file.

        Raises `UserError` if there is neither, and `ConfigError` if the file is no valid space.
        """
        shipped = shipped_spaces()
        given = as_path(name_or_path, "the search space", "the name of a shipped one or a file")
        path = shipped.get(str(name_or_path), given)
        if not os.path.exists(path):  # unlike `Path.exists`, false for a name that no file can have
            raise UserError(
                f"{name_or_path}: there is no such file and no such shipped search space; "
                f"the shipped ones are {', '.join(shipped)}"
            )
        data = read_yaml(path)
        require_kind(data, "search space", path)
        return cls.from_dict(data, str(path))

    @classmethod
    def from_dict(cls, data: Any, source: str = "search space") -> SearchSpace:
        """Builds a space from plain data, as YAML gives it.

        Raises `ConfigError` that names `source` and the key path.
        """
        return validate(cls, data, source)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data that `from_dict` turns into an equal space."""
        return self.model_dump(mode="json")

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that identify the content; name and description are ignored."""
        content = self.model_dump(mode="json", exclude={"name", "description"})
        return short_digest(json.dumps(content, sort_keys=True))

    def variant_words(self) -> list[str]:
        """Returns the variants of whole networks that are not the default alone, e.g. `stem kind: conv patch`."""
        variants = {**{f"stem {name}": values for name, values in self.stem.variants.items()}, **self.variants}
        return [f"{name}: {' '.join(values)}" for name, values in variants.items()]

    @property
    def num_tokens(self) -> tuple[int, ...]:
        """Tokens (N) in each stage, the same for all networks of the space."""
        return tuple(side * side for side in token_sides(self.image_size, self.stem.strides, len(self.stages)))

    @property
    def stage_tables(self) -> tuple[StageTable, ...]:
        """The distinct stages of each stage, computed once."""
        return self.tables.get(StageTable, self._tabulate_stages)

    def _tabulate_stages(self) -> tuple[StageTable, ...]:
        """Finds the distinct stages."""
        return tuple(StageTable(stage, tokens) for stage, tokens in zip(self.stages, self.num_tokens, strict=True))

    @property
    def num_networks(self) -> int:
        """Exact number of distinct networks, i.e. of distinct `arch_id`s."""
        *others, _ = self.stage_tables
        last = sum(len(self.last_rows(head)) for head in self.head)
        return len(self.residual) * len(self.stem.stems) * prod(len(table) for table in others) * last

    def last_rows(self, head: Head) -> IntArray:
        """Returns the rows of the last stage's table that a head goes with, ascending."""
        last = self.stage_tables[-1]
        return np.arange(len(last)) if head == "average" else np.flatnonzero(last.keeps_all_tokens)

    def network(
        self, rows: Sequence[int], stem: StemChoice | None = None, residual: Residual | None = None,
        head: Head | None = None,
    ) -> ArchConfig:  # fmt: skip
        """Builds a network from one row of each table of `stage_tables`; None stands for what is listed first."""
        stages = tuple(table.stage(row) for table, row in zip(self.stage_tables, rows, strict=True))
        return self.assembled(stages, stem, residual, head)

    def assembled(
        self, stages: tuple[StageConfig, ...], stem: StemChoice | None = None, residual: Residual | None = None,
        head: Head | None = None,
    ) -> ArchConfig:  # fmt: skip
        """Builds a network from stages, for the space's input; None stands for what is listed first."""
        stem = self.stem.stems[0] if stem is None else stem
        return ArchConfig(
            stages=stages, stem=self.stem.config(stem, stages[0].width), image_size=self.image_size,
            channels=self.channels, classes=self.classes, drop_path=self.drop_path,
            residual=residual or self.residual[0], head=head or self.head[0],
        )  # fmt: skip

    def dimensions(self) -> dict[str, tuple[Value, ...]]:
        """Returns the choices as flat categorical dimensions.

        The names are `stem.width`, `stem.kind`, `stem.norm`, `residual` and `head` (those that are listed),
        `stage1.width`, ..., `depth_schedule`. A group schedule is written with dashes, e.g. `8-2`.
        """
        dimensions: dict[str, tuple[Value, ...]] = {
            f"stem.{name}": getattr(self.stem, name) for name in self.stem.dimensions
        }
        dimensions |= {name: getattr(self, name) for name in self.listed_variants}
        for stage_number, stage in enumerate(self.stages, start=1):
            for name in stage.dimensions:
                dimensions[f"stage{stage_number}.{name}"] = tuple(label_of(value) for value in getattr(stage, name))
        return dimensions | {"depth_schedule": self.depth_schedules}

    @property
    def listed_variants(self) -> tuple[str, ...]:
        """The keys of `VARIANTS` that list several values to choose from."""
        return tuple(name for name in self.VARIANTS if len(getattr(self, name)) > 1)

    def decode(self, values: Mapping[str, Value]) -> ArchConfig | None:
        """Builds the network of one choice per dimension; returns None if the combination is illegal.

        `depth_schedule` is ignored. Raises `UserError` for a missing dimension or a value that is not listed.
        """
        chosen = {name: self._listed(values, name) for name in self.dimensions() if name != "depth_schedule"}
        stages = []
        for stage_number, choices in enumerate(self.stages, start=1):
            stage = {name: chosen[f"stage{stage_number}.{name}"] for name in choices.dimensions}
            if not is_legal(stage["width"], stage["heads"], stage["nll_ratio"], stage["mlp_ratio"]):
                return None
            stage["groups"] = schedule_of(stage["groups"], stage["recursions"])
            stages.append(StageConfig(**stage))
        head = chosen.get("head", self.head[0])
        if head != "average":
            stages[-1] = stages[-1].canonical(self.num_tokens[-1])
            if max(stages[-1].groups) > 1 or stages[-1].permute_single:
                return None
        fixed = StemChoice(None, self.stem.kind[0], self.stem.norm[0])
        stem = fixed._replace(**{name: chosen[f"stem.{name}"] for name in self.stem.dimensions})
        return self.assembled(tuple(stages), stem, chosen.get("residual"), head).canonical()

    def _listed(self, values: Mapping[str, Value], name: str) -> Any:
        """Returns the listed value whose label was chosen. Raises `UserError` if there is none."""
        part, _, key = name.rpartition(".")
        owner = {"": self, "stem": self.stem}.get(part) or self.stages[int(part.removeprefix("stage")) - 1]
        listed: tuple[Any, ...] = getattr(owner, key)
        for value in listed:
            if name in values and label_of(value) == values[name]:
                return value
        labels = ", ".join(str(label_of(value)) for value in listed)
        raise UserError(f"{name} must be one of {labels}, got {values.get(name)!r}")

    def encode(self, arch: ArchConfig) -> dict[str, Value]:
        """Returns one choice per dimension except `depth_schedule`; `decode` turns them into an equal network.

        Raises `UserError` if the network is not in the space.
        """
        rows = self.rows_of(arch)
        values: dict[str, Value] = {
            f"stem.{name}": value for name, value in self.stem.spelling(self.stem_of(arch)).items()
        }
        values |= {name: getattr(arch, name) for name in self.listed_variants}
        for stage_number, (table, row) in enumerate(zip(self.stage_tables, rows, strict=True), start=1):
            values |= {f"stage{stage_number}.{name}": label_of(value) for name, value in table.values(row).items()}
        return values

    def rows_of(self, arch: ArchConfig) -> tuple[int, ...]:
        """Returns the rows of `stage_tables` that form a network. Raises `UserError` if it is not in the space."""
        rows = self._rows_of(arch)
        if rows is None:
            raise self._is_missing(arch)
        return rows

    def contains(self, arch: ArchConfig) -> bool:
        """Returns whether the space holds an equal network, i.e. one with the same `arch_id`."""
        return self._rows_of(arch) is not None

    def _rows_of(self, arch: ArchConfig) -> tuple[int, ...] | None:
        """Returns the rows of `stage_tables` that form a network, or None if it is not in the space."""
        names = ("image_size", "channels", "classes", "drop_path")
        if len(self.stages) != len(arch.stages) or any(getattr(self, name) != getattr(arch, name) for name in names):
            return None
        if arch.residual not in self.residual or arch.head not in self.head:
            return None
        if self.stem.find(arch.stem, arch.stages[0].width) is None:
            return None
        rows = [table.row_of(stage) for table, stage in zip(self.stage_tables, arch.stages, strict=True)]
        rows_in_space = tuple(row for row in rows if row is not None)
        return rows_in_space if len(rows_in_space) == len(rows) else None

    def stem_of(self, arch: ArchConfig) -> StemChoice:
        """Returns the one of the stems that a network has. Raises `UserError` if it is not in the space."""
        stem = self.stem.find(arch.stem, arch.stages[0].width)
        if stem is None:
            raise self._is_missing(arch)
        return stem

    def _is_missing(self, arch: ArchConfig) -> UserError:
        return UserError(f"{self.name}: the network {arch.arch_id} ({arch.summary()}) is not in this search space")

    def effective_schedules(self, arch: ArchConfig) -> tuple[DepthSchedule, ...]:
        """Returns the depth schedules that differ for this network, by canonical names, in the listed order."""
        return tuple(dict.fromkeys(canonical_schedule(arch, schedule) for schedule in self.depth_schedules))


def canonical_schedule(arch: ArchConfig, schedule: DepthSchedule) -> DepthSchedule:
    """Returns the simplest schedule that trains this network in the same way.

    With one recursion there is only one depth to train. With two, the shallowest and the deepest are all depths, so
    `sandwich` equals `joint`.
    """
    if arch.max_recursions == 1:
        return "full"
    return "joint" if arch.max_recursions == 2 and schedule == "sandwich" else schedule


def label_of(value: Any) -> Value:
    """Returns a listed value as a categorical choice; a group schedule becomes e.g. `8-2`, and True `true`."""
    if isinstance(value, bool):
        return str(value).lower()
    label: Value = "-".join(map(str, value)) if isinstance(value, tuple) else value
    return label


def shipped_spaces() -> dict[str, Path]:
    """Returns the files of the shipped search spaces by name.

    They lie beside the package in a checkout, and inside it once installed.
    """
    package = Path(__file__).resolve().parents[1]
    folder = next((f for f in (package / "search_spaces", package.parent / "search_spaces") if f.is_dir()), package)
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}
