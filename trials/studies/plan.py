"""How long the trainings of a study take, from a few steps of each variant on the engine that will run them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sret_nas.errors import UserError
from sret_nas.plurals import counted
from sret_nas.quantities import format_seconds

from ..console import Console, Working, print_line
from ..engines.engine import Engine
from ..engines.results import StudyProbeResult
from ..engines.retries import JobQueue
from ..runs.study import TEACHER
from .trainings import PlannedTraining

TEACHER_PASS = 1 / 3
"""Time of a teacher's pass over that of a step of its own training, which has a backward pass as well."""

PROBE_LIMIT = 600.0
"""Seconds after which a probe is ended."""


@dataclass(frozen=True)
class StudyPlan:
    """What was measured of each training before the study."""

    probes: dict[str, StudyProbeResult]
    """By name of a variant, and of the teacher."""
    seconds: dict[str, float]
    """Expected duration of a training, likewise."""

    @property
    def memory_mb(self) -> float:
        return max(probe.peak_memory_mb for probe in self.probes.values())

    @property
    def device(self) -> str:
        return next(iter(self.probes.values())).device

    def announce(self, console: Console, planned: Sequence[PlannedTraining], workers: int) -> None:
        """Prints the number of trainings, their length, and how long they take together."""
        images = sorted({probe.images for probe in self.probes.values()})
        length = f"{images[0]:,}" if len(images) == 1 else f"{images[0]:,} to {images[-1]:,}"
        print_line(console, f"Trainings: {len(planned):,} of {length} images each, {self._of_one()}")
        total = describe_total([self.seconds[one.training.name] for one in planned], workers)
        print_line(console, f"Plan: {total}; about {self.memory_mb:,.0f} MB of memory for each worker")

    def _of_one(self) -> str:
        shortest, longest = min(self.seconds.values()), max(self.seconds.values())
        if format_seconds(shortest) == format_seconds(longest):
            return f"about {format_seconds(shortest)} for one"
        return f"about {format_seconds(shortest)} to {format_seconds(longest)} for one"


def describe_total(seconds: Sequence[float], workers: int) -> str:
    """Returns how long trainings take together, in words."""
    busy = max(1, min(workers, len(seconds)))
    total = max(sum(seconds) / busy, max(seconds, default=0.0))
    return f"about {format_seconds(total)} with {counted(busy, 'worker')}"


def measure_plan(engine: Engine, distinct: Sequence[PlannedTraining], console: Console) -> StudyPlan:
    """Times a few steps of every training that there is, on one seed.

    Raises `UserError` if a variant cannot be trained, before anything is written.
    """
    queue, probes = JobQueue(engine), {}
    for index, planned in enumerate(distinct):
        job = planned.job.model_copy(update={"is_probe": True, "teacher": None, "hard_share": 0.0})
        queue.add(index, job, PROBE_LIMIT)
    with Working(console, "Measuring how long a training takes") as working:
        while not queue.is_empty:
            queue.start()
            for end in queue.wait():
                name = distinct[end.job_id].training.name
                if end.failure is not None and not end.will_run_again:
                    raise UserError(f"{name} cannot be trained: {end.failure.cause}: {end.failure.message}")
                if end.result is not None:
                    probes[name] = StudyProbeResult.model_validate(end.result)
                    working.update(f"Measuring how long a training takes: {len(probes)} of {len(distinct)}")
    teacher = probes.get(TEACHER)
    extra = 0.0 if teacher is None else TEACHER_PASS * teacher.seconds_per_step
    seconds = {
        one.training.name: probes[one.training.name].steps
        * (probes[one.training.name].seconds_per_step + (extra if one.training.labels != "classes" else 0.0))
        for one in distinct
    }
    return StudyPlan({one.training.name: probes[one.training.name] for one in distinct}, seconds)
