"""The end of a search that uses latency: measures the front's latencies, which were predicted until then."""

from __future__ import annotations

from sret_nas.plurals import counted

from ..console import print_line
from ..engines.engine import Engine
from ..runs.objectives import archived
from .latency_profile import LatencyTimer, measured_latencies
from .session import Run


def measure_front(run: Run, engine: Engine) -> None:
    """Measures the target networks of the front that have no measurement yet, if the search uses latency."""
    unmeasured = [trial for trial in archived(run.trials, run.options.objectives) if trial.measured_us is None]
    if not run.options.uses_latency or not unmeasured:
        return
    print_line(run.console, f"Measuring the latency of {counted(len(unmeasured), 'network')}")
    archs = [trial.arch for trial in unmeasured]
    for trial, latency in zip(unmeasured, measured_latencies(LatencyTimer(engine, run.options), archs), strict=True):
        trial.measured_us = round(latency, 1)
        run.records.measured(trial.number, trial.measured_us)
