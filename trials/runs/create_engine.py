"""Creates the engine that a command's options name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..console import Console, print_line
from ..engines.engine import Engine, RunJob
from ..engines.inline import InlineEngine
from ..engines.local import LocalEngine
from ..engines.ray_needed import ray_needed
from .engine_options import EngineOptions


def create_engine(options: EngineOptions, run_job: RunJob, max_jobs: int, run_dir: Path, console: Console) -> Engine:
    """Returns an engine with as many workers as at most `max_jobs` jobs keep busy, and prints what has no effect.

    Args:
        options: which engine, with how many workers.
        run_job: what a worker does with a job.
        max_jobs: the largest number of jobs.
        run_dir: for the experiment folder of Ray Tune.
        console: for notes on options without effect.

    Raises `UserError` if Ray is not installed, or there is no such cluster.
    """
    num_workers, unused = options.usable_workers(max_jobs), options.describe_unused(max_jobs)
    if unused is not None and not options.uses_whole_cluster:
        print_line(console, unused)
    if options.workers == 0 and options.trial_timeout is not None:
        print_line(console, "note: --trial-timeout has no effect with --workers 0, where trials run in this process")
    if options.engine == "local":
        return InlineEngine(run_job) if options.workers == 0 else LocalEngine(run_job, num_workers)
    workers = None if options.uses_whole_cluster else num_workers
    shared: dict[str, Any] = {"cpus_per_trial": options.usable_threads, "gpus_per_trial": options.gpus_per_trial}
    with ray_needed():
        if options.engine == "ray":
            from ..engines.ray import RayEngine  # half a second

            return RayEngine(run_job, workers, options.ray_address, **shared)
        from ..engines.ray_tune import EXPERIMENTS, RayTuneEngine  # two seconds

        return RayTuneEngine(run_job, workers, options.ray_address, **shared, folder=run_dir / EXPERIMENTS)
