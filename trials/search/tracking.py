"""What a search tells experiment trackers: its options, every trial, what was found at its end, and its files.

A tracker is never worth a search: one that fails is named in a line, and the search goes on without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sret_nas.pareto import hypervolume, non_dominated
from sret_nas.space.chain import Chain

from ..console import Console, print_line
from ..integrations.trackers import TensorBoardTracker, Tracker, TrackerName, open_tracker
from ..report.drawing import reason_of
from ..report.html import REPORT
from ..runs.objective_texts import error_text, metrics_of
from ..runs.objectives import error_of
from ..runs.options import SearchOptions
from ..runs.trial import Trial

ARTIFACTS = ("best.yaml", "recommended", "pareto", "trials.csv", "config.yaml", "front.png", REPORT)
"""Files and folders of the run directory that trackers get, where they are there."""


@dataclass
class _Open:
    """A tracker with the trials that it has. `state` keeps them for a resumed search; TensorBoard needs none."""

    tracker: Tracker
    state: Path | None
    logged: set[str] = field(default_factory=set)

    def note(self, what: str) -> None:
        self.logged.add(what)
        if self.state is not None:
            with self.state.open("a", encoding="utf-8") as file:
                file.write(f"{what}\n")


class Tracking:
    """The trackers of one session of a search."""

    def __init__(self, run_dir: Path, options: SearchOptions, chain: Chain, console: Console) -> None:
        """Opens TensorBoard and the trackers in `options`; each continues the run of an earlier session.

        Args:
            chain: the search's space, whose most expensive network bounds the hypervolume where no budget does.
        """
        self._run_dir, self._console = run_dir, console
        self._objectives = options.objectives
        self._volume = _Hypervolume(options.flops_budget or _most_flops(chain))
        self._best: float | None = None
        self._open: list[_Open] = []
        plain = options.model_dump(mode="json", exclude={"enqueue"})
        self._guard("tensorboard", lambda: self._open.append(_Open(TensorBoardTracker(run_dir), None)))
        for name in options.log:
            self._guard(name, lambda name=name: self._open.append(_opened(name, run_dir, plain)))  # type: ignore[misc]

    def trial_ended(self, trial: Trial) -> None:
        """Logs a trial that ended, with the best error and the hypervolume so far."""
        metrics = self._metrics(trial)
        self._log(f"trial {trial.number}", metrics, trial.number, trial.ended or 0.0)

    def finish(self, trials: Iterable[Trial], *, is_complete: bool) -> None:
        """Logs what was found of trials at the end, and the run's files, and ends the trackers' runs."""
        for trial in trials:
            for key, value in trial.findings.items():
                self._log(f"{key} {trial.number}", {f"final/{key}": value}, trial.number, trial.ended or 0.0)
        files = [path for name in ARTIFACTS if (path := self._run_dir / name).exists()]
        for each in list(self._open):
            self._guard(each.tracker.name, lambda each=each: each.tracker.finish(files, is_complete=is_complete))  # type: ignore[misc]
        self._open.clear()

    def _metrics(self, trial: Trial) -> dict[str, float]:
        result = trial.result
        if result is None:
            return {"trial/failed": float(trial.failure is not None), "trial/stopped": float(trial.is_stopped)}
        error = error_of(result, self._objectives)
        self._best = min(error, math.inf if self._best is None else self._best)
        return {
            **{f"trial/{name}": value for name, value in metrics_of(result, self._objectives).items()},
            "trial/seconds": result.seconds,
            f"search/best_{error_text(self._objectives).metric}": self._best,
            "search/hypervolume": self._volume.add(error, result.target.flops),
        }

    def _log(self, what: str, metrics: Mapping[str, float], step: int, seconds: float) -> None:
        def log(each: _Open) -> None:
            each.tracker.log(metrics, step, seconds)
            each.note(what)

        for each in list(self._open):
            if what not in each.logged:
                self._guard(each.tracker.name, lambda each=each: log(each))  # type: ignore[misc]

    def _guard(self, name: str, action: Callable[[], Any]) -> None:
        """Runs an action of a tracker; if it fails, whatever the error, says so and drops the tracker."""
        try:
            action()
        except Exception as error:
            self._open = [each for each in self._open if each.tracker.name != name]
            print_line(
                self._console,
                f"warning: {name} gets nothing more of this search ({reason_of(error)}); the search goes on, and "
                "--resume tries again",
            )


def _opened(name: TrackerName, run_dir: Path, options: Mapping[str, Any]) -> _Open:
    """Returns a tracker, continued if its state is in the run directory: its run's id, then what it has."""
    state = run_dir / f"logged-{name}.txt"
    lines = state.read_text(encoding="utf-8").split("\n")[:-1] if state.is_file() else []  # the last may be torn
    tracker = open_tracker(name, run_dir, options, lines[0] if lines else None)
    state.write_text("".join(f"{line}\n" for line in lines or [tracker.run_id]), encoding="utf-8")
    return _Open(tracker, state, set(lines[1:]))


def _most_flops(chain: Chain) -> int:
    """Returns FLOPs that no network of a space exceeds: a sum of the most expensive choices, fitting or not."""
    column = chain.cost_names.index("flops")
    stages = sum(int(stage.costs[:, column].max()) for stage in chain.stages)
    return stages + sum(int(costs[..., column].max()) for costs in chain.link_costs)


class _Hypervolume:
    """The hypervolume of the front so far: error below 1, and FLOPs below a bound by their decimal logarithm."""

    def __init__(self, max_flops: int) -> None:
        self._corner = np.array([1.0, math.log10(max_flops)])
        self._front = np.empty((0, 2))

    def add(self, error: float, flops: int) -> float:
        """Adds a network and returns the hypervolume."""
        points = np.vstack([self._front, [error, math.log10(max(flops, 1))]])
        self._front = points[non_dominated(points)]
        return hypervolume(self._front, self._corner)
