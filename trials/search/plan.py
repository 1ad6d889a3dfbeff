"""The plan that a search announces: its expected time, from measured training steps and costs of typical candidates."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.errors import UserError
from sret_nas.plurals import counted
from sret_nas.quantities import format_seconds
from sret_nas.space.search_space import DepthSchedule

from ..console import Console, print_line
from ..data import PreparedData
from ..engines.engine import Engine
from ..engines.jobs import JobContext, SpeedJob
from ..engines.results import SpeedResult
from ..runs.options import FINE_TUNING_SHARE, SearchOptions
from ..runs.recommendation import max_evaluations
from ..strategies.sret import SReTDomain
from ..training.depth_schedule import mean_depth_counts
from ..training.recipe import Precision, ProxyConfig, RequestedPrecision, proxy_arch
from .measuring import run_measurement
from .supernet import SupernetSetting

TRAINING_PER_FORWARD = 3
"""Cost of a training step relative to a forward pass: the backward pass costs about two."""
SAMPLES = 16
"""Random candidates whose mean cost is taken as the expected cost of a trial."""


def require_gpu(options: SearchOptions, device: str) -> None:
    """Raises `UserError` if `--gpu-hours` is given but `device`, on which trials run, is the CPU."""
    if options.gpu_hours is not None and device == "cpu":
        raise UserError(
            f"--gpu-hours {options.gpu_hours:g} goes with a GPU, and trials run on the CPU here: "
            "give --time-budget, which bounds the wall time anywhere"
        )


def require_rungs(options: SearchOptions, proxy: ProxyConfig, data: PreparedData) -> None:
    """Raises `UserError` if the first rung has less than a batch or, with inherited weights, less than one image."""
    num_images, least, what = proxy.training.images, proxy.training.batch_size, "training"
    if not options.no_supernet:
        num_images, least, what = min(len(data.val), options.val_images_per_trial or len(data.val)), 1, "validation"
    first = int(options.make_rungs().fractions[0] * num_images)
    if options.rungs > 1 and first < least:
        raise UserError(
            f"--rungs {options.rungs} leaves {first} of {num_images:,} {what} images for the first rung, and at least "
            f"{least} are needed: lower --rungs" + (" or --batch-size, or raise --train-images" if least > 1 else "")
        )


MIN_GAIN_OF_THREADS = 0.9
"""A supernet's threads that train at less than this share of the speed of a worker's threads are warned of."""


class Plan:
    """The expected times of a search.

    They follow from the training speed of one typical candidate, measured in a worker, which also checks that training
    works on this machine.
    """

    def __init__(
        self, engine: Engine, domain: SReTDomain, options: SearchOptions, context: JobContext,
        supernet: SupernetSetting | None, requested: RequestedPrecision | None = None, is_trained: bool = False,
    ) -> None:  # fmt: skip
        """Measures the training speed, in the context's precision or in the one that the worker chooses.

        Args:
            requested: Which precision to choose on the worker's device; None keeps the context's.
            supernet: How the supernet is trained, or its file; None if trials train from scratch.
            is_trained: Whether its training has ended, in a search that is resumed.

        Raises what `run_measurement` does.
        """
        self._engine, self._space, self._options, self._supernet = engine, domain.space, options, supernet
        self._proxy, self._threads = context.proxy, context.threads
        rng = np.random.default_rng(0)
        drawn = (domain.draw(rng).arch for _ in range(SAMPLES))
        self._samples = sorted(drawn, key=lambda arch: cost_of(arch).flops)
        typical = self._samples[SAMPLES // 2]
        self._speed = self._measure(SpeedJob(arch=typical, requested=requested, **dict(context)))
        self._supernet_speed, self._is_trained = self._speed, is_trained
        if (
            supernet is not None
            and supernet.config is not None
            and not is_trained
            and supernet.threads != context.threads
        ):
            # Measured again, since twice the threads do not give twice the speed.
            its_context = context.model_copy(update={"threads": supernet.threads, "precision": self.precision})
            self._supernet_speed = self._measure(SpeedJob(arch=typical, **dict(its_context)))

    def _measure(self, job: SpeedJob) -> SpeedResult:
        smaller = "lower --batch-size or --image-size"
        return SpeedResult.model_validate(run_measurement(self._engine, job, "measuring a proxy's training", smaller))

    @property
    def device(self) -> str:
        """Returns the device on which the worker trains."""
        return self._speed.device

    @property
    def precision(self) -> Precision:
        """Returns the precision of the measured training: the one in which trials train."""
        return self._speed.precision

    @property
    def trial_seconds(self) -> float:
        """Returns the expected seconds of a trial, averaged over networks and their depth schedules."""
        options, speed = self._options, self._speed
        images = min(speed.num_val_images, options.val_images_per_trial or speed.num_val_images)
        depths: DepthSchedule = "joint" if options.scores_depths else "full"
        forward = speed.proxy_flops if options.no_supernet else self._flops_per_image(self._samples, depths)
        scored = images * forward / TRAINING_PER_FORWARD
        if not options.no_supernet:
            trained = options.fine_tune_images * forward
        else:
            trained = self._proxy.training.images * fmean(
                self._flops_per_image([arch], schedule)
                for arch in self._samples
                for schedule in self._space.effective_schedules(arch)
            )
        return (trained + scored) * _seconds_per_flop(self._speed)

    @property
    def _compared(self) -> str:
        """Returns the words that say at which fractions of a trial most trials are stopped."""
        fractions = self._options.make_rungs().fractions[:-1]
        return f", most stopped after {' or '.join(f'{fraction:.0%}' for fraction in fractions)}" if fractions else ""

    @property
    def supernet_seconds(self) -> float:
        """Returns the expected seconds of the supernet's training; 0 if none is trained."""
        if self._supernet is None or self._supernet.config is None or self._is_trained:
            return 0.0
        config = self._supernet.config
        flops = config.training.images * config.networks_per_step * self._flops_per_image(self._samples, "full")
        return flops * _seconds_per_flop(self._supernet_speed) / self._supernet_processes

    @property
    def _supernet_processes(self) -> int:
        return 1 if self._supernet is None else self._supernet.processes or 1

    @property
    def finals_seconds(self) -> float:
        """Returns the expected seconds of training and testing all finalists and controls on one worker."""
        if self._supernet is None:
            return 0.0
        options = self._options
        return (FINE_TUNING_SHARE * options.finalists + 2 * options.controls) * self.final_seconds

    @property
    def final_seconds(self) -> float:
        """Returns the expected seconds of training one network from scratch, at the depths that are scored."""
        images = self._proxy.training.images
        depths: DepthSchedule = "joint" if self._options.scores_depths else "full"
        return images * self._flops_per_image(self._samples, depths) * _seconds_per_flop(self._speed)

    def require_time(self, spent: float) -> None:
        """Raises `UserError` if `--time-budget` or `--gpu-hours` leaves no room for a single trial.

        Args:
            spent: Wall seconds since the search began.
        """
        options, least = self._options, self.supernet_seconds + self.trial_seconds
        what = "a trial, which takes" if self.supernet_seconds == 0 else "the supernet and a trial, which take"
        if options.time_budget is not None and spent + least > options.time_budget:
            raise UserError(
                f"a time budget of {format_seconds(options.time_budget)} is too short for {what} about "
                f"{format_seconds(least)} after {format_seconds(spent)} of preparation: raise --time-budget"
                + ("" if self.supernet_seconds == 0 else ", or lower --supernet-images")
            )
        working = self._supernet_processes * self.supernet_seconds + self.trial_seconds
        if options.gpu_hours is not None and working > 3600 * options.gpu_hours:
            raise UserError(
                f"{options.gpu_hours:g} GPU-hours are too few for {what} about {working / 3600:.3g}: raise --gpu-hours"
            )

    def require_timeout(self) -> None:
        """Raises `UserError` if `--trial-timeout` would end a trial that takes as long as planned."""
        timeout, expected = self._options.trial_timeout, self.trial_seconds
        if timeout is not None and expected > timeout:
            raise UserError(
                f"--trial-timeout {format_seconds(timeout)} would end every typical trial, which takes about "
                f"{format_seconds(expected)}: raise it, or leave it out"
            )

    def _flops_per_image(self, targets: Sequence[ArchConfig], schedule: DepthSchedule) -> float:
        """Returns the mean forward FLOPs of the targets' proxies per training image, at the schedule's depths."""
        speed = self._speed
        costs = []
        for target in targets:
            arch = proxy_arch(target, self._proxy, channels=speed.channels, classes=speed.classes)
            counts = mean_depth_counts(schedule, arch.max_recursions)
            costs.append(sum(count * cost_of(arch.with_max_recursions(depth)).flops for depth, count in counts.items()))
        return fmean(costs)

    def announce(self, console: Console, num_trials: int, spent: float) -> None:
        """Prints the search, its expected time and its limits.

        Args:
            spent: Wall seconds since the search was asked for, which are part of the whole time.
        """
        space, options = self._space, self._options
        lines = (
            f"Search: {options.strategy} in {space.name} for {space.image_size} px, {space.classes} classes; "
            f"{options.describe_budget()}; {'balanced error; ' if options.balanced_error else ''}seed {options.seed}; "
            f"{self.precision}",
            f"Plan: {self._describe(num_trials, spent)}",
            *self._warnings(),
            *self._bounds(),
        )
        for line in lines:
            print_line(console, line)

    def _warnings(self) -> list[str]:
        """Returns the line that says that more threads train more slowly than few, as beside other work, if they do."""
        many, few = self._supernet_speed, self._speed
        if self._supernet is None or many.images_per_second >= MIN_GAIN_OF_THREADS * few.images_per_second:
            return []
        return [
            f"warning: {counted(self._supernet.threads, 'thread')} train at {many.images_per_second:.0f} images/s, and "
            f"{self._threads} at {few.images_per_second:.0f}: other work uses this machine; --workers 1 trains the "
            "supernet with fewer"
        ]

    def _bounds(self) -> list[str]:
        """Returns the line that names the limits after which no trial starts, if there are any."""
        options = self._options
        bounds = [] if options.time_budget is None else [f"{format_seconds(options.time_budget)} have passed"]
        if options.gpu_hours is not None:
            bounds.append(f"{options.gpu_hours:g} GPU-hours are spent")
        return [f"No trial starts that would end after {' or '.join(bounds)}; the finals follow"] if bounds else []

    def _describe(self, num_trials: int, spent: float) -> str:
        per_trial, at_once, size = self.trial_seconds, self._engine.capacity, f"{self._proxy.image_size} px"
        seconds = self._options.make_rungs().expected_work(num_trials) * per_trial / at_once
        images = self._proxy.training.images
        more, extra = "", 0
        if self._options.best_by == "expected":
            extra = max_evaluations(from_scratch=self._options.no_supernet)
            more = f" and up to {extra} recommended ones"
        seconds += extra * per_trial / at_once
        if self._supernet is None:
            return (
                f"{counted(num_trials, 'trial')}{more} of {images:,} training images at {size}{self._compared}; about "
                f"{format_seconds(per_trial)} each, {at_once} at once; start-up {format_seconds(spent)}: about "
                f"{format_seconds(spent + seconds)} in all"
            )
        config, options = self._supernet.config, self._options
        steps = [f"{num_trials} of its networks{more} scored{self._compared} ({format_seconds(seconds)})"]
        if config is None:
            steps.insert(0, f"the supernet {options.supernet}")
        elif self._is_trained:
            steps.insert(0, "the supernet, which is trained")
        else:
            took = format_seconds(self.supernet_seconds)
            steps.insert(0, f"a supernet trained on {config.training.images:,} images at {size} ({took})")
        if options.finalists > 0:
            seconds += self.finals_seconds / at_once
            pairs = f", {options.controls} trained from scratch against as many random ones" * (options.controls > 0)
            steps.append(f"{options.finalists} fine-tuned{pairs} ({format_seconds(self.finals_seconds / at_once)})")
        whole = spent + self.supernet_seconds + seconds
        return f"{', '.join(steps)}; start-up {format_seconds(spent)}: about {format_seconds(whole)} in all"


def _seconds_per_flop(speed: SpeedResult) -> float:
    """Returns the seconds of training on one image, per forward FLOP."""
    return 1 / (speed.images_per_second * speed.proxy_flops)
