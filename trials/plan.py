"""What a search will take, said before it starts: from measured training steps and the costs of typical candidates."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from rich.console import Console

from sret_nas.arch import ArchConfig
from sret_nas.cost import cost_of
from sret_nas.errors import UserError
from sret_nas.space import DepthSchedule
from trials.depth_schedule import mean_depth_counts
from trials.engines import Engine
from trials.jobs import SpeedJob, SpeedResult
from trials.options import SearchOptions
from trials.recipe import ProxyConfig, proxy_arch
from trials.report.console import say
from trials.report.progress import format_seconds
from trials.strategies.sret import SReTDomain

TRAINING_PER_FORWARD = 3
"""Cost of training on an image over that of a forward pass: backward costs about two."""
SAMPLES = 16
"""Random candidates whose mean cost stands for a trial's."""


class Plan:
    """Measures the training speed of one typical candidate in a worker, which also shows that training works here."""

    def __init__(self, engine: Engine, domain: SReTDomain, options: SearchOptions, job_fields: dict[str, Any]) -> None:
        """Raises `UserError` if what was asked for cannot be had here, `RuntimeError` if training fails otherwise."""
        self._engine, self._space, self._options = engine, domain.space, options
        self._proxy: ProxyConfig = job_fields["proxy"]
        rng = np.random.default_rng(0)
        drawn = (domain.draw(rng).arch for _ in range(SAMPLES))
        self._samples = sorted(drawn, key=lambda arch: cost_of(arch).flops)
        self._speed = self._measure(SpeedJob(arch=self._samples[SAMPLES // 2], **job_fields))

    def _measure(self, job: SpeedJob) -> SpeedResult:
        self._engine.submit(-1, job.model_dump(mode="json"))
        (outcome,) = self._engine.wait()
        failure = outcome.failure
        if failure is None:
            return SpeedResult.model_validate(outcome.result)
        if failure.cause == "refused":
            raise UserError(failure.message)
        if failure.cause == "out of memory":
            raise UserError(
                f"a proxy run does not fit into memory: {failure.message}; lower --batch-size or --image-size"
            )
        raise RuntimeError(f"a proxy network cannot be trained here: {failure.message}\n{failure.traceback}")

    @property
    def device(self) -> str:
        """What the worker trains on."""
        return self._speed.device

    @property
    def trial_seconds(self) -> float:
        """Expected duration of a trial, averaged over networks and their depth schedules."""
        seconds_per_flop = 1 / (self._speed.images_per_second * self._speed.proxy_flops)
        costs = [
            self._flops_per_image(arch, schedule)
            for arch in self._samples
            for schedule in self._space.effective_schedules(arch)
        ]
        scored = self._speed.num_val_images * self._speed.proxy_flops / TRAINING_PER_FORWARD
        return (self._proxy.training.images * fmean(costs) + scored) * seconds_per_flop

    def _flops_per_image(self, target: ArchConfig, schedule: DepthSchedule) -> float:
        """Forward FLOPs of the proxy network per training image, over all depths that the schedule runs."""
        speed = self._speed
        arch = proxy_arch(target, self._proxy, channels=speed.channels, classes=speed.classes)
        counts = mean_depth_counts(schedule, arch.max_recursions)
        return sum(number * cost_of(arch.with_max_recursions(depth)).flops for depth, number in counts.items())

    def announce(self, console: Console, num_trials: int, run_dir: Path) -> None:
        """Prints what is going to happen, how long it should take, and where the results will be."""
        space, options, training = self._space, self._options, self._proxy.training
        each, at_once = self.trial_seconds, self._engine.capacity
        total = format_seconds(num_trials * each / at_once)
        lines = (
            f"Search: {options.strategy} in {space.name} for {space.image_size} px, {space.classes} classes; "
            f"{options.describe_budget()}; seed {options.seed}",
            f"Plan: {num_trials} trials of {training.images:,} training images at {self._proxy.image_size} px; about "
            f"{format_seconds(each)} each, {at_once} at once: about {total} in all",
            f"Results: {run_dir}",
        )
        for line in lines:
            say(console, line)
