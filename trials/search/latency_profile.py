"""Latency of the target on this machine: a profile is measured once per space and setup, and predicts all networks.

A worker times parts and whole networks (`trials.worker.timing.measure_latency`) in rounds, alone on the machine. This
module requests the rounds, fits the profile and saves it. Other processes can only add time, so the minimum over all
rounds counts: the machine undisturbed. The front's networks are measured in the same way.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.arrays import FloatArray
from sret_nas.errors import UserError
from sret_nas.feasible.feasible_set import FeasibleSet
from sret_nas.feasible.stratified import StratifiedSampler
from sret_nas.files import short_digest, validate, write_atomically
from sret_nas.json_files import read_json
from sret_nas.latency.profile import LatencyProfile, MeasurementSetup, Part
from sret_nas.latency.table import LatencyFeatures, parts_of
from sret_nas.plurals import counted
from sret_nas.quantities import format_seconds
from sret_nas.space.search_space import SearchSpace

from ..console import Console, Working, print_line
from ..engines.engine import Engine
from ..engines.jobs import LatencyJob
from ..engines.results import LatencyTimes
from ..runs.options import SearchOptions
from .measuring import run_measurement

PROFILES = "latency-profiles"
"""Folder beside the run directories that keeps profiles for other searches of the same space."""

NUM_FITTED, NUM_HELD_OUT = 24, 12
"""Whole networks that are timed: to fit the profile, and to measure its error."""
PROFILE_SECONDS = 45
MIN_ROUNDS, MAX_ROUNDS = 3, 6
"""Bounds on the number of rounds, which otherwise is what fits into `PROFILE_SECONDS`."""
FINAL_ROUNDS = 4
MAX_MEDIAN_ERROR = 0.1
"""Median relative error of predictions above which the user is warned."""


class LatencyTimer:
    """Has an engine's workers time networks, with the device, threads and batch size of a search."""

    def __init__(self, engine: Engine, options: SearchOptions) -> None:
        self._engine = engine
        self._options = options

    def setup(self, space: SearchSpace) -> MeasurementSetup:
        """Returns how latencies of a space's networks are measured. Raises `UserError` if the device is missing."""
        device = self.time_once((), ()).device
        options = self._options
        return MeasurementSetup(
            device=device, threads=options.usable_threads, batch_size=options.latency_batch, torch=version("torch"),
            image_size=space.image_size,
        )  # fmt: skip

    def time_once(self, parts: Sequence[Part], networks: Sequence[ArchConfig]) -> LatencyTimes:
        """Runs one round of timings. Raises what `run_measurement` does."""
        options = self._options
        job = LatencyJob(
            device=options.device, threads=options.usable_threads, batch_size=options.latency_batch, parts=tuple(parts),
            networks=tuple(networks),
        )  # fmt: skip
        result = run_measurement(self._engine, job, "timing a network", "lower --latency-batch")
        return LatencyTimes.model_validate(result)


def latency_profile(
    engine: Engine, space: SearchSpace, options: SearchOptions, folder: Path, console: Console
) -> LatencyProfile:
    """Returns the profile of a space, read from `folder`, or measured and saved there.

    Raises `UserError` if the saved profile was edited, and what `run_measurement` does.
    """
    timer = LatencyTimer(engine, options)
    setup = timer.setup(space)
    path = folder / f"{_digest(space, setup)}.json"
    if path.exists():
        profile = validate(LatencyProfile, read_json(path), str(path))
        if (profile.setup, profile.space_digest) != (setup, space.digest):
            raise UserError(f"{path} is the latency profile of something else: it was edited; delete it")
    else:
        profile = measure_profile(timer, space, setup, console)
        write_atomically(path, profile.model_dump_json(indent=1) + "\n")
    print_line(console, f"Latency: {profile.setup.describe()}. {profile.describe_accuracy()}")
    if profile.accuracy is not None and profile.accuracy.median_error > MAX_MEDIAN_ERROR:
        print_line(console, f"warning: that is a large error: was the machine busy? Delete {path} to measure anew")
    return profile


def _digest(space: SearchSpace, setup: MeasurementSetup) -> str:
    """Returns the name of a profile: a short digest of everything that affects the measurement."""
    content = json.dumps([space.digest, setup.model_dump(mode="json")], sort_keys=True)
    return short_digest(content)


def measure_profile(
    timer: LatencyTimer,
    space: SearchSpace,
    setup: MeasurementSetup,
    console: Console,
    num_held_out: int = NUM_HELD_OUT,
) -> LatencyProfile:
    """Returns a new profile: times all parts of a space and some of its networks, and fits these to the parts."""
    started = time.perf_counter()
    parts, (fitted, held_out) = parts_of(space), _networks(space, NUM_FITTED, num_held_out)
    networks = fitted + held_out
    what = f"Latency: timing {counted(len(parts), 'part')} and {counted(len(networks), 'network')} of {space.name}"
    print_line(console, f"{what}; takes up to about {PROFILE_SECONDS} s, once for this space and machine")
    rounds: list[LatencyTimes] = []
    num_rounds = MIN_ROUNDS
    with Working(console, what) as working:
        while len(rounds) < num_rounds:
            rounds.append(timer.time_once(parts, networks))
            per_round = (time.perf_counter() - started) / len(rounds)
            num_rounds = min(MAX_ROUNDS, max(MIN_ROUNDS, int(PROFILE_SECONDS / per_round)))
            left = format_seconds(per_round * (num_rounds - len(rounds)))
            working.update(f"{what}: {len(rounds)} of {counted(num_rounds, 'round')}, {left} left")
    times = _minima([timed.parts for timed in rounds])
    measured = np.array(_minima([timed.networks for timed in rounds]))
    return _fitted_profile(
        space, setup, dict(zip(parts, times, strict=True)), networks, measured, len(fitted), len(rounds),
        seconds=time.perf_counter() - started,
    )  # fmt: skip


def _networks(space: SearchSpace, num_fitted: int, num_held_out: int) -> tuple[list[ArchConfig], list[ArchConfig]]:
    """Returns distinct networks: some to fit, stratified over FLOPs, and others to hold out, drawn uniformly.

    A small space gives fewer, down to none to hold out.
    """
    rng = np.random.default_rng(0)
    spread = StratifiedSampler(space, Budget()).sample_many(rng, num_fitted)
    fitted = {arch.arch_id: arch for arch in spread}
    uniform = FeasibleSet(space, Budget()).sample_many(rng, num_held_out)
    held_out = {arch.arch_id: arch for arch in uniform if arch.arch_id not in fitted}
    return list(fitted.values()), list(held_out.values())


def _minima(rounds: Sequence[Sequence[Sequence[float]]]) -> list[float]:
    """Returns the minimum of each item's timings; `rounds` has shape (rounds, items, timings)."""
    return [min(map(min, timings)) for timings in zip(*rounds, strict=True)]


def _fitted_profile(
    space: SearchSpace, setup: MeasurementSetup, times: dict[Part, float], networks: Sequence[ArchConfig],
    measured: FloatArray, num_fitted: int, rounds: int, seconds: float,
) -> LatencyProfile:  # fmt: skip
    """Returns the profile of measured parts and networks, all in microseconds.

    The first `num_fitted` networks are fitted; the others are held out to measure the error.
    """
    from sret_nas.latency.fit import fit_coefficients, quality_of

    features = LatencyFeatures(space, times)
    table = np.array([features.of_network(arch) for arch in networks])
    coefficients = fit_coefficients(table[:num_fitted], measured[:num_fitted])
    accuracy = None
    if len(networks) > num_fitted:
        flops = [cost_of(arch).flops for arch in networks[num_fitted:]]
        accuracy = quality_of(table[num_fitted:] @ coefficients, measured[num_fitted:], flops)
    return LatencyProfile(
        setup=setup,
        space_digest=space.digest,
        parts=tuple((part, round(microseconds, 2)) for part, microseconds in times.items()),
        coefficients=tuple(coefficients.tolist()),
        accuracy=accuracy,
        rounds=rounds,
        seconds=round(seconds, 1),
    )


def measured_latencies(timer: LatencyTimer, networks: Sequence[ArchConfig]) -> list[float]:
    """Returns the measured latencies of whole networks in microseconds."""
    rounds = [timer.time_once((), networks) for _ in range(FINAL_ROUNDS)]
    return _minima([timed.networks for timed in rounds])
