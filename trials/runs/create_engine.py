"""Creates the engine that a command's options name."""

from __future__ import annotations

from ..console import Console, print_line
from ..engines.engine import Engine, RunJob
from ..engines.inline import InlineEngine
from ..engines.local import LocalEngine
from ..engines.ray_needed import ray_needed
from .engine_options import EngineOptions


def create_engine(options: EngineOptions, run_job: RunJob, max_jobs: int, console: Console) -> Engine:
    """Returns an engine with as many workers as at most `max_jobs` jobs keep busy, and prints what is left unused.

    Args:
        options: which engine, with how many workers.
        run_job: what a worker does with a job.
        max_jobs: the largest number of jobs.
        console: for a note on unused workers.

    Raises `UserError` if Ray is not installed, or there is no such cluster.
    """
    num_workers, unused = options.usable_workers(max_jobs), options.describe_unused(max_jobs)
    if unused is not None and not options.uses_whole_cluster:
        print_line(console, unused)
    if options.engine == "ray":
        with ray_needed():
            from ..engines.ray import RayEngine  # half a second
        return RayEngine(
            run_job,
            None if options.uses_whole_cluster else num_workers,
            options.ray_address,
            cpus_per_trial=options.usable_threads,
            gpus_per_trial=options.gpus_per_trial,
        )
    return InlineEngine(run_job) if options.workers == 0 else LocalEngine(run_job, num_workers)
