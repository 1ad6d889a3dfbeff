"""Hyperparameters of a proxy's training: everything that is not part of the architecture and does not change its id."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.parts import StageConfig

BatchSize = Annotated[StrictInt, Field(ge=2, le=65_536)]
LearningRate = Annotated[StrictFloat, Field(gt=0, le=10, allow_inf_nan=False)]
Share = Annotated[StrictFloat, Field(ge=0, lt=1, allow_inf_nan=False)]

Precision = Literal["fp32", "bf16"]
"""Precision of forward and backward passes. Weights and updates are always fp32."""

RequestedPrecision = Literal["auto", "fp32", "bf16"]
"""`auto` is what the device is fastest in; see `trials.training.precision`."""


class TrainingConfig(BaseModel):
    """Optimisation of one network: AdamW, linear warm-up, cosine decay, label smoothing (DeiT's recipe, shortened)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: Annotated[StrictInt, Field(ge=2)]
    """Training images seen in total, with repetition: the cost of a run, whatever the size of the data set."""
    batch_size: BatchSize = 64
    learning_rate: LearningRate = 2e-3
    weight_decay: Annotated[StrictFloat, Field(ge=0, le=10, allow_inf_nan=False)] = 0.05
    label_smoothing: Share = 0.1
    warmup_share: Share = 0.1
    """Share of all steps over which the learning rate rises from 0."""
    clip_norm: Annotated[StrictFloat, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Largest norm of the gradient of all parameters together."""

    def num_steps(self, num_train_images: int) -> int:
        """Returns the number of optimiser steps. A batch is at most the whole training part."""
        return max(1, self.images // min(self.batch_size, num_train_images))

    def num_epochs(self, num_train_images: int) -> int:
        """Returns the number of epochs that the steps take part in. A remainder that fills no batch is dropped."""
        per_epoch = max(1, num_train_images // self.batch_size)
        return -(-self.num_steps(num_train_images) // per_epoch)


class ProxyConfig(BaseModel):
    """The short training that replaces full training in a search: smaller input, fewer epochs, optionally narrower."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: Annotated[StrictInt, Field(ge=8, le=4096)] = 40
    """Side of the proxy's input, in pixels."""
    width_scale: Annotated[StrictFloat, Field(gt=0, le=1)] = 1.0
    """Channels per head of the proxy network over those of the target."""
    training: TrainingConfig


def proxy_arch(target: ArchConfig, proxy: ProxyConfig, *, channels: int, classes: int) -> ArchConfig:
    """Returns the network that a trial trains in place of a target.

    It has the target's shape, with the proxy's input size and width and the data's channels and classes. Stochastic
    depth is off: it helps over hundreds of epochs and harms training for a few.
    """
    stages = tuple(_narrowed(stage, proxy.width_scale) for stage in target.stages)
    stem_width = max(1, round(target.stem.width * proxy.width_scale))
    changes = {
        "stages": stages, "stem": target.stem.model_copy(update={"width": stem_width}),
        "image_size": proxy.image_size, "channels": channels, "classes": classes, "drop_path": 0.0,
    }  # fmt: skip
    return ArchConfig.model_validate({**dict(target), **changes})


def _narrowed(stage: StageConfig, scale: float) -> StageConfig:
    head_width = max(1, round(stage.width // stage.heads * scale))
    return StageConfig.model_validate({**stage.model_dump(), "width": head_width * stage.heads})


class DivergedError(RuntimeError):
    """Raised when a loss is not finite. The network or its hyperparameters are the cause, not the machine."""
