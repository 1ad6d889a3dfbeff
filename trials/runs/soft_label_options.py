"""The options of `soft-labels make`, except those of the augmentation (`trials.training.full_recipe`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, StrictInt, model_validator

from ..training.recipe import TrainingConfig
from .engine_options import ComputeOptions
from .option_groups import DataOptions, ProxyOptions, default_supernet_images, flag
from .train_options import Temperature

OF_TRAIN = ("recipe", "channels", "data_workers")
"""Options that have no effect on the images of a search."""

OF_SEARCH = ("supernet_images", "skip_broken")
"""Options that have no effect on the images of `train`."""


class SoftLabelOptions(DataOptions, ComputeOptions):
    """The options of `soft-labels make`."""

    typed_as: ClassVar[Mapping[str, str]] = {"made_for": "--for"}

    made_for: Literal["train", "search"] = "train"
    """Whose images are labelled. Those of `search` are those of `supernet train` as well."""
    teacher: str
    teacher_checkpoint: str | None = None
    temperature: Temperature = 1.0
    epochs: Annotated[StrictInt, Field(ge=1, le=100_000)] | None = None
    """Epochs of the training that the labels are for; a longer one uses them again. None means a supernet's."""
    supernet_images: Annotated[StrictInt, Field(ge=2, le=10**10)] | None = None
    """Images of the supernet's training, from which its epochs follow; None means its default."""
    skip_broken: bool = False
    """Whether images that cannot be read are left out of a search."""
    top: Annotated[StrictInt, Field(ge=1, le=32_767)] = 10
    """Classes whose probabilities are kept of each view."""
    recipe: str | None = None
    """Name of a shipped recipe, or a YAML file; None chooses by the image size."""
    image_size: Annotated[StrictInt, Field(ge=8, le=4096)] | None = None
    """Side in pixels of the images that the student will see; None means the teacher's, or a search's default."""
    channels: Literal[1, 3] | None = None
    """Of the student's images; None means those of the data."""
    batch_size: Annotated[StrictInt, Field(ge=1, le=65_536)] = 64
    """Views that the teacher sees at once, which changes no label."""
    data_workers: Annotated[StrictInt, Field(ge=0, le=256)] | None = None
    """Processes that read images; None chooses by the number of cores."""

    @model_validator(mode="after")
    def _check_purpose(self) -> Self:
        for name in OF_TRAIN if self.made_for == "search" else OF_SEARCH:
            if getattr(self, name) != type(self).model_fields[name].default:
                other = "train" if self.made_for == "search" else "search"
                raise ValueError(f"{flag(name)} goes with --for {other}, got --for {self.made_for}")
        if self.made_for == "train" and self.epochs is None:
            raise ValueError("--epochs must say how many epochs of images to label")
        if self.epochs is not None and self.supernet_images is not None:
            raise ValueError("--epochs and --supernet-images exclude each other: both say how many epochs to label")
        return self

    def num_epochs(self, num_train_images: int) -> int:
        """Returns the number of epochs to label: as given, or those of a supernet's training in batches of 64."""
        if self.epochs is not None:
            return self.epochs
        given = self.supernet_images
        images = default_supernet_images(num_train_images) if given is None else given
        return TrainingConfig(images=images).num_epochs(num_train_images)

    @property
    def side(self) -> int | None:
        """The side of the images, with the default of searches; None is the teacher's."""
        is_default = self.image_size is None and self.made_for == "search"
        return ProxyOptions.model_fields["image_size"].default if is_default else self.image_size
