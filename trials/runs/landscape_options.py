"""The options of `landscape`: which images and points, and where they are computed."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StrictFloat, StrictInt, field_validator, model_validator

from ..training.recipe import BatchSize
from .engine_options import EngineOptions
from .option_groups import DataOptions, absolute_if_there

MAX_POINTS = 1001
MAX_PAIRS = 100

ENGINE_FIELDS = frozenset({"engine", "ray_address", "workers", "gpus_per_trial"})
"""Options that a resumed landscape may change: they change no result."""


class LandscapeOptions(DataOptions, EngineOptions):
    """What is measured around each network."""

    part: Literal["train", "val", "test"] = "train"
    """The images of the plain loss."""
    images: Annotated[StrictInt, Field(ge=2, le=10**7)] = 1000
    """Images of each loss, at most those that there are."""
    points: Annotated[StrictInt, Field(ge=3, le=MAX_POINTS)] = 21
    """Points of a line through the network, an odd number, so that the network is one of them."""
    span: Annotated[StrictFloat, Field(gt=0, le=100, allow_inf_nan=False)] = 1.0
    """Distance of the outermost points from the network, in lengths of the directions."""
    pairs: Annotated[StrictInt, Field(ge=1, le=MAX_PAIRS)] = 3
    """Pairs of directions, whose variation is stated. Along each direction there is a line of points."""
    surfaces: Annotated[StrictInt, Field(ge=0, le=MAX_PAIRS)] = 1
    """Pairs whose whole grid is computed."""
    loss: Literal["plain", "training", "both"] = "both"
    stem_statistics: Literal["kept", "renewed"] = "kept"
    """Whether the stem's BatchNorm statistics are those of the network, or computed anew at every point."""
    recursions: tuple[Annotated[StrictInt, Field(ge=1, le=16)], ...] | None = None
    """The largest number of recursions, one for all stages or one per stage; None is the full depth."""
    recipe: str | None = None
    """The recipe of the training's loss; None is that of each network's training."""
    batch_size: BatchSize = 64
    """Images that are computed at a time."""

    @field_validator("recipe")
    @classmethod
    def _absolute_recipe(cls, recipe: str | None) -> str | None:
        return None if recipe is None else absolute_if_there(recipe)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.points % 2 == 0:
            raise ValueError(f"--points must be odd, so that the network itself is a point, got {self.points}")
        if self.surfaces > self.pairs:
            raise ValueError(f"--surfaces must be at most --pairs, got {self.surfaces} of {self.pairs}")
        if self.recipe is not None and self.loss == "plain":
            raise ValueError("--recipe decides the training's loss, but --loss plain leaves it out")
        return self

    @property
    def half(self) -> int:
        """The points on one side of the network."""
        return self.points // 2

    @property
    def step(self) -> float:
        """The distance of two points of a line."""
        return self.span / self.half

    @property
    def has_training_loss(self) -> bool:
        return self.loss != "plain"
