"""The end of a search that uses latency: measures the front's latencies, which were predicted until then."""

from __future__ import annotations

from sret_nas.plurals import counted

from ..console import print_line
from ..engines.engine import Engine
from ..runs.objectives import archived
from .latency_profile import LatencyTimer, measured_latencies
from .run import Run


def measure_front(run: Run, engine: Engine) -> None:
    """Measures the target networks of the front that have no measurement yet, if the search uses latency.

    On another machine than that of the predictions, it says so instead: their latencies do not compare.
    """
    unmeasured = [trial for trial in archived(run.trials, run.options.objectives) if trial.measured_us is None]
    profile = run.domain.latency_profile
    if profile is None or not unmeasured:
        return
    timer, networks = LatencyTimer(engine, run.options), counted(len(unmeasured), "network")
    here = timer.setup(run.space)
    if here != profile.setup:
        print_line(
            run.console,
            f"warning: the latency of {networks} is not measured: it is predicted for {profile.setup.describe()}, "
            f"and this is {here.describe()}",
        )
        return
    print_line(run.console, f"Measuring the latency of {networks}")
    for trial, latency in zip(unmeasured, measured_latencies(timer, [trial.arch for trial in unmeasured]), strict=True):
        trial.measured_us = round(latency, 1)
        run.records.measured(trial.number, trial.measured_us)
