"""An additive score as a YAML file: what each choice of a space adds to a number that is to be small, such as an error.

    every_stage:
      recursions: {1: 0.02}
      mlp_ratio: {2.0: 0.012, 3.0: 0.004}
    stages:
      - {groups: {8-2: 0.003}}
      - {width: {64: 0.04, 96: 0.02}}
      - {}

A value that is not named adds nothing. A group schedule is written with dashes, as `8-2` for `[8, 2]`. `log_flops` and
`log_params` are what a factor of e in a cost adds. Where a network can be spelled in several ways, the spelling whose
values the space lists first counts.
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
from sret_nas.space.choices import STAGE_DIMENSIONS
from sret_nas.space.search_space import SearchSpace, Value, label_of
from sret_nas.yaml_files import read_yaml

Effect = Annotated[float, Field(strict=True, allow_inf_nan=False)]
"""What a choice adds to the score."""

Effects = dict[Value, Effect]
"""Effects by listed value."""


class StageEffects(BaseModel):
    """Effects of the values that a stage's dimensions take."""

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


class ScoreConfig(BaseModel):
    """A score of the networks of a space, the smaller the better."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    every_stage: StageEffects = StageEffects()
    """Effects that are the same in all stages; a value need not be listed in each."""
    stages: tuple[StageEffects, ...] = ()
    """Effects of a stage's own, beside those: none, or one entry per stage of the space."""
    stem_width: Effects = {}
    log_flops: Effect = 0.0
    log_params: Effect = 0.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self == type(self).model_construct():
            raise ValueError("must name an effect: without any, all networks are equal")
        return self

    @classmethod
    def load(cls, path: Path) -> ScoreConfig:
        """Reads a file. Raises `UserError` and `ConfigError`."""
        return validate(cls, read_yaml(path, number_keys=True), str(path))

    def score(self, space: SearchSpace, source: str = "score") -> AdditiveScore:
        """Returns the score of a space's chain. Raises `ConfigError` naming `source` for what is not in the space."""
        if self.stages and len(self.stages) != len(space.stages):
            raise ConfigError(
                source, "stages", f"must have one entry per stage of {space.name}, {len(space.stages)}, or be left "
                f"out; got {len(self.stages)}",
            )  # fmt: skip
        chain = chain_of(space)
        self._check_listed(space, source)
        return AdditiveScore(
            stages=tuple(self._terms(space, number, stage) for number, stage in enumerate(chain.stages)),
            pairs=tuple(
                np.zeros((len(a.states), len(b))) for a, b in zip(chain.stages, chain.stages[1:], strict=False)
            ),
            trend=self._trend_of(chain),
        )

    def _check_listed(self, space: SearchSpace, source: str) -> None:
        """Raises `ConfigError` for a value with an effect that no stage where it could be lists."""
        numbers = range(len(space.stages))
        for name, effects in _named(self.every_stage):
            listed = {value for number in numbers for value in _listed(space, number, name)}
            _refuse_unlisted(effects, listed, ("every_stage", name), source)
        for number, own in enumerate(self.stages):
            for name, effects in _named(own):
                _refuse_unlisted(effects, set(_listed(space, number, name)), ("stages", number, name), source)
        _refuse_unlisted(self.stem_width, set(space.stem.width or ()), ("stem_width",), source)

    def _terms(self, space: SearchSpace, number: int, stage: ChainStage) -> FloatArray:
        """The terms of all choices of a stage, of shape (choices,)."""
        total = np.zeros(len(stage))
        for effects_of_stage in (self.every_stage, *self.stages[number : number + 1]):
            for name, effects in _named(effects_of_stage):
                values = _listed(space, number, name)
                total += _by_level(values, effects)[stage.levels[:, STAGE_DIMENSIONS.index(name)]]
        if number == 0 and self.stem_width:
            total += _by_level(space.stem.width or (), self.stem_width)[stage.levels[:, len(STAGE_DIMENSIONS)]]
        return total

    def _trend_of(self, chain: Chain) -> Any:
        slopes = np.array([{"flops": self.log_flops, "params": self.log_params}[name] for name in chain.cost_names])

        def trend(costs: FloatArray) -> FloatArray:
            logs: FloatArray = np.log(costs) @ slopes
            return logs

        return trend


def _named(effects: StageEffects) -> Iterator[tuple[str, Effects]]:
    return ((name, getattr(effects, name)) for name in STAGE_DIMENSIONS if getattr(effects, name))


def _listed(space: SearchSpace, number: int, name: str) -> tuple[Value, ...]:
    """The values that a stage lists, as they are written in a file of scores."""
    return tuple(label_of(value) for value in getattr(space.stages[number], name))


def _by_level(values: tuple[Value, ...], effects: Mapping[Value, float]) -> FloatArray:
    """The effects of a dimension's values, of shape (values,)."""
    return np.array([effects.get(value, effects.get(_as_written(value), 0.0)) for value in values])


def _as_written(value: Value) -> Value:
    """A schedule of one number, which YAML reads as that number."""
    return int(value) if isinstance(value, str) and value.isdigit() else value


def _refuse_unlisted(effects: Effects, listed: set[Value], location: tuple[str | int, ...], source: str) -> None:
    known = listed | {_as_written(value) for value in listed}
    for value in effects:
        if value not in known:
            values = ", ".join(sorted(map(str, listed))) or "none"
            raise ConfigError(source, format_key_path(location), f"{value} is not listed by the space ({values})")
