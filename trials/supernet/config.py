"""How a supernet is trained: everything but the space, the data and the seed."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, model_validator

from sret_nas.space.search_space import DepthSchedule

from ..training.recipe import TrainingConfig

Draws = Literal["balanced", "stratified", "uniform"]
"""How random networks are drawn: spread over cost with all widths alike, spread evenly over the logarithm of FLOPs, or
uniformly over the feasible networks."""

Rule = Literal["sandwich", "alternate", "single"]
"""Which networks a step trains. `sandwich`: the largest, the smallest and some random ones, together (BigNAS).
`alternate`: one, in turn the largest, a random one, the smallest, a random one. `single`: one random network."""

Precision = Literal["auto", "fp32", "bf16"]
"""Of the passes; weights and their updates are always in single precision. `auto` is bf16 on CUDA, fp32 elsewhere."""


class SupernetConfig(BaseModel):
    """Part of what identifies a training: a checkpoint of another configuration is not carried on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    training: TrainingConfig
    """`images` counts what is read from the data: a step that trains k networks makes k passes over its batch."""
    draws: Draws = "balanced"
    """Under a budget wide stages are rare among other draws, and what only they use would hardly be trained."""
    rule: Rule = "single"
    """At equal time, one random network a step ranked networks best (benchmarks/ranking): it sees the most images."""
    random_networks: Annotated[StrictInt, Field(ge=1, le=64)] = 2
    """Random networks in every step of the sandwich."""
    distil: StrictBool = True
    """In the sandwich, all others learn the largest's soft labels of the same step instead of the true ones."""
    depth_schedule: DepthSchedule = "full"
    """To which recursion depths a random network is run; each is a subnet of its own."""
    accumulate: Annotated[StrictInt, Field(ge=1, le=1024)] = 1
    """Parts in which a batch is run, to save memory. BatchNorm sees one part at a time."""
    precision: Precision = "auto"

    @property
    def distils(self) -> bool:
        """Whether networks learn from one another: outside the sandwich there is none to learn from."""
        return self.distil and self.rule == "sandwich"

    @property
    def networks_per_step(self) -> int:
        """Passes over a step's batch, recursion depths of random networks not counted apart."""
        return 2 + self.random_networks if self.rule == "sandwich" else 1

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.training.batch_size // self.accumulate < 2:
            raise ValueError(
                f"--gradient-accumulation must leave at least 2 images at a time, which BatchNorm needs, "
                f"got {self.accumulate} parts of a batch of {self.training.batch_size}"
            )
        return self
