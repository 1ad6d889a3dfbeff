"""Shows the progress of a training: a progress bar or lines, scalars for TensorBoard, and scores of three subnets."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import fmean
from types import TracebackType
from typing import Self

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.nn.supernet import Supernet
from sret_nas.quantities import format_seconds

from ..console import Console, count_progress, print_line
from ..data import PreparedData
from ..training.recipe import Precision
from ..training.train import Score, first_images, score
from .inherit import extract_for_eval
from .networks import StepNetworks
from .state import TrainingState

LINE_SECONDS = 10.0
"""Between two progress lines where there is no terminal, and between two considerations of scoring."""

MAX_SHARE = 0.05
"""Largest share of the training time for scoring subnets."""

SCORED_IMAGES = 1000
"""Validation images on which they are scored."""

POINTS = 500
"""Approximate number of points of a curve in TensorBoard."""

SLOW = 0.25
"""A share of the fastest speed so far. Below it, a line says that the training has become slow."""

_NUM_DRAWN = 15
"""Random networks of which the one with the median FLOPs is scored."""


class WatchedSubnets:
    """Three subnets that are scored during a training: the smallest, a middle one and the largest in FLOPs."""

    def __init__(self, networks: StepNetworks, data: PreparedData, batch_size: int, precision: Precision) -> None:
        drawn = sorted((networks.random(index) for index in range(_NUM_DRAWN)), key=_flops)
        self._archs = {"smallest": networks.smallest, "middle": drawn[_NUM_DRAWN // 2], "largest": networks.largest}
        self._data, self._batch_size, self._precision = data, batch_size, precision
        self._images = first_images(data.val, SCORED_IMAGES)

    @property
    def num_images(self) -> int:
        """The number of validation images on which each subnet is scored."""
        return len(self._images)

    def scores(self, supernet: Supernet) -> dict[str, Score]:
        """Returns the score of each subnet with its current weights, by name."""
        return {name: self._score_of(arch, supernet) for name, arch in self._archs.items()}

    def _score_of(self, arch: ArchConfig, supernet: Supernet) -> Score:
        network = extract_for_eval(supernet, arch, self._data, self._batch_size, self._precision)
        return score(network, self._images, self._batch_size, precision=self._precision)


class NullMonitor:
    """A monitor that does nothing, for all processes of a training except the first."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def step_done(self, loss: float | None) -> None:
        pass

    def finished(self) -> None:
        pass


class Monitor:
    """Shows the progress of a training, and never changes its result."""

    def __init__(
        self, directory: Path, state: TrainingState, watched: WatchedSubnets, steps: int, console: Console
    ) -> None:
        from tensorboardX import SummaryWriter  # type: ignore[import-untyped]  # for workers, which have no monitor

        self._state, self._watched, self._steps, self._console = state, watched, steps, console
        self._begun = self._last_line = time.monotonic()
        self._steps_before, self._seconds_before = state.counts.steps, state.counts.seconds
        self._counted = state.counts.images, state.counts.seconds
        self._fastest, self._is_slow = 0.0, False
        self._losses: list[float] = []
        self._scorings: list[float] = []
        self._writer = SummaryWriter(str(directory / "tensorboard"), purge_step=self._steps_before or None)
        self._bar = count_progress(console, "supernet")
        self._task = self._bar.add_task("steps", total=steps, completed=self._steps_before, text="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        self._writer.close()

    def step_done(self, loss: float | None) -> None:
        """Records one step; `loss` is None if the step was skipped."""
        if loss is not None:
            self._losses = [*self._losses[-99:], loss]
        done = self._state.counts.steps
        if done % max(1, self._steps // POINTS) == 0:
            self._write_scalars(done)
        self._bar.update(self._task, completed=done, text=self._describe())
        now = time.monotonic()
        if now - self._last_line > LINE_SECONDS:
            if not self._console.is_terminal:
                print_line(self._console, f"step {done:,} of {self._steps:,}: {self._describe()}")
            self._say_if_slow()
            self._last_line = now
            self._score_if_time(now)

    def _say_if_slow(self) -> None:
        """Says once that the speed of the steps since the last line is far below the fastest so far."""
        counts, (images, seconds) = self._state.counts, self._counted
        speed = (counts.images - images) / (counts.seconds - seconds)
        self._counted = counts.images, counts.seconds
        if speed < SLOW * self._fastest and not self._is_slow:
            self._is_slow = True
            print_line(
                self._bar.console,
                f"note: {speed:,.0f} images/s now, and {self._fastest:,.0f} before: other work uses this machine; "
                "several threads suffer from it more than one (--threads 1)",
            )
        self._fastest = max(self._fastest, speed)

    def finished(self) -> None:
        """Shows the final scores of the three subnets."""
        self._score()

    def _describe(self) -> str:
        loss = f"loss {fmean(self._losses):.3f}, " if self._losses else ""
        skipped = f", {self._state.counts.skipped} skipped" if self._state.counts.skipped else ""
        return f"{loss}{self._images_per_second():,.0f} images/s, {format_seconds(self._seconds_left())} left{skipped}"

    def _images_per_second(self) -> float:
        """Returns the images read per second since this process started or resumed the training."""
        counts = self._state.counts
        images = counts.images * (counts.steps - self._steps_before) / counts.steps
        return images / (counts.seconds - self._seconds_before)

    def _seconds_left(self) -> float:
        done = self._state.counts.steps
        per_step = (time.monotonic() - self._begun) / (done - self._steps_before)
        return per_step * (self._steps - done)

    def _write_scalars(self, done: int) -> None:
        scalars = {
            "learning_rate": self._state.step.optimizer.param_groups[0]["lr"],
            "images_per_second": self._images_per_second(),
            "skipped_steps": self._state.counts.skipped,
        }
        if self._losses:
            scalars["loss"] = self._losses[-1]
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, done)

    def _score_if_time(self, now: float) -> None:
        """Scores the subnets if the total time of scoring stays within `MAX_SHARE` of the time so far.

        Expects the next scoring to take as long as the longest so far. Expects the first to take as long as training on
        its images, which takes no less than a forward pass in three networks.
        """
        first = self._watched.num_images / self._images_per_second()
        if sum(self._scorings) + max(self._scorings, default=first) <= MAX_SHARE * (now - self._begun):
            self._score()

    def _score(self) -> None:
        started = time.monotonic()
        scores = self._watched.scores(self._state.supernet)
        for name, subnet_score in scores.items():
            self._writer.add_scalar(f"accuracy/{name}", 1 - subnet_score.error, self._state.counts.steps)
        text = ", ".join(f"{name} {1 - subnet_score.error:.1%}" for name, subnet_score in scores.items())
        print_line(self._bar.console, f"step {self._state.counts.steps:,}: validation accuracy {text}")
        self._scorings.append(time.monotonic() - started)


def _flops(arch: ArchConfig) -> int:
    return cost_of(arch).flops
