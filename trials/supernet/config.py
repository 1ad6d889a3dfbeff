"""Settings of a supernet's training: everything except the space, the data and the seed."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, model_validator

from sret_nas.space.search_space import DepthSchedule

from ..training.recipe import TrainingConfig

Draws = Literal["balanced", "stratified", "uniform"]
"""How random networks are drawn. `balanced`: spread over cost, with all widths equally likely. `stratified`: evenly
over the logarithm of FLOPs. `uniform`: uniformly over the feasible networks."""

Rule = Literal["sandwich", "alternate", "single"]
"""Which networks a step trains. `sandwich`: the largest, the smallest and some random ones together (BigNAS, 2020).
`alternate`: one at a time: the largest, a random one, the smallest, a random one. `single`: one random network."""

Precision = Literal["auto", "fp32", "bf16"]
"""Precision of the passes; weights and updates are always fp32. `auto` is bf16 on CUDA and fp32 elsewhere."""


class SupernetConfig(BaseModel):
    """Settings that identify a training: a checkpoint with other settings is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    training: TrainingConfig
    """`images` counts images read, not passes: a step that trains k networks makes k passes over its batch."""
    draws: Draws = "balanced"
    """Under a budget, wide stages are rare in the other kinds of draws, and the weights only they use hardly train."""
    rule: Rule = "single"
    """One random network per step ranked networks best at equal time (benchmarks/ranking): it sees the most images."""
    random_networks: Annotated[StrictInt, Field(ge=1, le=64)] = 2
    """Random networks in a step of `sandwich`."""
    distil: StrictBool = True
    """In `sandwich`, whether the other networks learn the largest's soft labels instead of the true ones."""
    depth_schedule: DepthSchedule = "full"
    """The recursion depths to which a random network is run; each depth is a subnet."""
    accumulate: Annotated[StrictInt, Field(ge=1, le=1024)] = 1
    """Parts into which a batch is split to save memory. BatchNorm sees one part at a time."""
    precision: Precision = "auto"

    @property
    def distils(self) -> bool:
        """Returns whether networks learn from the largest one, which only `sandwich` runs in the same step."""
        return self.distil and self.rule == "sandwich"

    @property
    def networks_per_step(self) -> int:
        """Returns the passes over a step's batch, with one per random network, however many depths it is run to."""
        return 2 + self.random_networks if self.rule == "sandwich" else 1

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.training.batch_size // self.accumulate < 2:
            raise ValueError(
                f"--gradient-accumulation must leave at least 2 images at a time, which BatchNorm needs, "
                f"got {self.accumulate} parts of a batch of {self.training.batch_size}"
            )
        return self
