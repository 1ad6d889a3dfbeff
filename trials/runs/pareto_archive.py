"""The best of a search so far, kept up to date trial by trial: what a new end costs does not grow with the search.

It holds what `trials.runs.objectives` would find among all trials, at the cost of a comparison with the front alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .objectives import Objective, by_accuracy, by_cost, objective_values
from .records import Trial


class ParetoArchive:
    """Of the trials that were added, those that are to be kept."""

    def __init__(self, objectives: Sequence[Objective], trials: Iterable[Trial] = ()) -> None:
        self._objectives = objectives
        self._front: dict[int, tuple[tuple[float, ...], Trial]] = {}
        self._most_accurate: Trial | None = None
        """Where error is no objective, so that it may lie beside the front."""
        self.best_error: float | None = None
        for trial in trials:
            self.add(trial)

    def add(self, trial: Trial) -> list[Trial]:
        """Takes in a trial that has ended, and returns those that are kept no longer, itself included if it is beaten.

        A trial without a result is beaten by any.
        """
        if trial.result is None:
            return [trial]
        dominated = self._add_to_front(trial, objective_values(trial.result, self._objectives))
        self.best_error = min(trial.result.error, trial.result.error if self.best_error is None else self.best_error)
        if "error" not in self._objectives:
            before = [trial] if self._most_accurate is None else [trial, self._most_accurate]
            self._most_accurate = min(before, key=by_accuracy)
            dominated += before
        return [one for one in {one.number: one for one in dominated}.values() if one.number not in self]

    def _add_to_front(self, trial: Trial, values: tuple[float, ...]) -> list[Trial]:
        """Returns those that are not on the front any more, the trial itself if it never was."""
        if any(_dominates(other, values) for other, _ in self._front.values()):
            return [trial]
        dominated = [one for other, one in self._front.values() if _dominates(values, other)]
        for one in dominated:
            del self._front[one.number]
        self._front[trial.number] = values, trial
        return dominated

    def __contains__(self, number: int) -> bool:
        """Whether the trial of this number is one of the keepers."""
        return number in self._front or (self._most_accurate is not None and self._most_accurate.number == number)

    @property
    def archived(self) -> list[Trial]:
        """What `trials.runs.objectives.keepers` finds: the front, cheapest first, and the most accurate trial beside
        it."""
        front = sorted((trial for _, trial in self._front.values()), key=by_cost)
        best = self._most_accurate
        return front if best is None or best.number in self._front else [*front, best]


def _dominates(values: tuple[float, ...], others: tuple[float, ...]) -> bool:
    return values != others and all(value <= other for value, other in zip(values, others, strict=True))
