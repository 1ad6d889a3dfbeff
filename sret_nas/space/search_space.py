"""A search space: which architectures a search may propose, as plain data in YAML.

A space lists choices per stage. Its networks are the distinct ones among all combinations: a combination that breaks a
rule of `StageConfig` is left out, and spellings of one network (see `ArchConfig.canonical`) count once. Which stages
are distinct depends on no other stage, so the space is the product of one table of distinct stages per stage (and of
the widths of the stem), which is how it is counted, costed in bulk and searched.

`docs/search-spaces.md` explains every key.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, StrictInt

from sret_nas.arch.config import ArchConfig, StageConfig, StemConfig, paper_stem_width, token_sides
from sret_nas.errors import UserError
from sret_nas.files import short_digest, validate
from sret_nas.space.choices import STAGE_DIMENSIONS, Listed, StageChoices, StemChoices, is_legal, schedule_of
from sret_nas.space.stage_table import StageTable
from sret_nas.space.tables import SpaceTables
from sret_nas.yaml_files import read_yaml

DepthSchedule = Literal["full", "joint", "sandwich", "random", "growing"]
"""How recursion depths are trained together: a searched part of the recipe, never of the architecture."""

Value = int | float | str
"""One choice of a flat dimension, as Optuna's categorical parameters take it."""


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
    depth_schedules: Listed[DepthSchedule] = ("full",)
    """How depths may be trained together: part of the recipe that is searched, not of the architecture."""
    _tables: SpaceTables = PrivateAttr(default_factory=SpaceTables)

    def __copy__(self) -> Self:
        """A copy without the tables: `model_copy(update=...)` makes another space of it."""
        copied = super().__copy__()
        copied._tables = SpaceTables()
        return copied

    @property
    def tables(self) -> SpaceTables:
        """What has been computed of the space so far; it goes with the space."""
        return self._tables

    @classmethod
    def load(cls, name_or_path: str | Path) -> SearchSpace:
        """A shipped space by its name, or the space in a YAML file. Raises `UserError` and `ConfigError`."""
        shipped = shipped_spaces()
        path = shipped.get(str(name_or_path), Path(name_or_path))
        if not os.path.exists(path):  # unlike `Path.exists`, false for a name that no file can have
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
        return short_digest(json.dumps(content, sort_keys=True))

    @property
    def num_tokens(self) -> tuple[int, ...]:
        """Tokens (N) in each stage, the same for all networks of the space."""
        return tuple(side * side for side in token_sides(self.image_size, self.stem.strides, len(self.stages)))

    @property
    def stage_choices(self) -> tuple[StageTable, ...]:
        """The distinct stages of each stage, found once."""
        return self.tables.get(StageTable, lambda: tuple(map(StageTable, self.stages, self.num_tokens)))

    @property
    def num_networks(self) -> int:
        """How many distinct networks there are, exactly: the number of different `arch_id`s."""
        return len(self.stem.width or (None,)) * prod(len(table) for table in self.stage_choices)

    def network(self, rows: Sequence[int], stem_width: int | None = None) -> ArchConfig:
        """The network made of one row of each table of `stage_choices`; without `stem_width` the paper's stem."""
        stages = tuple(table.stage(row) for table, row in zip(self.stage_choices, rows, strict=True))
        return self.assembled(stages, stem_width)

    def assembled(self, stages: tuple[StageConfig, ...], stem_width: int | None) -> ArchConfig:
        """The network of given stages, for the space's input; without `stem_width` the paper's stem."""
        width = paper_stem_width(stages[0].width) if stem_width is None else stem_width
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
                dimensions[f"stage{number}.{name}"] = tuple(label_of(value) for value in getattr(stage, name))
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
        return self.assembled(tuple(stages), chosen.get("stem.width")).canonical()

    def _listed(self, values: Mapping[str, Value], name: str) -> Any:
        """The space's own value behind the one given for a dimension."""
        place, _, key = name.partition(".")
        owner = self.stem if place == "stem" else self.stages[int(place.removeprefix("stage")) - 1]
        listed: tuple[Any, ...] = getattr(owner, key)
        for value in listed:
            if name in values and label_of(value) == values[name]:
                return value
        labels = ", ".join(str(label_of(value)) for value in listed)
        raise UserError(f"{name} must be one of {labels}, got {values.get(name)!r}")

    def encode(self, arch: ArchConfig) -> dict[str, Value]:
        """A choice in every dimension but `depth_schedule` that `decode` turns into an equal network.

        Raises `UserError` if the network is not in the space.
        """
        rows = self.rows_of(arch)
        values: dict[str, Value] = {"stem.width": arch.stem.width} if self.stem.width else {}
        for number, (table, row) in enumerate(zip(self.stage_choices, rows, strict=True), start=1):
            values |= {f"stage{number}.{name}": label_of(value) for name, value in table.values(row).items()}
        return values

    def rows_of(self, arch: ArchConfig) -> tuple[int, ...]:
        """The rows of `stage_choices` that make a network. Raises `UserError` if it is not in the space."""
        rows = self._rows_of(arch)
        if rows is None:
            raise UserError(f"{self.name}: the network {arch.arch_id} ({arch.summary()}) is not in this search space")
        return rows

    def contains(self, arch: ArchConfig) -> bool:
        """Whether an equal network (one with the same `arch_id`) is in the space."""
        return self._rows_of(arch) is not None

    def _rows_of(self, arch: ArchConfig) -> tuple[int, ...] | None:
        target = (self.image_size, self.channels, self.classes, self.drop_path, self.stem.strides, len(self.stages))
        if target != (
            arch.image_size, arch.channels, arch.classes, arch.drop_path, arch.stem.strides, len(arch.stages)
        ):  # fmt: skip
            return None
        if arch.stem.width not in (self.stem.width or (paper_stem_width(arch.stages[0].width),)):
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


def label_of(value: Any) -> Value:
    """A listed value as a categorical choice."""
    label: Value = "-".join(map(str, value)) if isinstance(value, tuple) else value
    return label


def shipped_spaces() -> dict[str, Path]:
    """The search spaces that come with this package, by name: beside it in a checkout, inside it once installed."""
    package = Path(__file__).resolve().parents[1]
    folder = next((f for f in (package / "search_spaces", package.parent / "search_spaces") if f.is_dir()), package)
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}
