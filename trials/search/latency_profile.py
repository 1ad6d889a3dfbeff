"""Latency of the target on this machine: profiled once per space and setting, predicted for all, measured in the end.

Workers time (`trials.worker.timing.measure_latency`), one at a time so that no other disturbs it; here the rounds are
asked for, fitted and kept. What else runs on the machine only ever adds time, so of the timings of one thing, spread
over the rounds, the least counts: what this machine can do undisturbed. The front's networks are measured in the same
way.
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
from sret_nas.quantities import format_seconds
from sret_nas.space.search_space import SearchSpace

from ..console import Console, print_line
from ..engines.engine import Engine
from ..engines.messages import LatencyJob, LatencyTimes
from ..runs.options import SearchOptions
from .measuring import run_measurement

PROFILES = "latency-profiles"
"""Folder beside the run directories: what was measured here, for other searches of the same space."""

NUM_FITTED, NUM_HELD_OUT = 24, 12
"""Networks that are timed whole: for the fit, and to say how good it is."""
PROFILE_SECONDS = 45
MIN_ROUNDS, MAX_ROUNDS = 3, 6
"""Rounds of all timings: as many as fit into `PROFILE_SECONDS`, within these."""
FINAL_ROUNDS = 4
DOUBTFUL = 0.1
"""Median error of predictions above which a user is warned."""


class LatencyTimer:
    """Asks an engine's workers for timings, with the device, threads and batch size of a search."""

    def __init__(self, engine: Engine, options: SearchOptions) -> None:
        self._engine = engine
        self._options = options

    def setting(self, space: SearchSpace) -> MeasurementSetup:
        """Where latencies of a space's networks are measured. Raises `UserError` if the device is not there."""
        device = self.time_once((), ()).device
        options = self._options
        return MeasurementSetup(
            device=device, threads=options.usable_threads, batch_size=options.latency_batch, torch=version("torch"),
            image_size=space.image_size,
        )  # fmt: skip

    def time_once(self, parts: Sequence[Part], networks: Sequence[ArchConfig]) -> LatencyTimes:
        """One round. Raises what `run_measurement` does."""
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
    """The profile of a space in `folder`, measured and left there if it is not there yet."""
    timer = LatencyTimer(engine, options)
    setting = timer.setting(space)
    path = folder / f"{_digest(space, setting)}.json"
    if path.exists():
        profile = validate(LatencyProfile, read_json(path), str(path))
        if (profile.setting, profile.space_digest) != (setting, space.digest):
            raise UserError(f"{path} is the latency profile of something else: it was edited; delete it")
    else:
        profile = measure_profile(timer, space, setting, console)
        write_atomically(path, profile.model_dump_json(indent=1) + "\n")
    print_line(console, f"Latency: {profile.setting.describe()}. {profile.describe_accuracy()}")
    if profile.accuracy is not None and profile.accuracy.median_error > DOUBTFUL:
        print_line(console, f"warning: that is a large error: was the machine busy? Delete {path} to measure anew")
    return profile


def _digest(space: SearchSpace, setting: MeasurementSetup) -> str:
    """Names a profile: twelve hexadecimal digits of all that decides what is measured."""
    content = json.dumps([space.digest, setting.model_dump(mode="json")], sort_keys=True)
    return short_digest(content)


def measure_profile(
    timer: LatencyTimer,
    space: SearchSpace,
    setting: MeasurementSetup,
    console: Console,
    num_held_out: int = NUM_HELD_OUT,
) -> LatencyProfile:
    """Times all parts of a space and some of its networks, and fits the latter to the former."""
    started = time.perf_counter()
    parts, (fitted, held_out) = parts_of(space), _networks(space, NUM_FITTED, num_held_out)
    networks = fitted + held_out
    what = f"Latency: timing {len(parts)} parts and {len(networks)} networks of {space.name}"
    print_line(console, f"{what}, for about {PROFILE_SECONDS} s at most; once, then searches of this space know")
    rounds: list[LatencyTimes] = []
    num_rounds = MIN_ROUNDS
    with console.status(what) as status:
        while len(rounds) < num_rounds:
            rounds.append(timer.time_once(parts, networks))
            each = (time.perf_counter() - started) / len(rounds)
            num_rounds = min(MAX_ROUNDS, max(MIN_ROUNDS, int(PROFILE_SECONDS / each)))
            left = format_seconds(each * (num_rounds - len(rounds)))
            status.update(f"{what}: {len(rounds)} of {num_rounds} rounds, {left} left")
    times = _least([timed.parts for timed in rounds])
    measured = np.array(_least([timed.networks for timed in rounds]))
    return _fitted_profile(
        space, setting, dict(zip(parts, times, strict=True)), networks, measured, len(fitted), len(rounds),
        seconds=time.perf_counter() - started,
    )  # fmt: skip


def _networks(space: SearchSpace, num_fitted: int, num_held_out: int) -> tuple[list[ArchConfig], list[ArchConfig]]:
    """Different networks: some to fit to, spread over FLOPs, and others to hold out, drawn uniformly.

    Fewer in a small space, down to none to hold out.
    """
    rng = np.random.default_rng(0)
    spread = StratifiedSampler(space, Budget()).sample_many(rng, num_fitted)
    fitted = {arch.arch_id: arch for arch in spread}
    uniform = FeasibleSet(space, Budget()).sample_many(rng, num_held_out)
    held_out = {arch.arch_id: arch for arch in uniform if arch.arch_id not in fitted}
    return list(fitted.values()), list(held_out.values())


def _least(rounds: Sequence[Sequence[Sequence[float]]]) -> list[float]:
    """Of each thing's timings over all rounds (rounds, things, timings) the least."""
    return [min(map(min, timings)) for timings in zip(*rounds, strict=True)]


def _fitted_profile(
    space: SearchSpace, setting: MeasurementSetup, times: dict[Part, float], networks: Sequence[ArchConfig],
    measured: FloatArray, num_fitted: int, rounds: int, seconds: float,
) -> LatencyProfile:  # fmt: skip
    """The profile of what was measured; the first `num_fitted` networks are fitted to, the others are held out."""
    from sret_nas.latency.fit import accuracy_of, fitted

    features = LatencyFeatures(space, times)
    table = np.array([features.of_network(arch) for arch in networks])
    coefficients = fitted(table[:num_fitted], measured[:num_fitted])
    accuracy = None
    if len(networks) > num_fitted:
        flops = [cost_of(arch).flops for arch in networks[num_fitted:]]
        accuracy = accuracy_of(table[num_fitted:] @ coefficients, measured[num_fitted:], flops)
    return LatencyProfile(
        setting=setting,
        space_digest=space.digest,
        parts=tuple((part, round(microseconds, 2)) for part, microseconds in times.items()),
        coefficients=tuple(coefficients.tolist()),
        accuracy=accuracy,
        rounds=rounds,
        seconds=round(seconds, 1),
    )


def measured_latencies(timer: LatencyTimer, networks: Sequence[ArchConfig]) -> list[float]:
    """The measured latency of whole networks in microseconds, as a profile's networks are measured."""
    rounds = [timer.time_once((), networks) for _ in range(FINAL_ROUNDS)]
    return _least([timed.networks for timed in rounds])
