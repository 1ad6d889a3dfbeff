"""Hyperparameters of a supernet's training: everything except the space, the data and the seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, StrictBool, StrictInt, model_validator

from sret_nas.plurals import counted
from sret_nas.space.search_space import DepthSchedule

from ..training.depth_schedule import SEVERAL_DEPTHS
from ..training.recipe import Precision, RequestedPrecision, TrainingConfig

SubnetSampling = Literal["balanced", "stratified", "uniform"]
"""How random networks are drawn. `balanced`: spread over cost, with all widths and variants equally likely.
`stratified`: evenly over the logarithm of FLOPs. `uniform`: uniformly over the feasible networks."""

StepRule = Literal["sandwich", "alternate", "single"]
"""Which networks a step trains. `sandwich`: the largest, the smallest and some random ones together (BigNAS, 2020).
`alternate`: one at a time: the largest, a random one, the smallest, a random one. `single`: one random network."""


_RETIRED = {"ema": None, "alpha_divergence": False, "scale_shared": False}
"""Hyperparameters that earlier versions recorded, and the value with which a training is as it is without them."""


def with_current_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a recorded configuration, plain data, with the fields of this version under their names in it."""
    current = {
        alias: name
        for name, field in SupernetConfig.model_fields.items()
        if isinstance(field.validation_alias, AliasChoices)
        for alias in field.validation_alias.choices
    }
    return {current.get(name, name): value for name, value in _without_retired(config).items()}


def _without_retired(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a recorded configuration without retired hyperparameters that changed nothing."""
    absent = object()
    return {name: value for name, value in config.items() if _RETIRED.get(name, absent) != value}


class SupernetConfig(BaseModel):
    """Hyperparameters that identify a training: a checkpoint with others is refused.

    The aliases of some fields are their names in earlier versions, whose files stay readable.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    training: TrainingConfig
    """`images` counts images read, not passes: a step that trains k networks makes k passes over its batch."""
    subnet_sampling: Annotated[SubnetSampling, Field(validation_alias=AliasChoices("subnet_sampling", "draws"))] = (
        "balanced"
    )
    """Under a budget, wide stages are rare in the other kinds of draws, and the weights only they use hardly train."""
    step_rule: Annotated[StepRule, Field(validation_alias=AliasChoices("step_rule", "rule"))] = "single"
    """One random network per step ranked networks best at equal time (benchmarks/ranking): it sees the most images."""
    random_networks: Annotated[StrictInt, Field(ge=1, le=64)] = 2
    """Random networks in a step of `sandwich`."""
    distil: StrictBool = True
    """In `sandwich`, whether the other networks learn the largest's soft labels instead of the true ones."""
    depth_schedule: DepthSchedule = "full"
    """The recursion depths to which a random network is run; each depth is a subnet."""
    depth_distillation: StrictBool = False
    """Whether the deepest pass of a random network teaches its shallower ones. In `sandwich` the largest network
    teaches all of them already."""
    gradient_accumulation: Annotated[
        StrictInt, Field(ge=1, le=1024, validation_alias=AliasChoices("gradient_accumulation", "accumulate"))
    ] = 1
    """Microbatches into which a batch is divided to save memory. BatchNorm sees one at a time."""
    precision: RequestedPrecision = "auto"
    """Precision of the passes. Commands choose and record fp32 or bf16; `auto` was recorded by earlier versions."""

    @property
    def distils(self) -> bool:
        """Whether the first network of a step teaches the others.

        It is the largest of all in `sandwich`, or else the deepest pass of a random one.
        """
        return self.depth_distillation or (self.distil and self.step_rule == "sandwich")

    def precision_on(self, device_type: str) -> Precision:
        """Returns the precision on a device. `auto` is bf16 on CUDA and fp32 elsewhere, as in earlier versions."""
        if self.precision == "auto":
            return "bf16" if device_type == "cuda" else "fp32"
        return self.precision

    @model_validator(mode="before")
    @classmethod
    def _drop_retired(cls, config: object) -> object:
        return _without_retired(config) if isinstance(config, dict) else config

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.depth_distillation and self.step_rule == "sandwich":
            raise ValueError(
                "--depth-distillation cannot be combined with --step-rule sandwich, where the largest network teaches "
                "all others: leave one of them out"
            )
        if self.depth_distillation and self.depth_schedule not in SEVERAL_DEPTHS:
            raise ValueError(
                f"--depth-distillation needs several depths in a step: give --depth-schedule "
                f"{' or '.join(SEVERAL_DEPTHS)}, got {self.depth_schedule}"
            )
        if self.training.batch_size // self.gradient_accumulation < 2:
            raise ValueError(
                f"--gradient-accumulation must leave at least 2 images at a time, which BatchNorm needs, "
                f"got {counted(self.gradient_accumulation, 'part')} of a batch of {self.training.batch_size}"
            )
        return self
