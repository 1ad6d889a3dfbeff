"""The options of where a command computes, in groups like those of `trials.runs.option_groups`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, cast

from pydantic import Field, StrictFloat, StrictInt, model_validator

from sret_nas.plurals import counted

from ..machine import num_cores
from ..training.recipe import RequestedPrecision
from .option_groups import OptionGroup, flag

Seconds = Annotated[StrictFloat, Field(ge=1, le=1e8, allow_inf_nan=False)]

EngineName = Literal["local", "ray", "tune"]
"""What runs trials: worker processes on this machine; or Ray, here or on a cluster; or Ray Tune on that Ray."""

MAX_DEFAULT_WORKERS = 8

MAX_WORKERS, MAX_LOOKAHEAD = 10_000, 100_000
"""More than any cluster has; a larger number is a slip."""


class ComputeOptions(OptionGroup):
    """Options of torch that affect numerical results: seed, threads and device."""

    seed: Annotated[StrictInt, Field(ge=0, lt=2**32)] = 0
    threads: Annotated[StrictInt, Field(ge=1, le=1024)] = 1
    device: str = "auto"

    @model_validator(mode="after")
    def _check_device(self) -> Self:
        if not re.fullmatch(r"auto|cpu|cuda(:\d{1,2})?", self.device):
            raise ValueError(f"--device must be auto, cpu, cuda or cuda:NUMBER, got {self.device!r}")
        return self


class PrecisionOptions(OptionGroup):
    """The precision of training and scoring."""

    precision: RequestedPrecision = "auto"
    """`auto` is chosen where they run, and the choice is recorded."""


def _default_workers() -> int:
    """Returns one worker per core that this process may use, at most `MAX_DEFAULT_WORKERS`."""
    return min(num_cores(), MAX_DEFAULT_WORKERS)


def _default_lookahead(fields: dict[str, Any]) -> int:
    """Returns enough to keep all workers busy, and no more: a strategy cannot learn from trials in flight.

    It is the same for 1 to 4 workers, so that their searches give the same results. On a cluster it is twice the
    number of workers, since a cluster may grow.
    """
    workers: int = fields["workers"]
    return max(4, workers if fields["ray_address"] is None else 2 * workers)


class EngineOptions(ComputeOptions):
    """Where trials run, and how many run at once."""

    engine: EngineName = "local"
    ray_address: str | None = None
    """Address of a Ray cluster, `auto` or HOST:PORT; None starts Ray on this machine."""
    gpus_per_trial: Annotated[StrictFloat, Field(ge=0, le=64, allow_inf_nan=False)] = 0.0
    """GPUs that Ray reserves for each trial: a fraction of one, or a whole number."""
    workers: Annotated[StrictInt, Field(ge=0, le=MAX_WORKERS, default_factory=_default_workers)]
    """Trials at once; on a cluster the default is as many as it holds."""
    lookahead: Annotated[StrictInt, Field(ge=1, le=MAX_LOOKAHEAD, default_factory=_default_lookahead)]
    trial_timeout: Seconds | None = None
    """Maximum seconds of one attempt at a trial; None is 20 times the expected, but at least 10 minutes. Without
    workers none holds, since nothing ends a job in the driver's own process."""

    @classmethod
    def recorded(cls, options: Mapping[str, Any], source: str, *, limits_cluster: bool) -> Self:
        """Returns recorded options, as if all were given; the workers only if `limits_cluster` is on record as well.

        Raises `ConfigError` as `parse` does.
        """
        parsed = cls.parse(options, source)
        given = parsed.model_fields_set - (set() if limits_cluster else {"workers"})
        return cast(Self, cls.model_construct(_fields_set=given, **dict(parsed)))

    def with_given(self, given: Mapping[str, Any], source: str) -> Self:
        """Returns these recorded options, replaced by those given now; with `engine: local` without those of Ray.

        `model_fields_set` holds the latter, and workers that these options bound a cluster by.
        """
        is_local = given.get("engine") == "local"
        of_ray = {"ray_address": None, "gpus_per_trial": 0.0} if is_local else {}
        kept = {"workers"} if self.limits_cluster and not is_local else set()
        options = self.parse({**self.model_dump(), **of_ray, **given}, source)
        return cast(Self, self.model_construct(_fields_set=set(given) | kept, **dict(options)))

    @model_validator(mode="after")
    def _check_engine(self) -> Self:
        gpus = self.gpus_per_trial
        if self.engine == "local" and (self.ray_address is not None or gpus > 0):
            name = "ray_address" if self.ray_address is not None else "gpus_per_trial"
            raise ValueError(f"{flag(name)} goes with Ray (--engine ray), got --engine local")
        if self.engine != "local" and self.workers == 0:
            raise ValueError(f"--workers must be at least 1 with --engine {self.engine}, got 0")
        if gpus > 1 and not gpus.is_integer():
            raise ValueError(f"--gpus-per-trial must be a fraction of one GPU or a whole number, got {gpus:g}")
        if gpus > 0 and self.device == "cpu":
            raise ValueError(f"--gpus-per-trial goes with a GPU, got {gpus:g} and --device cpu")
        return self

    @property
    def uses_whole_cluster(self) -> bool:
        """Whether the number of workers is what the cluster holds, because none was given."""
        return self.ray_address is not None and "workers" not in self.model_fields_set

    @property
    def limits_cluster(self) -> bool:
        """Whether no more of a cluster is used than the workers that were given; a resumed run keeps to them."""
        return self.ray_address is not None and "workers" in self.model_fields_set

    @property
    def usable_threads(self) -> int:
        """The threads of a worker: on this machine at most its cores."""
        return self.threads if self.ray_address is not None else min(self.threads, num_cores())

    def usable_workers(self, num_jobs: int) -> int:
        """Returns how many workers can be busy with at most `num_jobs` jobs, here with cores for their threads.

        A search finds the same with fewer workers: their number counts through `lookahead` alone.
        """
        workers = min(self.workers, self.lookahead, num_jobs)
        if self.ray_address is not None:
            return workers
        return min(workers, max(1, num_cores() // self.usable_threads))

    def describe_unused(self, num_jobs: int) -> str | None:
        """Returns a line on workers and threads that were requested but are not used; None if there are none."""
        workers, threads = self.usable_workers(num_jobs), self.usable_threads
        if threads == self.threads and (workers == self.workers or self.workers == _default_workers()):
            return None
        cores = "" if self.ray_address is not None else f"{counted(num_cores(), 'core')}, "
        return (
            f"note: {counted(self.workers, 'worker')} with {counted(self.threads, 'thread')} each are more than can be "
            f"used ({cores}at most {counted(min(self.lookahead, num_jobs), 'trial')} at once): workers {workers}, "
            f"threads {threads}"
        )

    def with_workers(self, workers: int, source: str) -> Self:
        """Returns these options with the workers of a whole cluster, and the defaults that follow from them."""
        options = self.parse({**self.model_dump(exclude_unset=True), "workers": workers}, source)
        return cast(Self, self.model_construct(_fields_set=set(self.model_fields_set), **dict(options)))


class ComputeBudgetOptions(ComputeOptions):
    """Limits after which no trial starts (`trials.runs.compute_budget`)."""

    time_budget: Seconds | None = None
    """Wall time of all sessions together, in seconds."""
    gpu_hours: Annotated[StrictFloat, Field(gt=0, le=1e8, allow_inf_nan=False)] | None = None
    """GPU time in hours."""

    @model_validator(mode="after")
    def _check_compute_budget(self) -> Self:
        if self.gpu_hours is not None and self.device == "cpu":
            raise ValueError(
                "--gpu-hours goes with a GPU, got --device cpu; --time-budget bounds the wall time anywhere"
            )
        return self
