"""The options that commands share, in groups: each with its defaults, its checks, and what it decides.

A command's options are one class that inherits from the groups it needs and adds its own fields, so that its recorded
options stay one flat mapping. Fields are named as the options are typed, with `_` for `-`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictFloat,
    StrictInt,
    field_validator,
    model_validator,
)

from sret_nas.arch.budget import Budget
from sret_nas.files import validate
from sret_nas.space.search_space import SearchSpace

from ..data import DIGITS, DataConfig
from ..training.recipe import BatchSize, LearningRate, ProxyConfig, TrainingConfig

Count = Annotated[StrictInt, Field(ge=1)]

DEFAULT_EPOCHS, DEFAULT_MAX_IMAGES = 3, 16_000
"""Length of a proxy run unless told otherwise: so many epochs, but at most so many images."""

SUPERNET_EPOCHS, SUPERNET_MAX_IMAGES = 20, 200_000
"""Length of a supernet's training unless told otherwise, likewise."""


_FLAGS = {
    "accumulate": "--gradient-accumulation",
    "draws": "--subnet-sampling",
    "from_scratch": "--no-supernet",
    "max_test": "--max-test-images",
    "max_train": "--max-train-images",
    "max_val": "--max-val-images",
    "rivals": "--controls",
    "rule": "--step-rule",
    "score_images": "--val-images-per-trial",
}
"""Options of the command line that are not named as their fields, whose names stand in the records of older runs."""


def flag(field: str) -> str:
    """Returns the option that sets a field: `--flops-budget` for `flops_budget`."""
    return _FLAGS.get(field, "--" + field.replace("_", "-"))


def absolute_if_there(path: str) -> str:
    """Returns the absolute path of a file or folder, so that a run can be resumed from another folder; or the name."""
    found = Path(path).expanduser()
    return str(found.absolute()) if found.is_dir() or found.is_file() else path


class OptionGroup(BaseModel):
    """Some options of a command. `model_fields_set` are those that were given; the others are as by default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def parse(cls, given: Mapping[str, Any], source: str) -> Self:
        """Returns the options that were given, and the others by default.

        Args:
            given: Plain data by the names of the fields.
            source: The command, or the file that they were recorded in.

        Raises `ConfigError` with the first thing that is wrong.
        """
        return validate(cls, dict(given), source)

    def with_given(self, given: Mapping[str, Any], source: str) -> Self:
        """Returns recorded options with those given now in their place; only the latter are in `model_fields_set`.

        Raises `ConfigError` as `parse` does.
        """
        options = self.parse({**self.model_dump(), **given}, source)
        # validated already; to pydantic's plugin for mypy, what is constructed is an `OptionGroup`
        return cast(Self, self.model_construct(_fields_set=set(given), **dict(options)))


class TargetOptions(OptionGroup):
    """The search space, and what its networks are for. Sizes are in pixels."""

    space: str = "sret_tiny"
    target_image_size: Annotated[StrictInt, Field(ge=8, le=4096)] | None = None
    target_classes: Count | None = None

    def load_space(self) -> SearchSpace:
        """Returns the search space, for the target asked for. Raises `UserError` and `ConfigError`."""
        return self._space_with({})

    def load_space_at_full_depth(self) -> SearchSpace:
        """Returns the same without a choice of depth schedules: one training serves all networks."""
        return self._space_with({"depth_schedules": ["full"]})

    def _space_with(self, changes: dict[str, Any]) -> SearchSpace:
        space = SearchSpace.load(self.space)
        target = {"image_size": self.target_image_size, "classes": self.target_classes}
        changes = changes | {name: value for name, value in target.items() if value is not None}
        return SearchSpace.from_dict({**space.to_dict(), **changes}, self.space) if changes else space


class BudgetOptions(OptionGroup):
    """What a network may cost, in FLOPs and parameters."""

    flops_budget: Count | None = None
    params_budget: Count | None = None
    flops_min: Count | None = None
    params_min: Count | None = None

    @property
    def budget(self) -> Budget:
        return Budget(
            flops_max=self.flops_budget,
            params_max=self.params_budget,
            flops_min=self.flops_min,
            params_min=self.params_min,
        )


class DataOptions(OptionGroup):
    """The images."""

    data: str = DIGITS
    data_root: str | None = None
    max_train: Count | None = None
    max_val: Count | None = None
    max_test: Count | None = None
    split_seed: Annotated[StrictInt, Field(ge=0)] = 0

    @field_validator("data", "data_root")
    @classmethod
    def _make_absolute(cls, path: str | None) -> str | None:
        return path if path is None or path == DIGITS else absolute_if_there(path)

    @model_validator(mode="after")
    def _check_data(self) -> Self:
        if self.data_root is not None and self.data == DIGITS:
            raise ValueError("--data-root goes with the name of a torchvision data set, which --data must give")
        return self

    def data_config_at(self, image_size: int) -> DataConfig:
        """Returns what is prepared: these images with sides of `image_size` pixels."""
        return DataConfig(
            source=self.data,
            root=self.data_root,
            image_size=image_size,
            split_seed=self.split_seed,
            max_train=self.max_train,
            max_val=self.max_val,
            max_test=self.max_test,
        )


class OptimizationOptions(OptionGroup):
    """How weights are trained, whatever they are of."""

    batch_size: BatchSize = 64
    learning_rate: LearningRate = 2e-3

    def training(self, images: int) -> TrainingConfig:
        """Returns a training on so many images, with repetition."""
        return TrainingConfig(images=max(2, images), batch_size=self.batch_size, learning_rate=self.learning_rate)


class ProxyOptions(DataOptions, OptimizationOptions):
    """What images and networks are narrowed to where they stand in for the target's."""

    image_size: Annotated[StrictInt, Field(ge=8, le=4096)] = 40
    width_scale: Annotated[StrictFloat, Field(gt=0, le=1)] = 1.0

    @property
    def data_config(self) -> DataConfig:
        return self.data_config_at(self.image_size)

    def proxy(self, num_train_images: int) -> ProxyConfig:
        """Returns the proxy run, once it is known how many training images an epoch has."""
        training = self.training(self._num_proxy_images(num_train_images))
        return ProxyConfig(image_size=self.image_size, width_scale=self.width_scale, training=training)

    def _num_proxy_images(self, num_train_images: int) -> int:
        return min(DEFAULT_EPOCHS * num_train_images, DEFAULT_MAX_IMAGES)


class ProxyRunOptions(ProxyOptions):
    """How long a network is trained that stands in for its target."""

    train_images: Annotated[StrictInt, Field(ge=2, le=10**9)] | None = None
    epochs: Annotated[StrictFloat, Field(gt=0, le=100_000, allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _check_proxy_run(self) -> Self:
        if self.epochs is not None and self.train_images is not None:
            raise ValueError("--epochs cannot be combined with --train-images: both say how long a proxy run is")
        return self

    def _num_proxy_images(self, num_train_images: int) -> int:
        if self.train_images is not None:
            return self.train_images
        if self.epochs is not None:
            return round(self.epochs * num_train_images)
        return super()._num_proxy_images(num_train_images)


class SupernetTrainingOptions(OptimizationOptions):
    """How long a supernet is trained."""

    supernet_images: Annotated[StrictInt, Field(ge=2, le=10**10)] | None = None

    def supernet_training(self, num_train_images: int) -> TrainingConfig:
        """Returns how a supernet is trained, once it is known how many training images an epoch has."""
        by_default = min(SUPERNET_EPOCHS * num_train_images, SUPERNET_MAX_IMAGES)
        return self.training(by_default if self.supernet_images is None else self.supernet_images)
