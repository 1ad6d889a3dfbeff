"""Shows how far a study is: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from sret_nas.quantities import format_seconds

from ..console import LINE_SECONDS, Console, Repeated, count_progress, print_line
from ..runs.study_records import TrainingFailed, TrainingFinished, TrainingRetried
from ..training.progress_note import ProgressNote, read_progress
from .trainings import PlannedTraining

REFRESH_SECONDS = 2.0
"""Between two looks at the notes of running trainings."""

MAX_NAMED = 2
"""Most running trainings that are named."""


class StudyProgress:
    """The progress of a study. A context manager; trainings tell how far they are by notes in their folders.

    The time left counts work by the planned seconds of each training, at the pace of this study so far.
    """

    def __init__(
        self, planned: Sequence[PlannedTraining], has_ended: Callable[[PlannedTraining], bool],
        expected: Mapping[str, float], workers: int, console: Console,
    ) -> None:  # fmt: skip
        """Prepares to show.

        Args:
            planned: all trainings of the study.
            has_ended: whether the records say that a training has ended.
            expected: planned seconds by the name of a training.
            workers: trainings at once.
            console: for the bar or lines.
        """
        self._planned, self._has_ended, self._workers = planned, has_ended, workers
        self._seconds = {one.key: expected.get(one.training.name) or 1.0 for one in planned}
        self._began = time.monotonic()
        self._before = {one.key: read_progress(one.directory) for one in planned if not has_ended(one)}
        self._done_before = self._done()
        self._bar = count_progress(console, "trainings")
        self._task = self._bar.add_task("trainings", total=len(planned), completed=self._num_ended, text="")
        self._is_terminal = console.is_terminal
        if self._is_terminal:
            self._repeated = Repeated(self._refresh, REFRESH_SECONDS, REFRESH_SECONDS)
        else:
            self._repeated = Repeated(self._print, LINE_SECONDS, LINE_SECONDS)

    @property
    def console(self) -> Console:
        """The console above the bar."""
        return self._bar.console

    def __enter__(self) -> Self:
        self._bar.start()
        self._repeated.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        self._repeated.__exit__(kind, error, trace)

    def tell(self, planned: PlannedTraining, event: TrainingFinished | TrainingFailed | TrainingRetried) -> None:
        """Says what became of an attempt, after it was recorded."""
        name = name_of(planned)
        if isinstance(event, TrainingRetried):
            print_line(self.console, f"{name}: {event.failure.cause}: {event.failure.message}; tried again")
            return
        self._refresh()
        if isinstance(event, TrainingFailed):
            text = f"failed: {event.failure.cause}: {event.failure.message}"
        else:
            text = f"test error {100 * event.result.error:.2f} %, {format_seconds(event.seconds)}"
        counter = "" if self._is_terminal else f" [{self._num_ended}/{len(self._planned)}, {self._left()} left]"
        print_line(self.console, f"{name}: {text}{counter}")

    @property
    def _num_ended(self) -> int:
        return sum(map(self._has_ended, self._planned))

    def _running(self) -> list[tuple[PlannedTraining, ProgressNote]]:
        """Returns the trainings that have told of progress since the study began or was resumed."""
        notes = [(one, read_progress(one.directory)) for one in self._planned if not self._has_ended(one)]
        return [(one, note) for one, note in notes if note is not None and note != self._before.get(one.key)]

    def _done(self) -> float:
        """Returns the planned seconds of what is done, those of unfinished trainings by their fraction of steps."""
        done = 0.0
        for one in self._planned:
            note = None if self._has_ended(one) else read_progress(one.directory)
            fraction = 1.0 if self._has_ended(one) else 0.0 if note is None else note.fraction
            done += fraction * self._seconds[one.key]
        return done

    def _left(self) -> str:
        """Returns the time left, in words."""
        done, total = self._done(), sum(self._seconds.values())
        advanced, elapsed = done - self._done_before, time.monotonic() - self._began
        pace = elapsed / advanced if advanced > 0 else 1 / max(1, self._workers)
        return format_seconds(pace * (total - done))

    def _describe(self) -> str:
        running = self._running()
        named = [f"{name_of(one)} ({note.fraction:.0%})" for one, note in running[:MAX_NAMED]]
        if len(running) > MAX_NAMED:
            named.append(f"{len(running) - MAX_NAMED} more")
        return "; ".join([*named, f"{self._left()} left"])

    def _refresh(self) -> None:
        self._bar.update(self._task, completed=self._num_ended, text=self._describe())

    def _print(self) -> None:
        counter = f"{self._num_ended} of {len(self._planned)} trainings"
        print_line(self.console, f"{counter}; {self._describe()}")


def name_of(planned: PlannedTraining) -> str:
    """Returns what messages call a training."""
    return f"{planned.training.name}, seed {planned.seed}"
