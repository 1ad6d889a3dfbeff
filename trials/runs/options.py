"""What a search was asked to do: every option of the command line with its default, validated."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, StrictInt, field_validator, model_validator

from sret_nas.arch.budget import Budget
from sret_nas.errors import UserError
from sret_nas.quantities import format_latency, parse_latency
from sret_nas.space.search_space import SearchSpace

from ..strategies.early_stopping import ETA, SuccessiveHalving
from ..strategies.strategy import StrategyName
from ..training.recipe import TrainingConfig
from .engine_options import ComputeBudgetOptions, EngineOptions
from .objectives import Objective
from .option_groups import (
    BudgetOptions,
    Count,
    OptionGroup,
    ProxyRunOptions,
    SupernetTrainingOptions,
    TargetOptions,
    absolute_if_there,
    flag,
)
from .remote_storage import normalise_address

CHANGEABLE = {
    "trials", "workers", "engine", "ray_address", "gpus_per_trial", "trial_timeout", "time_budget", "gpu_hours",
    "storage", "data", "data_root",
}  # fmt: skip
"""Options that a resumed search may set anew: they do not change what a trial finds or which one comes next. Images
may lie elsewhere, but must have the same content, which `trials.search.search` sees to."""

FINE_TUNING_SHARE = 1 / 3
"""Images that a finalist is trained on, over those of a proxy run."""

FINE_TUNING_RATE = 0.25
"""Peak learning rate of training on, over that of training from scratch."""

WITH_SUPERNET = ("supernet", "supernet_images", "score_images", "fine_tune_images", "finalists", "rivals")
"""Options that mean nothing to a search whose trials train from scratch."""


class LatencyOptions(OptionGroup):
    """What a network's pass may take, as it is predicted."""

    latency_budget: str | None = None
    """Most predicted latency, with its unit: `20ms`."""
    latency_batch: Count = 1

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

    @property
    def latency_max(self) -> int | None:
        """The most predicted latency, in microseconds."""
        return None if self.latency_budget is None else parse_latency(self.latency_budget)


class SupernetOptions(SupernetTrainingOptions):
    """Where trials have their weights from, and what becomes of the best of them."""

    from_scratch: bool = False
    """Trials train from scratch; otherwise they inherit weights from a supernet."""
    supernet: str | None = None
    """The file of a trained supernet; None is to train one."""
    score_images: Count | None = None
    """Validation images that inherited weights are scored on; None is all."""
    fine_tune_images: Annotated[StrictInt, Field(ge=0, le=10**9)] = 0
    """Images that every trial trains its inherited weights on, before they are scored."""
    finalists: Annotated[StrictInt, Field(ge=0, le=1000)] = 4
    """Networks of the front that are trained on and scored again in the end."""
    rivals: Annotated[StrictInt, Field(ge=0, le=1000)] = 2
    """Finalists that are trained from scratch as well, each beside a random network of equal cost."""

    @field_validator("supernet")
    @classmethod
    def _make_supernet_absolute(cls, path: str | None) -> str | None:
        return None if path is None else absolute_if_there(path)

    @model_validator(mode="after")
    def _check_supernet(self) -> Self:
        for name in WITH_SUPERNET if self.from_scratch else ():
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"--no-supernet cannot be combined with {flag(name)}")
        if self.supernet is not None and self.supernet_images is not None:
            raise ValueError("--supernet names one that is trained, so it cannot be combined with --supernet-images")
        if self.rivals > self.finalists:
            raise ValueError(f"--controls must not exceed --finalists, got {self.rivals} and {self.finalists}")
        return self

    def fine_tuning(self, images: int) -> TrainingConfig:
        """Returns how inherited weights are trained on: as any others, at a lower rate."""
        return self.training(images).model_copy(update={"learning_rate": FINE_TUNING_RATE * self.learning_rate})


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


class SearchOptions(
    TargetOptions,
    BudgetOptions,
    LatencyOptions,
    ProxyRunOptions,
    SupernetOptions,
    EngineOptions,
    ComputeBudgetOptions,
):
    """The options of `search`."""

    strategy: StrategyName = "additive"
    objectives: Annotated[tuple[Objective, ...], Field(min_length=1)] = ("error", "flops")
    rungs: Annotated[StrictInt, Field(ge=1, le=8)] = 1
    """Points at which trials are compared, the last of them their end: at the others most are stopped."""
    eta: Annotated[StrictInt, Field(ge=2, le=100)] = ETA
    """How many times as far each rung is as the one before; of so many trials one goes on."""
    trials: Annotated[StrictInt, Field(ge=1, default_factory=_default_trials)]
    population: Annotated[StrictInt, Field(ge=2, default_factory=_default_population)]
    storage: str | None = None
    """A folder or bucket that keeps a copy of the run directory, under its name (`trials.runs.remote_copy`)."""

    @field_validator("storage")
    @classmethod
    def _spell_storage(cls, text: str | None) -> str | None:
        try:
            return None if text is None else normalise_address(text)
        except UserError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _check_search(self) -> Self:
        if len(set(self.objectives)) < len(self.objectives):
            raise ValueError(f"--objectives must not repeat, got {','.join(self.objectives)}")
        if self.latency_batch != 1 and not self.uses_latency:
            raise ValueError("--latency-batch goes with --latency-budget, or with latency among the --objectives")
        if self.eta != ETA and self.rungs == 1:
            raise ValueError("--eta goes with --rungs, which must then be at least 2")
        if self.rungs > 1 and self.fine_tune_images > 0:
            raise ValueError(
                "--rungs cannot be combined with --fine-tune-images: trials are compared by whole trainings, or by none"
            )
        return self

    @property
    def max_jobs(self) -> int:
        """Most jobs that a search can have at once: its trials, or in the end its finals."""
        finals = 0 if self.from_scratch else self.finalists + 2 * self.rivals
        return max(self.trials, finals)

    def make_rungs(self) -> SuccessiveHalving:
        """The rungs of a search that begins."""
        return SuccessiveHalving(self.rungs, self.eta)

    @property
    def uses_latency(self) -> bool:
        """Whether latency is bounded or an objective, so that it must be predicted."""
        return self.latency_budget is not None or "latency" in self.objectives

    def describe_budget(self) -> str:
        """E.g. `FLOPs at most 1G, latency at most 20ms`; `no budget` if nothing is bounded."""
        if self.latency_budget is None:
            return self.budget.describe()
        latency = f"latency at most {self.latency_budget}"
        return latency if self.budget == Budget() else f"{self.budget.describe()}, {latency}"

    def load_space(self) -> SearchSpace:
        return super().load_space() if self.from_scratch else self.load_space_at_full_depth()

    def resumed_with(self, given: Mapping[str, Any]) -> Self:
        """Returns these recorded options with those that a resumed search may set anew.

        Args:
            given: The options on the command line, plain data; they alone are in the result's `model_fields_set`.

        Raises `UserError` for any other difference, and `ConfigError` for values out of range.
        """
        if "data" in given and "data_root" not in given and Path(given["data"]).expanduser().is_dir():
            given = {**given, "data_root": None}  # images that were a torchvision dataset's lie in a folder now
        options = self.with_given(given, "search")
        for name in given.keys() - CHANGEABLE:
            was, now = getattr(self, name), getattr(options, name)
            if was != now:
                raise UserError(
                    f"{flag(name)} cannot change in a resumed search: it was {_format_option(was)}, "
                    f"got {_format_option(now)}; leave it out, or start a new search"
                )
        return options


def _format_option(value: object) -> str:
    """An option's value as it would be given."""
    if value is None:
        return "not given"
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
