"""What a search was asked to do: every option of the command line with its default, validated."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
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
from sret_nas.errors import UserError
from sret_nas.files import validate
from sret_nas.quantities import format_latency, parse_latency
from sret_nas.space.search_space import SearchSpace
from trials.data import DIGITS, DataConfig
from trials.runs.objectives import Objective
from trials.runs.remote_storage import normalise_address
from trials.strategies.early_stopping import ETA, SuccessiveHalving
from trials.strategies.strategy import StrategyName
from trials.training.recipe import BatchSize, LearningRate, ProxyConfig, TrainingConfig

Count = Annotated[StrictInt, Field(ge=1)]

EngineName = Literal["local", "ray"]
"""What runs trials: worker processes on this machine, or those of a Ray, here or on a cluster."""

Seconds = Annotated[StrictFloat, Field(ge=1, le=1e8, allow_inf_nan=False)]

CHANGEABLE = {
    "trials", "workers", "engine", "ray_address", "gpus_per_trial", "trial_timeout", "time_budget", "gpu_hours",
    "storage",
}  # fmt: skip
"""Options that a resumed search may set anew: they do not change what a trial finds or which one comes next."""

DEFAULT_EPOCHS, DEFAULT_MAX_IMAGES = 3, 16_000
"""Length of a proxy run unless told otherwise: so many epochs, but at most so many images."""

SUPERNET_EPOCHS, SUPERNET_MAX_IMAGES = 20, 200_000
"""Length of a supernet's training unless told otherwise, likewise."""

FINE_TUNING_SHARE = 1 / 3
"""Images that a finalist is trained on, over those of a proxy run."""

FINE_TUNING_RATE = 0.25
"""Peak learning rate of training on, over that of training from scratch."""

WITH_SUPERNET = ("supernet", "supernet_images", "score_images", "fine_tune_images", "finalists", "rivals")
"""Options that mean nothing to a search whose trials train from scratch."""


_FLAGS = {
    "from_scratch": "--no-supernet",
    "max_test": "--max-test-images",
    "max_train": "--max-train-images",
    "max_val": "--max-val-images",
    "rivals": "--controls",
    "score_images": "--val-images-per-trial",
}
"""Options of the command line that are not named as their fields."""


def flag_of(field: str) -> str:
    """Returns the option that sets a field: `--flops-budget` for `flops_budget`."""
    return _FLAGS.get(field, "--" + field.replace("_", "-"))


def _default_trials(fields: dict[str, Any]) -> int:
    """Scoring a subnet takes a fraction of a training, and most trials that are stopped early a fraction of a trial."""
    if not fields["from_scratch"]:
        return 200
    return 16 if fields["rungs"] == 1 else 48


def _default_population(fields: dict[str, Any]) -> int:
    """NSGA-II's population, and the start of `tpe` (drawn uniformly), `evolution` and `additive` (spread over cost): a
    quarter of the trials, 4 to 20, to leave trials to learn in. `random` and `stratified` have none."""
    trials: int = fields["trials"]
    return max(4, min(20, trials // 4))


def _default_workers() -> int:
    """One worker per core that this process may use, at most 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 8)


def _default_lookahead(fields: dict[str, Any]) -> int:
    """Enough for all workers, and no more than need be: what runs ahead is proposed without having learned.

    It is the same for up to 4 workers, so that their searches find the same. A cluster may grow to twice its size.
    """
    workers: int = fields["workers"]
    return max(4, workers if fields["ray_address"] is None else 2 * workers)


class SearchOptions(BaseModel):
    """The options of `search`. Fractions are of images; sizes in pixels; budgets in FLOPs and parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    space: str = "sret_tiny"
    target_image_size: Annotated[StrictInt, Field(ge=8, le=4096)] | None = None
    target_classes: Count | None = None
    flops_budget: Count | None = None
    params_budget: Count | None = None
    flops_min: Count | None = None
    params_min: Count | None = None
    latency_budget: str | None = None
    """Most predicted latency, with its unit: `20ms`."""
    latency_batch: Count = 1

    from_scratch: bool = False
    """Trials train from scratch; otherwise they inherit weights from a supernet."""
    supernet: str | None = None
    """The file of a trained supernet; None is to train one."""
    supernet_images: Annotated[StrictInt, Field(ge=2, le=10**10)] | None = None
    score_images: Count | None = None
    """Validation images that inherited weights are scored on; None is all."""
    fine_tune_images: Annotated[StrictInt, Field(ge=0, le=10**9)] = 0
    """Images that every trial trains its inherited weights on, before they are scored."""
    finalists: Annotated[StrictInt, Field(ge=0, le=1000)] = 4
    """Networks of the front that are trained on and scored again in the end."""
    rivals: Annotated[StrictInt, Field(ge=0, le=1000)] = 2
    """Finalists that are trained from scratch as well, each beside a random network of equal cost."""

    strategy: StrategyName = "additive"
    objectives: Annotated[tuple[Objective, ...], Field(min_length=1)] = ("error", "flops")
    rungs: Annotated[StrictInt, Field(ge=1, le=8)] = 1
    """Points at which trials are compared, the last of them their end: at the others most are stopped."""
    eta: Annotated[StrictInt, Field(ge=2, le=100)] = ETA
    """How many times as far each rung is as the one before; of so many trials one goes on."""
    trials: Annotated[StrictInt, Field(ge=1, default_factory=_default_trials)]
    population: Annotated[StrictInt, Field(ge=2, default_factory=_default_population)]
    seed: Annotated[StrictInt, Field(ge=0, lt=2**32)] = 0
    engine: EngineName = "local"
    ray_address: str | None = None
    """A cluster's, `auto` or HOST:PORT; None is a Ray of the search's own, on this machine."""
    gpus_per_trial: Annotated[StrictFloat, Field(ge=0, le=64, allow_inf_nan=False)] = 0.0
    """GPUs that Ray keeps for each trial: a share of one, or a whole number."""
    workers: Annotated[StrictInt, Field(ge=0, default_factory=_default_workers)]
    """Trials at once; on a cluster, unless given, as many as it holds."""
    lookahead: Annotated[StrictInt, Field(ge=1, default_factory=_default_lookahead)]
    threads: Annotated[StrictInt, Field(ge=1, le=1024)] = 1
    device: str = "auto"

    trial_timeout: Seconds | None = None
    """Most seconds that an attempt at a trial may take; None is 20 times the expected, and at least 10 minutes."""
    time_budget: Seconds | None = None
    """Seconds of wall time, all sessions together, beyond which no trial starts (`trials.runs.compute_budget`)."""
    gpu_hours: Annotated[StrictFloat, Field(gt=0, le=1e8, allow_inf_nan=False)] | None = None
    """Hours of GPU time beyond which no trial starts."""

    storage: str | None = None
    """A folder or bucket that keeps a copy of the run directory, under its name (`trials.runs.remote_copy`)."""

    data: str = "digits"
    data_root: str | None = None
    max_train: Count | None = None
    max_val: Count | None = None
    max_test: Count | None = None
    split_seed: Annotated[StrictInt, Field(ge=0)] = 0

    image_size: Annotated[StrictInt, Field(ge=8, le=4096)] = 40
    width_scale: Annotated[StrictFloat, Field(gt=0, le=1)] = 1.0
    train_images: Annotated[StrictInt, Field(ge=2, le=10**9)] | None = None
    epochs: Annotated[StrictFloat, Field(gt=0, le=100_000, allow_inf_nan=False)] | None = None
    batch_size: BatchSize = 64
    learning_rate: LearningRate = 2e-3

    @field_validator("data", "data_root", "supernet")
    @classmethod
    def _make_absolute(cls, path: str | None, info: ValidationInfo) -> str | None:
        """So that a search can be resumed from another folder. What is no folder here stays as it is: a name."""
        if path is None or (info.field_name == "data" and path == DIGITS):
            return path
        found = Path(path).expanduser()
        return str(found.absolute()) if found.is_dir() or found.is_file() else path

    @field_validator("latency_budget")
    @classmethod
    def _spell_latency(cls, text: str | None) -> str | None:
        """One spelling for one time, so that 0.02s is 20ms."""
        if text is None:
            return None
        try:
            return format_latency(parse_latency(text), digits=12)
        except UserError as error:
            raise ValueError(str(error)) from None

    @field_validator("storage")
    @classmethod
    def _spell_storage(cls, text: str | None) -> str | None:
        try:
            return None if text is None else normalise_address(text)
        except UserError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.objectives)) < len(self.objectives):
            raise ValueError(f"objectives must not repeat, got {','.join(self.objectives)}")
        if not re.fullmatch(r"auto|cpu|cuda(:\d{1,2})?", self.device):
            raise ValueError(f"device must be auto, cpu, cuda or cuda:NUMBER, got {self.device!r}")
        self._check_engine()
        if self.gpu_hours is not None and self.device == "cpu":
            raise ValueError("gpu_hours goes with a GPU, got device cpu; time_budget bounds the wall time anywhere")
        if self.data_root is not None and self.data == DIGITS:
            raise ValueError("data_root goes with the name of a torchvision data set, which data must give")
        if self.latency_batch != 1 and not self.uses_latency:
            raise ValueError("latency_batch goes with latency_budget, or with latency among the objectives")
        for name in WITH_SUPERNET if self.from_scratch else ():
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{flag_of(name)} cannot be combined with --no-supernet")
        if self.supernet is not None and self.supernet_images is not None:
            raise ValueError("supernet_images is how long a supernet is trained, and supernet is one that was trained")
        if self.eta != ETA and self.rungs == 1:
            raise ValueError("eta goes with rungs, which must then be at least 2")
        if self.rungs > 1 and self.fine_tune_images > 0:
            raise ValueError(
                "rungs do not go with fine_tune_images: trials are compared by whole trainings, or by none"
            )
        if self.rivals > self.finalists:
            raise ValueError(f"--controls must not exceed --finalists, got {self.rivals} and {self.finalists}")
        if self.epochs is not None and self.train_images is not None:
            raise ValueError("epochs and train_images exclude each other: both say how long a proxy run is")
        return self

    def _check_engine(self) -> None:
        gpus = self.gpus_per_trial
        if self.engine == "local" and (self.ray_address is not None or gpus > 0):
            name = "ray_address" if self.ray_address is not None else "gpus_per_trial"
            raise ValueError(f"{name} goes with engine ray, got engine local")
        if self.engine == "ray" and self.workers == 0:
            raise ValueError("workers must be at least 1 with engine ray, got 0")
        if gpus > 1 and not gpus.is_integer():
            raise ValueError(f"gpus_per_trial must be a share of one GPU or a whole number, got {gpus:g}")
        if gpus > 0 and self.device == "cpu":
            raise ValueError(f"gpus_per_trial goes with a GPU, got {gpus:g} and device cpu")

    def make_rungs(self) -> SuccessiveHalving:
        """The rungs of a search that begins."""
        return SuccessiveHalving(self.rungs, self.eta)

    @property
    def budget(self) -> Budget:
        return Budget(
            flops_max=self.flops_budget,
            params_max=self.params_budget,
            flops_min=self.flops_min,
            params_min=self.params_min,
        )

    @property
    def uses_latency(self) -> bool:
        """Whether latency is bounded or an objective, so that it must be predicted."""
        return self.latency_budget is not None or "latency" in self.objectives

    @property
    def latency_max(self) -> int | None:
        """The most predicted latency, in microseconds."""
        return None if self.latency_budget is None else parse_latency(self.latency_budget)

    def describe_budget(self) -> str:
        """E.g. `FLOPs at most 1G, latency at most 20ms`; `no budget` if nothing is bounded."""
        if self.latency_budget is None:
            return self.budget.describe()
        latency = f"latency at most {self.latency_budget}"
        return latency if self.budget == Budget() else f"{self.budget.describe()}, {latency}"

    def load_space(self) -> SearchSpace:
        """The search space, for the target asked for. Raises `UserError` and `ConfigError`."""
        space = SearchSpace.load(self.space)
        target = {"image_size": self.target_image_size, "classes": self.target_classes}
        changes: dict[str, Any] = {name: value for name, value in target.items() if value is not None}
        if not self.from_scratch:  # one training serves all networks, so its schedule is no choice of theirs
            changes["depth_schedules"] = ["full"]
        return SearchSpace.from_dict({**space.to_dict(), **changes}, self.space) if changes else space

    @property
    def data_config(self) -> DataConfig:
        return DataConfig(
            source=self.data,
            root=self.data_root,
            image_size=self.image_size,
            split_seed=self.split_seed,
            max_train=self.max_train,
            max_val=self.max_val,
            max_test=self.max_test,
        )

    def proxy(self, num_train_images: int) -> ProxyConfig:
        """The proxy run, once it is known how many training images an epoch has."""
        images = min(round(DEFAULT_EPOCHS * num_train_images), DEFAULT_MAX_IMAGES)
        if self.epochs is not None:
            images = round(self.epochs * num_train_images)
        if self.train_images is not None:
            images = self.train_images
        training = TrainingConfig(images=max(2, images), batch_size=self.batch_size, learning_rate=self.learning_rate)
        return ProxyConfig(image_size=self.image_size, width_scale=self.width_scale, training=training)

    def supernet_training(self, num_train_images: int) -> TrainingConfig:
        """How a supernet is trained, once it is known how many training images an epoch has."""
        images = min(round(SUPERNET_EPOCHS * num_train_images), SUPERNET_MAX_IMAGES)
        if self.supernet_images is not None:
            images = self.supernet_images
        return TrainingConfig(images=max(2, images), batch_size=self.batch_size, learning_rate=self.learning_rate)

    def fine_tuning(self, images: int) -> TrainingConfig:
        """How inherited weights are trained on: as any others, at a lower rate."""
        return TrainingConfig(
            images=max(2, images),
            batch_size=self.batch_size,
            learning_rate=FINE_TUNING_RATE * self.learning_rate,
        )

    def changed(self, given: dict[str, Any]) -> SearchOptions:
        """These options with those that a resumed search may set anew; `given` are plain data.

        Raises `UserError` for any other difference, and `ConfigError` for values out of range.
        """
        changed = validate(SearchOptions, {**self.model_dump(), **given}, "search")
        for name in given.keys() - CHANGEABLE:
            was, now = getattr(self, name), getattr(changed, name)
            if was != now:
                raise UserError(
                    f"{flag_of(name)} cannot change in a resumed search: it was {_format_option(was)}, "
                    f"got {_format_option(now)}; leave it out, or start a new search"
                )
        return changed


def _format_option(value: object) -> str:
    """An option's value as it would be given."""
    if value is None:
        return "not given"
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
