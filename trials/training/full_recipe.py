"""Recipes of whole trainings: YAML files with every value that decides how a network is trained, checked when read.

`recipes/` has the shipped ones. Importing this module imports neither torch nor timm.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr, model_validator

from sret_nas.errors import ConfigError, UserError, describe
from sret_nas.files import expand_home, validate
from sret_nas.plurals import counted
from sret_nas.space.search_space import DepthSchedule
from sret_nas.yaml_files import dump_yaml, read_yaml
from sret_nas.yaml_kinds import require_kind

from .recipe import BatchSize, LearningRate, RequestedPrecision, Share

Rate = Annotated[StrictFloat, Field(ge=0, le=10, allow_inf_nan=False)]
Probability = Annotated[StrictFloat, Field(ge=0, le=1, allow_inf_nan=False)]
Positive = Annotated[StrictFloat, Field(gt=0, le=1000, allow_inf_nan=False)]

MIN_IMAGENET_SIZE = 128
"""Smallest side of an image in pixels for which `imagenet` is the default recipe."""

_NUMBER = r"\d{1,4}(\.\d{1,4})?"  # timm takes none that begins with a point
_MSTD = rf"mstd{_NUMBER}"
_RAND = rf"rand(-(m\d{{1,2}}|n[1-9]|p(1|0\.\d{{1,4}})|mmax\d{{1,2}}|inc[01]|t(weights|3aw?)|{_MSTD}))*"
_AUGMIX = rf"augmix(-(m\d{{1,2}}|w[1-9]|d[1-9]|a(?!0*(\.0*)?(-|$)){_NUMBER}|b[01]|{_MSTD}))*"
_AUTO_AUGMENT = re.compile(rf"({_RAND})|({_AUGMIX})|(original|v0|originalr|v0r|3a)(-{_MSTD})?")
"""The policies that `timm.data.create_transform` builds, with at most 9 operations for an image. It fails for other
sections, and works for hours through a million operations."""


class Recipe(BaseModel):
    """How a network is trained: length, optimisation, augmentation, evaluation, precision.

    `null` turns an optional value off. The shipped files say what each value is for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: Annotated[StrictInt, Field(ge=1, le=100_000)]
    batch_size: BatchSize
    """Images per step, of all processes together. A batch is at most the whole training part."""
    learning_rate: LearningRate
    """Peak of the learning rate, for `learning_rate_batch` images per step."""
    learning_rate_batch: Annotated[StrictInt, Field(ge=1, le=65_536)] | None
    """The batch that `learning_rate` is for; larger batches get proportionally larger rates. None: no scaling."""
    warmup_epochs: Annotated[StrictFloat, Field(ge=0, le=100_000)]
    warmup_learning_rate: Rate
    """Rate from which the warm-up starts."""
    min_learning_rate: Rate
    """Rate at which the schedule ends."""
    schedule: Literal["cosine", "poly", "constant"]

    optimizer: Literal["adamw", "lamb", "lion", "sgd"]
    weight_decay: Rate
    """Of matrices and filters; biases, norms, residual coefficients and the position embedding are not decayed."""
    clip_norm: Annotated[StrictFloat, Field(gt=0, allow_inf_nan=False)] | None
    """Largest norm of the gradient of all parameters together."""
    label_smoothing: Share

    drop_path: Share | None
    """Stochastic depth of the last block application; earlier ones rise to it. None: the architecture's."""
    depth_schedule: DepthSchedule | None
    """Recursion depths of a step. None: what the architecture's file says, or `full`."""
    depth_distillation: StrictBool = False
    """Whether the deepest pass of a step teaches the shallower ones: its probabilities are their only labels. It needs
    a schedule with several depths in a step. Recipes of earlier versions lack the key."""
    ema_decay: Annotated[StrictFloat, Field(ge=0, lt=1, allow_inf_nan=False)] | None
    """Decay of the moving average of all weights, which is then what is evaluated and kept. None: no average."""
    ema_warmup: StrictBool
    """Whether the decay rises from 0 to `ema_decay`, which short trainings need."""

    crop_scale: tuple[Probability, Probability]
    """Smallest and largest area of a training crop, over that of the image."""
    crop_ratio: tuple[Positive, Positive]
    """Smallest and largest ratio of width to height of a training crop."""
    horizontal_flip: Probability
    """Probability of mirroring an image; 0 where a mirrored image does not keep its class."""
    vertical_flip: Probability
    color_jitter: Rate
    auto_augment: StrictStr | None
    """A policy in timm's words, such as `rand-m9-mstd0.5-inc1`."""
    random_erasing: Probability
    erasing_mode: Literal["const", "rand", "pixel"]
    repeated_augmentation: Annotated[StrictInt, Field(ge=1, le=64)]
    """Views of each image in an epoch, which then has so many times fewer images (Hoffer et al., 2020)."""
    mixup: Rate
    """Alpha of mixup; 0 turns it off."""
    cutmix: Rate
    """Alpha of CutMix; 0 turns it off."""
    mix_probability: Probability
    mix_switch_probability: Probability
    """Probability of CutMix where both are on."""
    mix_mode: Literal["batch", "pair", "elem"]

    interpolation: Literal["bilinear", "bicubic"]
    crop_fraction: Annotated[StrictFloat, Field(gt=0, le=1)]
    """Side of the centred square that is evaluated, over the shorter side of the resized image."""
    normalization: Literal["imagenet", "data"]
    """Mean and deviation by which images are standardised: ImageNet's, or those of the training images."""

    validate_every: Annotated[StrictInt, Field(ge=1, le=100_000)]
    """Epochs between two validations."""
    recalibration_images: Annotated[StrictInt, Field(ge=0, le=1_000_000)]
    """Training images on which the stem's BatchNorm statistics are computed anew before an evaluation; 0: not at all.
    """

    precision: RequestedPrecision
    """Precision of the passes; weights and updates are always fp32. `train` chooses what `auto` is, and records it."""
    gradient_accumulation: Annotated[StrictInt, Field(ge=1, le=1024)]
    """Parts in which each process computes its share of a batch."""
    channels_last: StrictBool
    compile: StrictBool
    """Whether the passes are compiled by `torch.compile`."""

    @classmethod
    def load(
        cls, name_or_path: str, changes: Mapping[str, Any], command: str = "train",
        tell: Callable[[str], None] | None = None, of_file: Collection[str] = (),
    ) -> Self:  # fmt: skip
        """Returns a shipped recipe by name, or that of a YAML file, with some values replaced.

        Args:
            name_or_path: The recipe.
            changes: Values that were given as options.
            command: The command that they were given to.
            tell: Takes a line about a warm-up that was made shorter, since fewer epochs were asked for than it takes.
            of_file: Names of those changes that were not typed, but come from a file of options (`--config`).

        Raises `UserError` if the file cannot be read, and `ConfigError` for an unknown key or an invalid value, which
        names an option as it is typed.
        """
        path = recipe_file(name_or_path)
        data = read_yaml(path)
        require_kind(data, "recipe", path)
        own = cls.parse(data, str(path))  # a mistake in the file is the file's, not the command line's
        whole = changes.get("warmup_epochs", own.warmup_epochs)
        warmup = _shorter_warmup(whole, changes, of_file)
        try:
            recipe = cls.parse({**data, **changes, **({} if warmup is None else {"warmup_epochs": warmup})}, command)
        except ConfigError as error:
            raise ConfigError(command, _typed(error.key_path), _typed(error.problem)) from None
        if warmup is not None and tell is not None:
            asked = counted(recipe.epochs, "epoch was", "epochs were")
            whose = "the file of --config" if "warmup_epochs" in changes else "the recipe"
            takes = f"{whole:g} {'epoch' if whole == 1 else 'epochs'}"
            tell(f"note: {whose} warms up for {takes}, and {asked} asked for: it warms up for {warmup:g} here")
        return recipe

    @classmethod
    def parse(cls, data: Any, source: str) -> Self:
        """Returns the recipe in plain data. Raises `ConfigError` naming `source` and the key."""
        return validate(cls, data, source)

    @property
    def mixes(self) -> bool:
        """Whether images of a batch are mixed, which needs an even number of them."""
        return self.mix_probability > 0 and (self.mixup > 0 or self.cutmix > 0)

    def peak_learning_rate(self, batch_size: int) -> float:
        """Returns the learning rate for batches of this size, after the warm-up."""
        return self.learning_rate * (batch_size / self.learning_rate_batch if self.learning_rate_batch else 1.0)

    def to_yaml(self) -> str:
        """Returns the recipe as a file that `load` reads."""
        return dump_yaml(self.model_dump(mode="json"))

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("crop_scale", "crop_ratio"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} must be two numbers, the smaller one above 0 and first, got {[low, high]}")
        if self.auto_augment is not None and not _AUTO_AUGMENT.fullmatch(self.auto_augment):
            raise ValueError(
                f"auto_augment must be a policy of timm such as rand-m9-mstd0.5-inc1, augmix-m3 or 3a, with at most 9 "
                f"operations, got {describe(self.auto_augment)}"
            )
        if self.warmup_epochs >= self.epochs > 0 and self.warmup_epochs > 0:
            raise ValueError(
                f"warmup_epochs must be less than the epochs, got {self.warmup_epochs:g} of "
                f"{counted(self.epochs, 'epoch')}: "
                "lower it as well, to 0 for no warmup"
            )
        if self.batch_size // self.gradient_accumulation < 2:
            raise ValueError(
                "gradient_accumulation must leave at least 2 images at a time, which BatchNorm needs, got "
                f"{self.gradient_accumulation} parts of a batch of {self.batch_size}"
            )
        return self


def _shorter_warmup(warmup: Any, changes: Mapping[str, Any], of_file: Collection[str]) -> float | None:
    """Returns half of the epochs if they are typed without a warm-up, and this one would last for all of them."""
    epochs, is_typed = changes.get("epochs"), "warmup_epochs" in changes and "warmup_epochs" not in of_file
    if is_typed or "epochs" in of_file or isinstance(epochs, bool) or not isinstance(epochs, int):
        return None
    if isinstance(warmup, bool) or not isinstance(warmup, int | float):
        return None  # which the recipe's rules refuse
    return epochs / 2 if 0 < epochs <= warmup else None


def _typed(text: str) -> str:
    """Returns a text in which the name of a value, if it comes first, is that of its option."""
    name = re.split(r"\W", text, maxsplit=1)[0]
    return f"--{name.replace('_', '-')}{text.removeprefix(name)}" if name in Recipe.model_fields else text


def default_recipe(image_size: int) -> str:
    """Returns the name of the shipped recipe for images of a side in pixels."""
    return "imagenet" if image_size >= MIN_IMAGENET_SIZE else "small"


def shipped_recipes() -> dict[str, Path]:
    """Returns the files of the shipped recipes by name.

    They lie beside the packages in a checkout, and inside `sret_nas` once installed.
    """
    above = Path(__file__).resolve().parents[2]
    folder = above / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def recipe_file(name_or_path: str) -> Path:
    """Returns the file of a shipped recipe, or the path itself. Raises `UserError` for a name that is neither."""
    shipped = shipped_recipes()
    path = expand_home(name_or_path)
    if name_or_path in shipped:
        return shipped[name_or_path]
    if path.suffix not in (".yaml", ".yml") and not path.exists():
        raise UserError(f"{name_or_path!r} is no recipe: name a YAML file, or one of {', '.join(shipped)}")
    return path
