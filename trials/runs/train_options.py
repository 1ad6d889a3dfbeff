"""The options of `train`, except the recipe's values (`trials.training.full_recipe`)."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StrictFloat, StrictInt, ValidationInfo, field_validator, model_validator

from .engine_options import ComputeOptions
from .option_groups import DataOptions, absolute_if_there, absolute_supernet_file, flag

Temperature = Annotated[StrictFloat, Field(gt=0, le=1000, allow_inf_nan=False)]

CHANGEABLE = {"data", "data_root", "data_workers", "device", "threads"}
"""Options that may change when a training is resumed. The images must be the same, but may have moved."""

MOVABLE = {"teacher", "teacher_checkpoint", "soft_labels"}
"""Options that may be given when a training is resumed that has them. The labels must be the same, but may have moved.
"""


class TrainOptions(DataOptions, ComputeOptions):
    """The options of `train`."""

    architecture: str
    """A YAML file, a preset, or the directory of a trained network."""
    recipe: str | None = None
    """Name of a shipped recipe, or a YAML file; None chooses by the image size."""
    image_size: Annotated[StrictInt, Field(ge=8, le=4096)] | None = None
    """Side of the input in pixels; None means the architecture's."""
    classes: Annotated[StrictInt, Field(ge=2, le=1_000_000)] | None = None
    """Classes of the network; None means those of the data."""
    channels: Literal[1, 3] | None = None
    """Channels of the input; None means those of the data."""
    supernet: str | None = None
    checkpoint: str | None = None
    teacher: str | None = None
    """A model directory, `local-dir:` and a folder, or the name of a model of timm."""
    teacher_checkpoint: str | None = None
    """The weights of a model of timm, in place of a hub's."""
    temperature: Temperature | None = None
    """By which the logits of teacher and network are divided; None means 1."""
    soft_labels: str | None = None
    """A file of `soft-labels make`, or a folder of FKD's files."""
    data_workers: Annotated[StrictInt, Field(ge=0, le=256)] | None = None
    """Processes that read images; None chooses by the number of cores."""

    @field_validator("supernet")
    @classmethod
    def _supernet_file(cls, path: str | None) -> str | None:
        return None if path is None else absolute_supernet_file(path)

    @field_validator("architecture", "checkpoint", "recipe", "teacher_checkpoint", "soft_labels")
    @classmethod
    def _absolute(cls, path: str | None, info: ValidationInfo) -> str | None:
        return None if path is None else absolute_if_there(path)

    @field_validator("teacher")
    @classmethod
    def _absolute_teacher(cls, teacher: str | None) -> str | None:
        prefix = "local-dir:"
        if teacher is not None and teacher.startswith(prefix):
            return prefix + absolute_if_there(teacher.removeprefix(prefix))
        return None if teacher is None else absolute_if_there(teacher)

    @model_validator(mode="after")
    def _check_start(self) -> Self:
        if self.supernet is not None and self.checkpoint is not None:
            raise ValueError("--supernet and --checkpoint exclude each other: both say where the first weights are")
        return self

    @model_validator(mode="after")
    def _check_teacher(self) -> Self:
        if self.teacher is not None and self.soft_labels is not None:
            raise ValueError("--teacher and --soft-labels exclude each other: both say where the labels come from")
        for name in ("teacher_checkpoint", "temperature"):
            if self.teacher is None and getattr(self, name) is not None:
                raise ValueError(f"{flag(name)} goes with --teacher")
        return self

    @property
    def given_threads(self) -> int | None:
        """The CPU threads of a process if they were given, else None."""
        return self.threads if "threads" in self.model_fields_set else None
