"""An additive score as a YAML file: the effect of each choice on a quantity to minimise, such as an error.

    every_stage:
      recursions: {1: 0.02}
      mlp_ratio: {2.0: 0.012, 3.0: 0.004}
    stages:
      - {groups: {8-2: 0.003}}
      - {width: {64: 0.04, 96: 0.02}}
      - {}

Values that are not named add nothing. A group schedule is written with dashes, e.g. `8-2` for `[8, 2]`. `log_flops` and
`log_params` are slopes: the effect of a factor of e in a cost. If a network can be spelled in several ways, the
spelling whose values the space lists first counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from sret_nas.arrays import FloatArray
from sret_nas.errors import ConfigError
from sret_nas.files import format_key_path, validate
from sret_nas.optimize.dynamic_program import AdditiveScore
from sret_nas.space.chain import Chain, ChainStage, chain_of
from sret_nas.space.search_space import SearchSpace, Value, label_of
from sret_nas.yaml_files import read_yaml

Effect = Annotated[float, Field(strict=True, allow_inf_nan=False)]
"""Amount that a choice adds to the score."""

Effects = dict[Value, Effect]
"""Effects by listed value."""


class StageEffects(BaseModel):
    """Effects of the values of a stage's dimensions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: Effects = {}
    heads: Effects = {}
    blocks: Effects = {}
    recursions: Effects = {}
    groups: Effects = {}
    loop: Effects = {}
    nll: Effects = {}
    nll_ratio: Effects = {}
    mlp_ratio: Effects = {}
    permute: Effects = {}
    inverse: Effects = {}
    permute_single: Effects = {}


class ScoreConfig(BaseModel):
    """A score of the networks of a space; smaller is better."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    every_stage: StageEffects = StageEffects()
    """Effects that all stages share; a value needs to be listed in one stage only."""
    stages: tuple[StageEffects, ...] = ()
    """Additional effects of single stages: empty, or one entry per stage of the space."""
    stem_width: Effects = {}
    """Effects of the stem's listed widths."""
    stem_kind: Effects = {}
    stem_norm: Effects = {}
    residual: Effects = {}
    """Effects of the residual connections, where the space lists several."""
    head: Effects = {}
    """Effects of the head, likewise."""
    log_flops: Effect = 0.0
    log_params: Effect = 0.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Raises `ValueError` for a score without any effect."""
        if self == type(self).model_construct():
            raise ValueError("must name an effect: without any, all networks are equal")
        return self

    @classmethod
    def load(cls, path: Path) -> ScoreConfig:
        """Reads a score from a file. Raises `UserError` or `ConfigError` if it is not one."""
        return validate(cls, read_yaml(path, number_keys=True), str(path))

    def score(self, space: SearchSpace, source: str = "score") -> AdditiveScore:
        """Builds the score over a space's chain.

        Raises `ConfigError`, naming `source`, for stages or values that the space does not have.
        """
        if self.stages and len(self.stages) != len(space.stages):
            raise ConfigError(
                source, "stages", f"must have one entry per stage of {space.name}, {len(space.stages)}, or be left "
                f"out; got {len(self.stages)}",
            )  # fmt: skip
        chain = chain_of(space)
        self._check_listed(space, source)
        return AdditiveScore(
            stages=tuple(self._terms(space, stage_index, stage) for stage_index, stage in enumerate(chain.stages)),
            pairs=tuple(
                np.zeros((len(a.states), len(b))) for a, b in zip(chain.stages, chain.stages[1:], strict=False)
            ),
            trend=self._trend_of(chain),
        )

    def _check_listed(self, space: SearchSpace, source: str) -> None:
        """Raises `ConfigError` for an effect of a value that no stage in question lists."""
        numbers = range(len(space.stages))
        for name, effects in _named(self.every_stage):
            listed = {value for stage_index in numbers for value in _listed(space, stage_index, name)}
            _refuse_unlisted(effects, listed, ("every_stage", name), source)
        for stage_index, own in enumerate(self.stages):
            for name, effects in _named(own):
                _refuse_unlisted(effects, set(_listed(space, stage_index, name)), ("stages", stage_index, name), source)
        for key, (name, effects) in self._effects_of_network().items():
            _refuse_unlisted(effects, set(space.dimensions().get(name, ())), (key,), source)

    def _terms(self, space: SearchSpace, stage_index: int, stage: ChainStage) -> FloatArray:
        """Returns the terms of all choices of a stage, of shape (choices,)."""
        total = np.zeros(len(stage))
        for effects_of_stage in (self.every_stage, *self.stages[stage_index : stage_index + 1]):
            for name, effects in _named(effects_of_stage):
                values = _listed(space, stage_index, name)
                if name in stage.attributes:  # a variant that is not listed has one value
                    total += _by_level(values, effects)[stage.levels[:, stage.attributes.index(name)]]
        for name, effects in self._effects_of_network().values():
            if (attribute := name.replace(".", " ")) in stage.attributes:
                levels = stage.levels[:, stage.attributes.index(attribute)]
                total += _by_level(space.dimensions()[name], effects)[levels]
        return total

    def _effects_of_network(self) -> dict[str, tuple[str, Effects]]:
        """Returns the dimensions besides those of stages that have any effect, and their effects, by key."""
        names = {"stem_width": "stem.width", "stem_kind": "stem.kind", "stem_norm": "stem.norm"}
        names |= {name: name for name in ("residual", "head")}
        return {key: (name, getattr(self, key)) for key, name in names.items() if getattr(self, key)}

    def _trend_of(self, chain: Chain) -> Any:
        """Returns the trend: linear in the log costs, and the same for a chain with more costs."""
        slopes = np.array([{"flops": self.log_flops, "params": self.log_params}[name] for name in chain.cost_names])

        def trend(costs: FloatArray) -> FloatArray:
            logs: FloatArray = np.log(costs[:, : len(slopes)]) @ slopes
            return logs

        return trend


def _named(effects: StageEffects) -> Iterator[tuple[str, Effects]]:
    """Yields the dimensions that have any effect."""
    return ((name, getattr(effects, name)) for name in StageEffects.model_fields if getattr(effects, name))


def _listed(space: SearchSpace, stage_index: int, name: str) -> tuple[Value, ...]:
    """Returns the values that a stage lists for a dimension, as a score file writes them."""
    return tuple(label_of(value) for value in getattr(space.stages[stage_index], name))


def _by_level(values: tuple[Value, ...], effects: Mapping[Value, float]) -> FloatArray:
    """Returns the effects of a dimension's values, of shape (values,)."""
    return np.array([effects.get(value, effects.get(_as_written(value), 0.0)) for value in values])


def _as_written(value: Value) -> Value:
    """Converts a schedule of a single number, which YAML reads as an integer."""
    return int(value) if isinstance(value, str) and value.isdigit() else value


def _refuse_unlisted(effects: Effects, listed: set[Value], location: tuple[str | int, ...], source: str) -> None:
    """Raises `ConfigError` for an effect of a value that is not listed."""
    known = listed | {_as_written(value) for value in listed}
    for value in effects:
        if value not in known:
            values = ", ".join(sorted(map(str, listed))) or "none"
            raise ConfigError(source, format_key_path(location), f"{value} is not listed by the space ({values})")
