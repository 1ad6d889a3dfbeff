"""The options of `soft-labels make`, except those of the augmentation (`trials.training.full_recipe`)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictInt

from .engine_options import ComputeOptions
from .option_groups import DataOptions
from .train_options import Temperature


class SoftLabelOptions(DataOptions, ComputeOptions):
    """The options of `soft-labels make`."""

    teacher: str
    teacher_checkpoint: str | None = None
    temperature: Temperature = 1.0
    epochs: Annotated[StrictInt, Field(ge=1, le=100_000)]
    """Epochs of the training that the labels are for; a longer one uses them again."""
    top: Annotated[StrictInt, Field(ge=1, le=32_767)] = 10
    """Classes whose probabilities are kept of each view."""
    recipe: str | None = None
    """Name of a shipped recipe, or a YAML file; None chooses by the image size."""
    image_size: Annotated[StrictInt, Field(ge=8, le=4096)] | None = None
    """Side in pixels of the images that the student will see; None means the teacher's."""
    channels: Literal[1, 3] | None = None
    """Of the student's images; None means those of the data."""
    batch_size: Annotated[StrictInt, Field(ge=1, le=65_536)] = 64
    """Views that the teacher sees at once, which changes no label."""
    data_workers: Annotated[StrictInt, Field(ge=0, le=256)] | None = None
    """Processes that read images; None chooses by the number of cores."""
