"""The entry to a worker, importable without torch so that the driver of a search stays light."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .context import WorkerContext


class JobRunner:
    """Runs jobs (see `trials.engines.messages`) in the process where it is called; the first call imports torch.

    Engines send one to each of their workers, which calls it with one job after the other. It owns what a job leaves
    for the next one (`trials.worker.context`), which never travels: a copy that is sent anywhere begins with nothing.
    """

    def __init__(self) -> None:
        self._context: WorkerContext | None = None

    def __call__(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Runs one job given as plain data and returns its result as plain data."""
        from .context import WorkerContext
        from .dispatch import execute

        if self._context is None:
            self._context = WorkerContext()
        return execute(payload, self._context)

    def __reduce__(self) -> tuple[type[JobRunner], tuple[()]]:
        return JobRunner, ()
