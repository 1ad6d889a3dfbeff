"""The options of where a command computes, groups like those of `trials.runs.option_groups`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StrictFloat, StrictInt, model_validator

from ..machine import num_cores
from .option_groups import OptionGroup, flag

Seconds = Annotated[StrictFloat, Field(ge=1, le=1e8, allow_inf_nan=False)]

EngineName = Literal["local", "ray"]
"""What runs trials: worker processes on this machine, or those of a Ray, here or on a cluster."""

MAX_DEFAULT_WORKERS = 8


class ComputeOptions(OptionGroup):
    """What decides the numbers that torch comes to, beside what it is asked for."""

    seed: Annotated[StrictInt, Field(ge=0, lt=2**32)] = 0
    threads: Annotated[StrictInt, Field(ge=1, le=1024)] = 1
    device: str = "auto"

    @model_validator(mode="after")
    def _check_device(self) -> Self:
        if not re.fullmatch(r"auto|cpu|cuda(:\d{1,2})?", self.device):
            raise ValueError(f"--device must be auto, cpu, cuda or cuda:NUMBER, got {self.device!r}")
        return self


def _default_workers() -> int:
    """Returns one worker per core that this process may use, within `MAX_DEFAULT_WORKERS`."""
    return min(num_cores(), MAX_DEFAULT_WORKERS)


def _default_lookahead(fields: dict[str, Any]) -> int:
    """Returns enough for all workers, and no more than need be: what runs ahead is proposed without having learned.

    It is the same for up to 4 workers, so that their searches find the same. A cluster may grow to twice its size.
    """
    workers: int = fields["workers"]
    return max(4, workers if fields["ray_address"] is None else 2 * workers)


class EngineOptions(ComputeOptions):
    """Where trials run, and how many at once."""

    engine: EngineName = "local"
    ray_address: str | None = None
    """A cluster's, `auto` or HOST:PORT; None is a Ray of the command's own, on this machine."""
    gpus_per_trial: Annotated[StrictFloat, Field(ge=0, le=64, allow_inf_nan=False)] = 0.0
    """GPUs that Ray keeps for each trial: a share of one, or a whole number."""
    workers: Annotated[StrictInt, Field(ge=0, default_factory=_default_workers)]
    """Trials at once; on a cluster, unless given, as many as it holds."""
    lookahead: Annotated[StrictInt, Field(ge=1, default_factory=_default_lookahead)]
    trial_timeout: Seconds | None = None
    """Most seconds that an attempt at a trial may take; None is 20 times the expected, and at least 10 minutes."""

    @model_validator(mode="after")
    def _check_engine(self) -> Self:
        gpus = self.gpus_per_trial
        if self.engine == "local" and (self.ray_address is not None or gpus > 0):
            name = "ray_address" if self.ray_address is not None else "gpus_per_trial"
            raise ValueError(f"{flag(name)} goes with --engine ray, got --engine local")
        if self.engine == "ray" and self.workers == 0:
            raise ValueError("--workers must be at least 1 with --engine ray, got 0")
        if gpus > 1 and not gpus.is_integer():
            raise ValueError(f"--gpus-per-trial must be a share of one GPU or a whole number, got {gpus:g}")
        if gpus > 0 and self.device == "cpu":
            raise ValueError(f"--gpus-per-trial goes with a GPU, got {gpus:g} and --device cpu")
        return self

    @property
    def uses_whole_cluster(self) -> bool:
        """Whether there are as many workers as a cluster holds, because no number was given."""
        return self.ray_address is not None and "workers" not in self.model_fields_set

    @property
    def usable_threads(self) -> int:
        """The threads of a worker: on this machine no more than it has cores."""
        return self.threads if self.ray_address is not None else min(self.threads, num_cores())

    def usable_workers(self, num_jobs: int) -> int:
        """Returns how many workers can be busy with at most so many jobs at once, here with cores for their threads.

        A search finds the same with fewer workers: their number counts through `lookahead` alone.
        """
        workers = min(self.workers, self.lookahead, num_jobs)
        if self.ray_address is not None or workers == 0:
            return workers
        return min(workers, max(1, num_cores() // self.usable_threads))

    def describe_unused(self, num_jobs: int) -> str | None:
        """A line on workers and threads that were asked for and are not used; None if there are none."""
        workers, threads = self.usable_workers(num_jobs), self.usable_threads
        if threads == self.threads and (workers == self.workers or self.workers == _default_workers()):
            return None
        cores = "" if self.ray_address is not None else f"{num_cores()} cores, "
        return (
            f"note: {self.workers} workers with {self.threads} threads each are more than can be used ({cores}at most "
            f"{min(self.lookahead, num_jobs)} trials at once): workers {workers}, threads {threads}"
        )

    def with_workers(self, number: int, source: str) -> Self:
        """Returns these options as if so many workers had been given: defaults that follow from them are new."""
        return self.parse({**self.model_dump(exclude_unset=True), "workers": number}, source)


class ComputeBudgetOptions(ComputeOptions):
    """Beyond what no trial starts."""

    time_budget: Seconds | None = None
    """Seconds of wall time, all sessions together (`trials.runs.compute_budget`)."""
    gpu_hours: Annotated[StrictFloat, Field(gt=0, le=1e8, allow_inf_nan=False)] | None = None
    """Hours of GPU time."""

    @model_validator(mode="after")
    def _check_compute_budget(self) -> Self:
        if self.gpu_hours is not None and self.device == "cpu":
            raise ValueError(
                "--gpu-hours goes with a GPU, got --device cpu; --time-budget bounds the wall time anywhere"
            )
        return self
