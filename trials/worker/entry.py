"""The entry point of a worker. It imports no torch, so that the driver of a search starts fast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..machine import collector_paused

if TYPE_CHECKING:
    from .context import WorkerContext


class JobRunner:
    """Runs jobs (see `trials.engines.jobs`) in the current process. The first call imports torch.

    Engines send a copy to each worker, which calls it with one job after another. It owns the data kept between jobs
    (`trials.worker.context`). They are never pickled: a copy starts without any.
    """

    def __init__(self) -> None:
        self._context: WorkerContext | None = None

    def __call__(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Runs a job given as plain data and returns its result as plain data."""
        with collector_paused():
            from .context import WorkerContext
            from .dispatch import execute

        if self._context is None:
            self._context = WorkerContext()
        return execute(payload, self._context)

    def __reduce__(self) -> tuple[type[JobRunner], tuple[()]]:
        return JobRunner, ()
