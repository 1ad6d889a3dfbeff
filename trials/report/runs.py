"""Tables of runs: a list, and a comparison of several."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.table import Table

from sret_nas.arrays import FloatArray
from sret_nas.pareto import hypervolume
from sret_nas.quantities import format_quantity, format_seconds

from ..runs.best import choose_best
from ..runs.objective_texts import TEXTS
from ..runs.objectives import Objective, error_named, error_of, pareto_front
from ..runs.recommendation import ORIGIN
from ..runs.recorded_search import RecordedSearch
from ..runs.trial import Trial
from ..strategies.structure import MIN_RESULTS, StructureModel

WIDE, MEDIUM = 90, 60
"""Columns of a terminal from which tables have all columns, and all but the less important."""

NUM_LIMITS, NUM_LIMITS_NARROW = 4, 3
"""Costs at which the least errors are compared, and how many of them a narrow terminal has room for."""


@dataclass(frozen=True)
class RunSummary:
    """One line of a list of runs, as plain data."""

    run: str
    state: str
    budget: str
    finished: int
    """Trials with a result, without those that evaluate what is recommended."""
    recommended_finished: int
    """Those that do: they come on top of `trials`."""
    trials: int
    best: str | None
    """Id of the network in `best.yaml`; None before a trial has finished."""
    best_error: float | None
    """Observed error of its proxy, 0 to 1: one score."""
    error_name: Literal["error", "depth_error"]
    """The error by which the search compares networks, which this is: of the full depth, or the mean over depths."""
    best_predicted_error: float | None
    """Posterior mean of the model of all trials; None unless it was recommended."""
    best_flops: int | None
    best_params: int | None
    began: float
    """Seconds since the epoch."""
    megabytes: float

    @classmethod
    def of(cls, search: RecordedSearch) -> RunSummary:
        """Returns what is known of a search, finished or not."""
        trials, options = search.history.in_order, search.options
        finished = [trial for trial in trials if trial.result is not None]
        evaluated = sum(trial.origin == ORIGIN for trial in finished)
        best = (
            choose_best(trials, options.objectives, options.best_by, search.history.recommended) if finished else None
        )
        result = None if best is None else best.trial.result
        known = search.history.recommended
        network = None if best is None or known is None else known.of(best.trial.number)
        return cls(
            run=str(search.run_dir),
            state=search.state,
            budget=options.describe_budget(),
            finished=len(finished) - evaluated,
            recommended_finished=evaluated,
            trials=options.trials,
            best=None if best is None else best.trial.candidate.arch.arch_id,
            best_error=None if result is None else error_of(result, options.objectives),
            error_name=error_named(options.objectives),
            best_predicted_error=None if network is None else network.predicted_error,
            best_flops=None if result is None else result.target.flops,
            best_params=None if result is None else result.target.params,
            began=float(search.history.header["time"]),
            megabytes=round(size_of(search.run_dir) / 1e6, 1),
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def size_of(folder: Path) -> int:
    """Returns the bytes of all files in a folder; files that vanish meanwhile count nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size if path.is_file() and not path.is_symlink() else 0
        except OSError:
            continue
    return total


def runs_table(runs: Sequence[RunSummary], width: int) -> Table:
    """Returns the list of runs, the latest first."""
    caption = "Of the network in best.yaml. Observed: one score. Predicted: by the model of all trials."
    caption = caption if width >= WIDE else "Of the network in best.yaml."
    if any(run.error_name == "depth_error" for run in runs):
        caption += " mean: over the recursion depths."
    table = Table(caption=caption, caption_justify="left")
    titles = ["run", "state", "observed\nerror"]
    if width >= MEDIUM:
        titles += ["FLOPs", "age"]
    if width >= WIDE:
        titles[2:2] = ["budget", "trials", "predicted\nerror"]
        titles.append("MB")
    for title in titles:
        table.add_column(title, justify="left" if title in ("run", "state", "budget") else "right", overflow="fold")
    for run in runs:
        cells = {
            "run": run.run,
            "state": run.state,
            "budget": run.budget,
            "trials": str(run.finished),
            "observed\nerror": _percent(run.best_error, run.error_name),
            "predicted\nerror": _percent(run.best_predicted_error, run.error_name),
            "FLOPs": "-" if run.best_flops is None else format_quantity(run.best_flops, 3),
            "age": format_seconds(max(0.0, time.time() - run.began)),
            "MB": f"{run.megabytes:,.1f}",
        }
        table.add_row(*(cells[title] for title in titles))
    return table


@dataclass(frozen=True)
class Comparison:
    """Fronts of several searches against each other, as plain data.

    Attributes:
        runs: The run directories.
        cost: The cost that fronts are compared by.
        error_name: The error that they are compared by: the mean over depths, if all runs minimise that.
        limits: Costs at which least errors are compared, the largest first: evenly spaced over the logarithm of the
            costs that all runs have tried.
        errors: Least observed error of each run within each limit; None if it has no network there.
        predicted: Least error that the model of each run's trials expects of one of its networks within each limit;
            None if it has no network there, or too few trials for a model.
        hypervolumes: Of each run's front in error and log cost, as a share of the box that holds all trials.
        options: Options that differ, each with its value in every run.
    """

    runs: tuple[str, ...]
    cost: str
    error_name: Literal["error", "depth_error"]
    limits: tuple[int, ...]
    errors: tuple[tuple[float | None, ...], ...]
    predicted: tuple[tuple[float | None, ...], ...]
    hypervolumes: tuple[float, ...]
    options: dict[str, tuple[Any, ...]]

    @classmethod
    def of(cls, searches: Sequence[RecordedSearch], cost: str) -> Comparison:
        """Compares searches that have a finished trial each."""
        has_depths = all(search.options.scores_depths for search in searches)
        error: Literal["error", "depth_error"] = "depth_error" if has_depths else "error"
        fronts = [_front(search, cost, error) for search in searches]
        points = np.concatenate([_points(search.history.in_order, cost, error) for search in searches])
        low, high = points.min(axis=0), points.max(axis=0)
        spread = np.where(high > low, high - low, 1.0)
        volumes = tuple(
            float(hypervolume((front - low) / spread, np.full(2, 1.0 + 1e-9)) / (1.0 + 1e-9) ** 2) for front in fronts
        )
        logs = [_points(search.history.in_order, cost, error)[:, 1] for search in searches]
        most, least = min(float(log.max()) for log in logs), max(float(log.min()) for log in logs)
        limits = tuple(
            round(math.exp(most - position * max(0.0, most - least) / NUM_LIMITS)) for position in range(NUM_LIMITS)
        )
        limits = tuple(dict.fromkeys(limits))
        errors = tuple(tuple(_least(front, limit) for limit in limits) for front in fronts)
        predicted = tuple(_predicted(search, cost, error, limits) for search in searches)
        recorded = [search.options.model_dump(mode="json") for search in searches]
        differing = {
            name: tuple(options.get(name) for options in recorded)
            for name in recorded[0]
            if any(options.get(name) != recorded[0][name] for options in recorded)
        }
        digests = tuple(search.domain.space.digest for search in searches)
        if len(set(digests)) > 1:  # also under the same name, where its file was changed
            differing["space_digest"] = digests
        profiles = tuple(_profile_of(search) for search in searches)
        if len(set(profiles)) > 1:
            differing["latency_profile"] = profiles
        runs = tuple(str(search.run_dir) for search in searches)
        return cls(runs, cost, error, limits, errors, predicted, volumes, differing)

    def tables(self, width: int) -> list[Table]:
        """Returns tables of errors, observed and predicted, with a row per run, and one of options that differ."""
        unit = _unit(self.cost)
        observed = Table(
            title=f"Least observed {TEXTS[self.error_name].title} within so many {unit}", title_justify="left",
            caption="One score each: of many trials, the best is too good. Hypervolume: of the box around all trials; "
            "higher is better.", caption_justify="left",
        )  # fmt: skip
        predicted = Table(title="Least predicted error, by the model of each run", title_justify="left")
        for table in (observed, predicted):
            table.add_column("run", overflow="fold")
        observed.add_column("hyper-\nvolume", justify="right")
        shown = len(self.limits) if width >= MEDIUM else NUM_LIMITS_NARROW
        for limit in self.limits[:shown]:
            for table in (observed, predicted):
                table.add_column(format_quantity(limit, 3), justify="right", no_wrap=True)
        for run, volume, row in zip(self.runs, self.hypervolumes, self.errors, strict=True):
            observed.add_row(run, f"{volume:.3f}", *map(_percent, row[:shown]))
        for run, row in zip(self.runs, self.predicted, strict=True):
            predicted.add_row(run, *map(_percent, row[:shown]))
        errors = [observed, predicted]
        if not self.options:
            return errors
        options = Table(title="Options that differ", title_justify="left")
        for title in ("option", *self.runs):
            options.add_column(title, overflow="fold")
        for name, values in self.options.items():
            options.add_row(name.replace("_", "-"), *("-" if value is None else str(value) for value in values))
        return [*errors, options]


def _percent(error: float | None, name: Objective = "error") -> str:
    return "-" if error is None else f"{error:.2%}\nmean" if name == "depth_error" else f"{error:.2%}"


def _predicted(search: RecordedSearch, cost: str, error: Objective, limits: Sequence[int]) -> tuple[float | None, ...]:
    """Returns, within each limit, the least posterior mean of the networks that a search has tried."""
    trials = [trial for trial in search.history.in_order if trial.result is not None]
    if len(trials) < MIN_RESULTS:
        return (None,) * len(limits)
    candidates = [trial.candidate for trial in trials]
    errors = [error_of(trial.result, (error,)) for trial in trials if trial.result is not None]
    axis = search.domain.chain.cost_names.index(cost)
    means = StructureModel(search.domain, candidates, errors, axis).belief(candidates).mean
    costs = np.array([search.domain.costs(candidate)[axis] for candidate in candidates])
    return tuple(float(means[costs <= limit].min()) if (costs <= limit).any() else None for limit in limits)


def _profile_of(search: RecordedSearch) -> str | None:
    """Returns the digest of the latency profile that a search predicted by; None if it knows no latency."""
    latency = search.history.header.get("latency")
    return None if latency is None else str(latency["digest"])


def _unit(cost: str) -> str:
    return "FLOPs" if cost == "flops" else "parameters"


def _points(trials: Sequence[Trial], cost: str, error: Objective) -> FloatArray:
    """Returns error and log cost of the trials that finished, of shape (n, 2)."""
    results = [trial.result for trial in trials if trial.result is not None]
    return np.array([(error_of(result, (error,)), math.log(getattr(result.target, cost))) for result in results])


def _front(search: RecordedSearch, cost: str, error: Objective) -> FloatArray:
    """Returns the front of a search in error and log cost, of shape (n, 2)."""
    objectives: tuple[Objective, ...] = (error, "params" if cost == "params" else "flops")
    return _points(pareto_front(search.history.in_order, objectives), cost, error)


def _least(front: FloatArray, limit: int) -> float | None:
    inside = front[front[:, 1] <= np.log(limit) + 1e-12, 0]
    return float(inside.min()) if len(inside) else None
