"""The Pareto archive of a running search, updated trial by trial.

It holds the trials that `trials.runs.objectives.archived` would select from all trials, but an update compares a trial
with the front only, so its cost does not grow with the search.
"""

from __future__ import annotations

from collections.abc import Sequence

from .objectives import Objective, by_accuracy, by_cost, error_named, error_of, objective_values
from .trial import Trial


class ParetoArchive:
    """The front of the trials added so far and, if error is no objective, the most accurate trial."""

    def __init__(self, objectives: Sequence[Objective]) -> None:
        self._objectives = objectives
        self._front: dict[int, tuple[tuple[float, ...], Trial]] = {}
        self._most_accurate: Trial | None = None
        """Set only if error is no objective: then this trial may lie off the front."""
        self.best_error: float | None = None

    def add(self, trial: Trial) -> list[Trial]:
        """Adds an ended trial and returns the trials that are no longer kept, which may include the new one.

        A trial without a result is never kept.
        """
        result = trial.result
        if result is None:
            return [trial]
        dominated = self._add_to_front(trial, objective_values(result, self._objectives))
        error = error_of(result, self._objectives)
        self.best_error = min(error, error if self.best_error is None else self.best_error)
        if error_named(self._objectives) not in self._objectives:
            before = [trial] if self._most_accurate is None else [trial, self._most_accurate]
            self._most_accurate = min(before, key=lambda each: by_accuracy(each, self._objectives))
            dominated += before
        return [other for other in {other.number: other for other in dominated}.values() if other.number not in self]

    def _add_to_front(self, trial: Trial, values: tuple[float, ...]) -> list[Trial]:
        """Returns the trials that leave the front, or the new trial alone if it is dominated."""
        if any(_dominates(other_values, values) for other_values, _ in self._front.values()):
            return [trial]
        dominated = [other for other_values, other in self._front.values() if _dominates(values, other_values)]
        for other in dominated:
            del self._front[other.number]
        self._front[trial.number] = values, trial
        return dominated

    def __contains__(self, number: int) -> bool:
        """Returns whether the trial of this number is kept."""
        return number in self._front or (self._most_accurate is not None and self._most_accurate.number == number)

    @property
    def archived(self) -> list[Trial]:
        """What `trials.runs.objectives.archived` does: the front, cheapest first, then the most accurate."""
        front = sorted((trial for _, trial in self._front.values()), key=by_cost)
        best = self._most_accurate
        return front if best is None or best.number in self._front else [*front, best]


def _dominates(values: tuple[float, ...], others: tuple[float, ...]) -> bool:
    return values != others and all(value <= other for value, other in zip(values, others, strict=True))
