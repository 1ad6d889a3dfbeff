"""Shows the progress of a whole training: a progress bar or lines, and scalars for TensorBoard."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import fmean
from types import TracebackType
from typing import Self

from tensorboardX import SummaryWriter  # type: ignore[import-untyped]

from sret_nas.quantities import format_seconds

from ..console import Console, count_progress, print_line
from .full_state import Counts

LINE_SECONDS = 10.0
"""Between two progress lines where there is no terminal."""

POINTS = 500
"""Approximate number of points of a curve in TensorBoard."""


class FullProgress:
    """Shows the progress of a training, and never changes its result. Silent in all processes except the first."""

    def __init__(self, directory: Path | None, counts: Counts, steps: int, steps_per_epoch: int, console: Console):
        """Prepares to show.

        Args:
            directory: for TensorBoard's files; None shows nothing at all.
            counts: at the beginning, which may be in the middle of the training.
            steps: of the whole training.
            steps_per_epoch: steps of an epoch.
            console: for lines or the bar.
        """
        self._counts, self._steps, self._per_epoch = counts, steps, steps_per_epoch
        self._console = Console(quiet=True) if directory is None else console
        self._begun = self._last_line = time.monotonic()
        self._steps_before, self._images_before = counts.steps, counts.images
        self._losses: list[float] = []
        self._writer = (
            None
            if directory is None
            else SummaryWriter(str(directory / "tensorboard"), purge_step=self._steps_before or None)
        )
        self._bar = count_progress(self._console, "training")
        self._task = self._bar.add_task("steps", total=steps, completed=counts.steps, text="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        if self._writer is not None:
            self._writer.close()

    def step_done(self, loss: float | None, learning_rate: float) -> None:
        """Records one step; `loss` is None if the step was skipped."""
        done = self._counts.steps
        if loss is not None:
            self._losses = [*self._losses[-99:], loss]
        if done % max(1, self._steps // POINTS) == 0:
            scalars = {
                "train/learning_rate": learning_rate,
                "train/images_per_second": self._images_per_second(),
                "train/skipped_steps": self._counts.skipped,
            }
            self._write(scalars | ({} if loss is None else {"train/loss": loss}))
        self._bar.update(self._task, completed=done, text=self._describe())
        now = time.monotonic()
        if now - self._last_line > LINE_SECONDS:
            self._last_line = now
            if not self._console.is_terminal:
                epoch = (done - 1) // self._per_epoch + 1
                self.say(f"epoch {epoch}, step {done:,} of {self._steps:,}: {self._describe()}")

    def validated(self, epoch: int, scalars: dict[str, float], text: str) -> None:
        """Records a validation, and prints a line about it."""
        self._write(scalars)
        self.say(f"epoch {epoch}: {text}, {self._seconds_left()} left")
        self._last_line = time.monotonic()

    def say(self, text: str) -> None:
        """Prints a line above the bar."""
        print_line(self._bar.console, text)

    def _write(self, scalars: dict[str, float]) -> None:
        if self._writer is not None:
            for name, value in scalars.items():
                self._writer.add_scalar(name, value, self._counts.steps)

    def _describe(self) -> str:
        loss = f"loss {fmean(self._losses):.3f}, " if self._losses else ""
        skipped = f", {self._counts.skipped} skipped" if self._counts.skipped else ""
        return f"{loss}{self._images_per_second():,.0f} images/s, {self._seconds_left()} left{skipped}"

    def _images_per_second(self) -> float:
        """Returns the images per second since this process started, validations included."""
        return (self._counts.images - self._images_before) / max(1e-9, time.monotonic() - self._begun)

    def _seconds_left(self) -> str:
        done = self._counts.steps - self._steps_before
        if done == 0:
            return "unknown time"
        return format_seconds((time.monotonic() - self._begun) / done * (self._steps - self._counts.steps))
