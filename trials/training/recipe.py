"""How a network is trained: everything that is no part of the architecture and never changes its id."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt

from sret_nas.arch.config import ArchConfig, StageConfig, StemConfig

BatchSize = Annotated[StrictInt, Field(ge=2, le=65_536)]
LearningRate = Annotated[StrictFloat, Field(gt=0, le=10, allow_inf_nan=False)]
Share = Annotated[StrictFloat, Field(ge=0, lt=1, allow_inf_nan=False)]


class TrainingConfig(BaseModel):
    """Optimisation of one network: AdamW, linear warm-up, cosine decay, label smoothing (DeiT's recipe, shortened)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: Annotated[StrictInt, Field(ge=2)]
    """Training images seen in all, with repetition: what a run costs, whatever the size of the data set."""
    batch_size: BatchSize = 64
    learning_rate: LearningRate = 2e-3
    weight_decay: Annotated[StrictFloat, Field(ge=0, le=10, allow_inf_nan=False)] = 0.05
    label_smoothing: Share = 0.1
    warmup_share: Share = 0.1
    """Share of all steps over which the learning rate rises from 0."""
    clip_norm: Annotated[StrictFloat, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Largest norm of the whole gradient."""

    def num_steps(self, num_train_images: int) -> int:
        """Optimiser steps, given the size of the training part, which a batch cannot exceed."""
        return max(1, self.images // min(self.batch_size, num_train_images))


class ProxyConfig(BaseModel):
    """The short run that stands in for full training: a smaller input, perhaps a narrower network, few epochs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: Annotated[StrictInt, Field(ge=8, le=4096)] = 40
    """Side of the proxy's input, in pixels."""
    width_scale: Annotated[StrictFloat, Field(gt=0, le=1)] = 1.0
    """Channels per head of the proxy network over those of the target."""
    training: TrainingConfig


def proxy_arch(target: ArchConfig, proxy: ProxyConfig, *, channels: int, classes: int) -> ArchConfig:
    """The network that a trial trains for a target: its shape for the proxy's input size, width, channels and classes.

    Stochastic depth is left out: it pays over hundreds of epochs and harms a handful.
    """
    stages = tuple(_narrowed(stage, proxy.width_scale) for stage in target.stages)
    return ArchConfig(
        stages=stages,
        stem=StemConfig(width=max(1, round(target.stem.width * proxy.width_scale)), strides=target.stem.strides),
        image_size=proxy.image_size,
        channels=channels,
        classes=classes,
        drop_path=0.0,
    )


def _narrowed(stage: StageConfig, scale: float) -> StageConfig:
    head_width = max(1, round(stage.width // stage.heads * scale))
    return StageConfig.model_validate({**stage.model_dump(), "width": head_width * stage.heads})


class DivergedError(RuntimeError):
    """A loss left the finite numbers: the network's own failure, not the machine's."""
