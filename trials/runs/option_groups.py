"""The options that several commands share, in groups: each with its defaults and its checks.

A command's options are one class that inherits from the groups it needs and adds its own fields, so its recorded
options are one flat mapping. Fields are named as the options are typed, with `_` for `-`. The aliases of some fields
are the names that they had in earlier versions, whose records stay readable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Self, TypeVar, cast

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    StrictFloat,
    StrictInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from sret_nas.arch.budget import Budget
from sret_nas.errors import ConfigError, UserError, describe
from sret_nas.files import expand_home, validate
from sret_nas.space.search_space import SearchSpace

from ..data import DIGITS, DataConfig
from ..training.recipe import BatchSize, LearningRate, ProxyConfig, TrainingConfig
from .directory import is_unicode, supernet_file

Model = TypeVar("Model", bound=BaseModel)

Count = Annotated[StrictInt, Field(ge=1)]
Size = Annotated[StrictInt, Field(ge=2)]
"""Images of a part: fewer than two have no two classes."""

DEFAULT_EPOCHS, DEFAULT_MAX_IMAGES = 3, 16_000
"""Default length of a proxy run: this number of epochs, but at most this number of images."""

SUPERNET_EPOCHS, SUPERNET_MAX_IMAGES = 20, 200_000
"""Default length of a supernet's training, likewise."""


def default_supernet_images(num_train_images: int) -> int:
    """Returns the training images of a supernet if no number is given, repetitions counted."""
    return min(SUPERNET_EPOCHS * num_train_images, SUPERNET_MAX_IMAGES)


def flag(field: str) -> str:
    """Returns the option that sets a field: `--flops-budget` for `flops_budget`."""
    return "--" + field.replace("_", "-")


def validate_as_typed(
    model: type[Model], given: dict[str, Any], source: str, typed_as: Mapping[str, str] = MappingProxyType({})
) -> Model:
    """Returns the pydantic model built from options, as `validate` does.

    Args:
        typed_as: Options whose names differ from their fields.

    Raises `ConfigError`, which names an option as it is typed.
    """
    try:
        return validate(model, given, source)
    except ConfigError as error:
        name = error.key_path.partition("[")[0]
        if name not in model.model_fields:
            raise
        raise ConfigError(source, typed_as.get(name, flag(name)), error.problem) from None


def absolute_if_there(path: str) -> str:
    """Returns the absolute path of an existing file or folder, so that a run can be resumed from another folder.

    Anything else, such as the name of a data set, is returned unchanged. Raises `ValueError` for a path that the system
    cannot look up, such as one that is too long.
    """
    if not is_unicode(path):
        raise ValueError(f"must be a name in UTF-8, got {path!a}: rename it")
    try:
        expanded = Path(path).expanduser()
        return str(expanded.absolute()) if expanded.is_dir() or expanded.is_file() else path
    except (OSError, RuntimeError) as error:  # RuntimeError: `~nobody` of a user who does not exist
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"{describe(path)} cannot be looked up: {reason}") from None


def absolute_supernet_file(path: str) -> str:
    """Returns the absolute path of the supernet's file that an option means, which may name its directory.

    Raises `ValueError` for a directory without one.
    """
    try:
        return absolute_if_there(str(supernet_file(expand_home(path))))
    except UserError as error:
        raise ValueError(str(error)) from None


class OptionGroup(BaseModel):
    """Some options of a command. `model_fields_set` holds those that were given; the others have their defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    typed_as: ClassVar[Mapping[str, str]] = {}
    """Options of the command whose names differ from their fields."""

    @classmethod
    def parse(cls, given: Mapping[str, Any], source: str) -> Self:
        """Returns the given options; the others get their defaults.

        Args:
            given: Plain data by field name.
            source: The command, or the file that they were recorded in.

        Raises `ConfigError` with the first thing that is wrong, which names an option as it is typed.
        """
        return validate_as_typed(cls, dict(given), source, cls.typed_as)

    def with_given(self, given: Mapping[str, Any], source: str) -> Self:
        """Returns these recorded options, replaced by those given now. `model_fields_set` holds only the latter.

        Raises `ConfigError` as `parse` does.
        """
        options = self.parse({**self.model_dump(), **given}, source)
        # Validated already. The cast is for pydantic's mypy plugin, which infers `OptionGroup`.
        return cast(Self, self.model_construct(_fields_set=set(given), **dict(options)))


class StoredLabelOptions(OptionGroup):
    """The labels of a teacher that a search or a supernet learns."""

    soft_labels: str | None = None
    """A file of `soft-labels make --for search`; None for the images' classes."""

    @field_validator("soft_labels")
    @classmethod
    def _make_labels_absolute(cls, path: str | None) -> str | None:
        return None if path is None else absolute_if_there(path)


class TargetOptions(OptionGroup):
    """The search space, and the input (pixels, channels) and classes of its target networks.

    `trials.runs.target` says what classes and channels are if neither these options nor the space's file state them.
    """

    space: str = "sret_tiny"
    target_image_size: Annotated[StrictInt, Field(ge=8, le=4096)] | None = None
    target_classes: Annotated[StrictInt, Field(ge=1, le=1_000_000)] | None = None
    target_channels: Annotated[StrictInt, Field(ge=1, le=1024)] | None = None

    def load_space(self, base: SearchSpace | None = None) -> SearchSpace:
        """Returns the search space for the requested target, made from `base` if that is given.

        Its `model_fields_set` has `classes` and `channels` only if an option or the space's file states them. Raises
        `UserError` or `ConfigError` if it is invalid.
        """
        return self._space_with({}, base)

    def load_space_at_full_depth(self, base: SearchSpace | None = None) -> SearchSpace:
        """Returns the search space with the full depth schedule alone, since one supernet serves all networks."""
        return self._space_with({"depth_schedules": ["full"]}, base)

    def _space_with(self, changes: dict[str, Any], base: SearchSpace | None) -> SearchSpace:
        space = SearchSpace.load(self.space) if base is None else base
        target = {
            "image_size": self.target_image_size,
            "classes": self.target_classes,
            "channels": self.target_channels,
        }
        changes = changes | {name: value for name, value in target.items() if value is not None}
        stated = space.model_dump(mode="json", exclude_unset=True)
        return SearchSpace.from_dict({**stated, **changes}, self.space) if changes else space


class BudgetOptions(OptionGroup):
    """Bounds on a network's FLOPs and parameters, and on its FLOPs at the shallowest depth."""

    flops_budget: Count | None = None
    params_budget: Count | None = None
    flops_min: Count | None = None
    params_min: Count | None = None
    shallowest_flops_budget: Count | None = None

    @property
    def budget(self) -> Budget:
        return Budget(
            flops_max=self.flops_budget,
            params_max=self.params_budget,
            flops_min=self.flops_min,
            params_min=self.params_min,
            shallowest_flops_max=self.shallowest_flops_budget,
        )


class DataOptions(OptionGroup):
    """The images."""

    data: str = DIGITS
    data_root: str | None = None
    max_train_images: Annotated[Size | None, Field(validation_alias=AliasChoices("max_train_images", "max_train"))] = (
        None
    )
    max_val_images: Annotated[Size | None, Field(validation_alias=AliasChoices("max_val_images", "max_val"))] = None
    max_test_images: Annotated[Size | None, Field(validation_alias=AliasChoices("max_test_images", "max_test"))] = None
    split_seed: Annotated[StrictInt, Field(ge=0)] = 0

    @field_validator("data", "data_root")
    @classmethod
    def _make_absolute(cls, path: str | None, info: ValidationInfo) -> str | None:
        is_name = path is None or (info.field_name == "data" and path == DIGITS)
        return path if path is None or is_name else absolute_if_there(path)

    @model_validator(mode="after")
    def _check_data(self) -> Self:
        if self.data_root is not None and self.data == DIGITS:
            raise ValueError("--data-root goes with the name of a torchvision data set, which --data must give")
        return self

    def data_config_at(self, image_size: int) -> DataConfig:
        """Returns the configuration of these images, resized to `image_size` pixels a side."""
        return DataConfig(
            source=self.data,
            root=self.data_root,
            image_size=image_size,
            split_seed=self.split_seed,
            max_train=self.max_train_images,
            max_val=self.max_val_images,
            max_test=self.max_test_images,
        )


def with_data_root(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the options given when a run is resumed; a folder given as `data` has no recorded `data_root`."""
    if "data" in given and "data_root" not in given and expand_home(given["data"]).is_dir():
        return {**given, "data_root": None}  # images that were a torchvision data set's lie in a folder now
    return given


class OptimizationOptions(OptionGroup):
    """How weights are trained, whether a network's or a supernet's."""

    batch_size: BatchSize = 64
    learning_rate: LearningRate = 2e-3

    def training(self, images: int) -> TrainingConfig:
        """Returns a training on `images` images, counting repetitions."""
        return TrainingConfig(images=max(2, images), batch_size=self.batch_size, learning_rate=self.learning_rate)


class ProxyOptions(DataOptions, OptimizationOptions):
    """The proxy: smaller images and narrower networks that stand in for the target's."""

    image_size: Annotated[StrictInt, Field(ge=8, le=4096)] = 40
    width_scale: Annotated[StrictFloat, Field(gt=0, le=1)] = 1.0
    skip_broken: bool = False
    """Whether images that cannot be read are left out; otherwise they are an error."""

    @property
    def data_config(self) -> DataConfig:
        return replace(self.data_config_at(self.image_size), skip_broken=self.skip_broken)

    def proxy(self, num_train_images: int) -> ProxyConfig:
        """Returns the proxy run for a data set with `num_train_images` training images."""
        training = self.training(self._num_proxy_images(num_train_images))
        return ProxyConfig(image_size=self.image_size, width_scale=self.width_scale, training=training)

    def _num_proxy_images(self, num_train_images: int) -> int:
        return min(DEFAULT_EPOCHS * num_train_images, DEFAULT_MAX_IMAGES)


class ProxyRunOptions(ProxyOptions):
    """How long a proxy network is trained."""

    train_images: Annotated[StrictInt, Field(ge=2, le=10**9)] | None = None
    epochs: Annotated[StrictFloat, Field(gt=0, le=100_000, allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _check_proxy_run(self) -> Self:
        if self.epochs is not None and self.train_images is not None:
            raise ValueError("--epochs cannot be combined with --train-images: both set the length of a proxy run")
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
        """Returns the training of a supernet on a data set with `num_train_images` training images."""
        given = self.supernet_images
        return self.training(default_supernet_images(num_train_images) if given is None else given)
