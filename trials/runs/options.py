"""The options of a search: every option of the command line with its default, validated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import AliasChoices, Field, StrictInt, field_validator, model_validator

from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.errors import UserError
from sret_nas.plurals import counted
from sret_nas.quantities import format_latency, format_quantity, parse_latency
from sret_nas.space.search_space import SearchSpace

from ..integrations.trackers import TrackerName
from ..strategies.early_stopping import ETA, SuccessiveHalving
from ..strategies.strategy import StrategyName
from ..training.recipe import TrainingConfig
from .engine_options import ComputeBudgetOptions, EngineOptions, PrecisionOptions
from .objectives import LEARNED, Objective
from .option_groups import (
    BudgetOptions,
    Count,
    OptionGroup,
    ProxyRunOptions,
    StoredLabelOptions,
    SupernetTrainingOptions,
    TargetOptions,
    absolute_supernet_file,
    flag,
    with_data_root,
)
from .recommendation import BestBy, BudgetCost
from .remote_storage import normalise_address

CHANGEABLE = {
    "trials", "workers", "engine", "ray_address", "gpus_per_trial", "trial_timeout", "time_budget", "gpu_hours",
    "storage", "data", "data_root", "log", "soft_labels", "supernet",
}  # fmt: skip
"""Options that may change when a search is resumed: they affect neither a trial's result nor the order of trials.
Images, soft labels and a given supernet may lie elsewhere, but must have the same content, which `trials.search.search`
checks."""

_MOVABLE = {"soft_labels", "supernet"}
"""Those that name a file of a search that has one. It may move, and a search that has none gets none."""

MAX_TRIALS = 10_000_000
"""More trials than any search can hold; a larger number is a slip."""

FINE_TUNING_SHARE = 1 / 3
"""Images that a finalist is fine-tuned on, as a share of those of a proxy run."""

FINE_TUNING_RATE = 0.25
"""Peak learning rate of fine-tuning, as a share of that of training from scratch."""

MIN_WARMUP_STEPS, MAX_WARMUP_SHARE = 100, 0.3
"""Steps over which the learning rate of finalists and controls rises, if they are no larger share of all steps."""

WITH_SUPERNET = ("supernet", "supernet_images", "val_images_per_trial", "fine_tune_images", "finalists", "controls")
"""Options that have no effect on a search whose trials train from scratch."""


class LatencyOptions(OptionGroup):
    """The bound on a network's predicted latency."""

    latency_budget: str | None = None
    """The maximum predicted latency with its unit, such as `20ms`."""
    latency_batch: Count = 1

    @field_validator("latency_budget")
    @classmethod
    def _normalise_latency(cls, text: str | None) -> str | None:
        """Returns the one spelling of a time: 20ms for 0.02s."""
        if text is None:
            return None
        try:
            return format_latency(parse_latency(text), digits=12)
        except UserError as error:
            raise ValueError(str(error)) from None

    @property
    def latency_max(self) -> int | None:
        """The maximum predicted latency in microseconds."""
        return None if self.latency_budget is None else parse_latency(self.latency_budget)


class SupernetOptions(SupernetTrainingOptions):
    """Where trials get their weights, and how the best of them are examined at the end."""

    no_supernet: Annotated[bool, Field(validation_alias=AliasChoices("no_supernet", "from_scratch"))] = False
    """Whether trials train from scratch; otherwise they inherit weights from a supernet."""
    supernet: str | None = None
    """The file of a trained supernet, or the directory that holds it; None trains one."""
    val_images_per_trial: Annotated[
        Count | None, Field(validation_alias=AliasChoices("val_images_per_trial", "score_images"))
    ] = None
    """Validation images that inherited weights are scored on; None is all."""
    fine_tune_images: Annotated[StrictInt, Field(ge=0, le=10**9)] = 0
    """Images that every trial fine-tunes its inherited weights on before they are scored."""
    finalists: Annotated[StrictInt, Field(ge=0, le=1000)] = 4
    """Networks of the front that are fine-tuned and tested at the end."""
    controls: Annotated[StrictInt, Field(ge=0, le=1000, validation_alias=AliasChoices("controls", "rivals"))] = 2
    """Finalists that are also trained from scratch, each against a random network of equal FLOPs."""

    @model_validator(mode="before")
    @classmethod
    def _have_no_more_controls_than_finalists(cls, given: Any) -> Any:
        """Lowers the default of `controls` to the finalists, so that fewer can be asked for by one option."""
        if not isinstance(given, dict) or given.keys() & {"controls", "rivals"}:
            return given
        finalists = given.get("finalists")
        is_number = isinstance(finalists, int) and finalists >= 0
        fewer = is_number and finalists < cls.model_fields["controls"].default
        return {**given, "controls": finalists} if fewer else given

    @field_validator("supernet")
    @classmethod
    def _make_supernet_absolute(cls, path: str | None) -> str | None:
        return None if path is None else absolute_supernet_file(path)

    @model_validator(mode="after")
    def _check_supernet(self) -> Self:
        for name in WITH_SUPERNET if self.no_supernet else ():
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"--no-supernet cannot be combined with {flag(name)}")
        if self.supernet is not None and self.supernet_images is not None:
            raise ValueError("--supernet names a trained supernet, so it cannot be combined with --supernet-images")
        if self.controls > self.finalists:
            raise ValueError(
                f"--controls must not exceed --finalists, got {self.controls} and {self.finalists}: give fewer"
            )
        return self

    def control_training(self, images: int) -> TrainingConfig:
        """Returns the training of finalists and controls from scratch: that of a proxy, with a long enough warm-up.

        A tenth of 50 steps is too short a warm-up for deep networks: with it, some hardly learn (benchmarks/NOTES.md).
        """
        training = self.training(images)
        share = min(MAX_WARMUP_SHARE, MIN_WARMUP_STEPS * training.batch_size / training.images)
        return training.model_copy(update={"warmup_share": max(training.warmup_share, share)})

    def fine_tuning(self, images: int) -> TrainingConfig:
        """Returns the fine-tuning of inherited weights: a training like any other, at a lower learning rate."""
        return self.training(images).model_copy(update={"learning_rate": FINE_TUNING_RATE * self.learning_rate})


def _default_trials(fields: dict[str, Any]) -> int:
    """Returns more trials where they are cheaper: a subnet is only scored, and early stopping ends most trials."""
    if not fields["no_supernet"]:
        return 200
    return 16 if fields["rungs"] == 1 else 48


def _default_population(fields: dict[str, Any]) -> int:
    """Returns a quarter of the trials, between 4 and 20, which leaves trials to learn in.

    It is NSGA-II's population, and the number of initial trials of `tpe` and `gp` (drawn uniformly), `evolution`,
    `gp_design` and `additive` (spread over cost), which keeps it within bounds of its own
    (`trials.strategies.additive_settings`). `random` and `stratified` do not use it.
    """
    trials: int = fields["trials"]
    return max(4, min(20, trials // 4))


class SearchOptions(
    TargetOptions,
    BudgetOptions,
    LatencyOptions,
    ProxyRunOptions,
    StoredLabelOptions,
    SupernetOptions,
    EngineOptions,
    PrecisionOptions,
    ComputeBudgetOptions,
):
    """The options of `search`."""

    strategy: StrategyName = "additive"
    objectives: Annotated[tuple[Objective, ...], Field(min_length=1)] = ("error", "flops")
    balanced_error: bool = False
    """Whether an error is the mean over classes of each class's error, instead of the share of all images."""
    rungs: Annotated[StrictInt, Field(ge=1, le=8)] = 1
    """Points at which trials are compared; the last is their end, and at each other one most trials are stopped."""
    eta: Annotated[StrictInt, Field(ge=2, le=100)] = ETA
    """At each rung the best 1/eta of the trials are kept; rungs are eta times further apart."""
    enqueue: tuple[ArchConfig, ...] = ()
    """Known networks, which are the first trials."""
    best_by: BestBy = "expected"
    """How `best.yaml` is chosen. With `proxy`, no network is recommended, and finalists come from the front alone."""
    trials: Annotated[StrictInt, Field(ge=1, le=MAX_TRIALS, default_factory=_default_trials)]
    population: Annotated[StrictInt, Field(ge=2, le=MAX_TRIALS, default_factory=_default_population)]
    log: tuple[TrackerName, ...] = ()
    """Experiment trackers that follow the search, besides TensorBoard."""
    storage: str | None = None
    """A folder or bucket that gets a copy of the run directory, under its name (`trials.runs.remote_copy`)."""

    @field_validator("storage")
    @classmethod
    def _normalise_storage(cls, text: str | None) -> str | None:
        try:
            return None if text is None else normalise_address(text)
        except UserError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _check_search(self) -> Self:
        if len(self.enqueue) > self.trials:
            trials = counted(self.trials, "trial")
            raise ValueError(f"--enqueue names {counted(len(self.enqueue), 'network')} for {trials}: raise --trials")
        if len(set(self.objectives)) < len(self.objectives):
            raise ValueError(f"--objectives must not repeat, got {','.join(self.objectives)}")
        if not set(self.objectives) & set(LEARNED):
            raise ValueError(
                f"--objectives must name error, cross_entropy or depth_error, got {','.join(self.objectives)}: without "
                "them the cheapest networks are the best ones, and no training can tell"
            )
        if self.latency_batch != 1 and not self.uses_latency:
            raise ValueError("--latency-batch goes with --latency-budget, or with latency among the --objectives")
        if self.eta != ETA and self.rungs == 1:
            raise ValueError("--eta goes with --rungs, which must then be at least 2")
        if self.rungs > 1 and self.fine_tune_images > 0:
            raise ValueError(
                "--rungs cannot be combined with --fine-tune-images: rungs divide a training from scratch or a scoring"
            )
        return self

    @property
    def max_jobs(self) -> int:
        """Most jobs that a search can have at once: its trials, or in the end its finals."""
        finals = 0 if self.no_supernet else self.finalists + 2 * self.controls
        return max(self.trials, finals)

    def make_rungs(self) -> SuccessiveHalving:
        """Returns successive halving at its beginning, before any trial."""
        return SuccessiveHalving(self.rungs, self.eta)

    @property
    def scores_depths(self) -> bool:
        """Whether networks are scored at every recursion depth."""
        return "depth_error" in self.objectives

    @property
    def uses_latency(self) -> bool:
        """Whether latency is bounded or an objective, so that it must be predicted."""
        return self.latency_budget is not None or "latency" in self.objectives

    @property
    def upper_bound(self) -> tuple[BudgetCost, int] | None:
        """The cost that is bounded from above, FLOPs first, and its bound; None if there is none."""
        bounds: list[tuple[BudgetCost, int | None]] = [
            ("flops", self.budget.flops_max),
            ("params", self.budget.params_max),
            ("latency", self.latency_max),
        ]
        return next(((name, bound) for name, bound in bounds if bound is not None), None)

    def describe_budget(self) -> str:
        """Returns e.g. `FLOPs at most 1G, latency at most 20ms`, or `no budget` if nothing is bounded."""
        if self.latency_budget is None:
            return self.budget.describe()
        latency = f"latency at most {self.latency_budget}"
        return latency if self.budget == Budget() else f"{self.budget.describe()}, {latency}"

    def load_space(self, base: SearchSpace | None = None) -> SearchSpace:
        """Returns the space with the depth schedules that this search can train.

        Raises `UserError` if it must train at several depths, and the space has full depth alone.
        """
        if not self.no_supernet:
            return self.load_space_at_full_depth(base)
        space = super().load_space(base)
        if self.scores_depths and set(space.depth_schedules) == {"full"}:
            raise UserError(
                f"with depth_error among the --objectives networks are trained at several depths, and {space.name} has "
                "depth_schedules: [full]: add another one, such as joint, or leave out --no-supernet"
            )
        return space

    def resumed_with(self, given: Mapping[str, Any]) -> Self:
        """Returns these recorded options, changed by those given when the search is resumed.

        Args:
            given: The options on the command line, plain data; only they are in the result's `model_fields_set`.

        Raises `UserError` if an option outside `CHANGEABLE` differs, and `ConfigError` for values out of range.
        """
        for name in sorted(given.keys() & _MOVABLE):  # first, or it may contradict another option as well
            if getattr(self, name) is None and given[name] is not None:
                raise _cannot_change(name, None, given[name])
        options = self.with_given(with_data_root(given), "search")
        kept = {name for name in _MOVABLE if getattr(options, name) is None}
        for name in given.keys() - (CHANGEABLE - kept):
            was, now = getattr(self, name), getattr(options, name)
            if was != now:
                raise _cannot_change(name, was, now)
        return options


def _cannot_change(name: str, was: object, now: object) -> UserError:
    return UserError(
        f"{flag(name)} cannot change in a resumed search: it was {_format_option(name, was)}, "
        f"got {_format_option(name, now)}; leave it out, or start a new search"
    )


def _format_option(name: str, value: object) -> str:
    """Returns an option's value as it is typed."""
    if value is None:
        return "not given"
    if name in BudgetOptions.model_fields and isinstance(value, int):
        return format_quantity(value, digits=12)
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
