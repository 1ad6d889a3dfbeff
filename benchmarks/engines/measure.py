"""One measurement, in a process of its own: jobs on an engine, or in Ray Tune. Prints a JSON object."""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from benchmarks.engines.work import run
from trials.engines.engine import Engine, Outcome
from trials.engines.inline import InlineEngine
from trials.engines.local import LocalEngine

Measured = dict[str, Any]


def on(engine: Engine, payloads: list[dict[str, Any]], started: float) -> Measured:
    """Runs jobs on one of our engines, at its capacity, as a search runs them, after one for each worker to warm it."""
    capacity = engine.capacity
    for number in range(capacity):
        engine.submit(-number, {"products": 1})
    warmed: list[Outcome] = []
    while len(warmed) < capacity:
        warmed += engine.wait()
    began, began_cpu = time.perf_counter(), time.process_time()
    waiting, seconds, running = list(enumerate(payloads)), [], 0
    while waiting or running:
        while waiting and running < engine.capacity:
            engine.submit(*waiting.pop(0))
            running += 1
        for outcome in engine.wait():
            assert outcome.result is not None, outcome.failure
            seconds.append(outcome.result["seconds"])
            running -= 1
    ended, driver = time.perf_counter(), time.process_time() - began_cpu
    engine.close()
    return {
        "start": began - started, "seconds": ended - began, "jobs": seconds, "close": time.perf_counter() - ended,
        "driver_cpu": driver,
    }  # fmt: skip


def with_inline(payloads: list[dict[str, Any]], workers: int) -> Measured:
    return on(InlineEngine(run), payloads, time.perf_counter())


def with_local(payloads: list[dict[str, Any]], workers: int) -> Measured:
    started = time.perf_counter()
    return on(LocalEngine(run, workers), payloads, started)


def with_ray(payloads: list[dict[str, Any]], workers: int) -> Measured:
    started = time.perf_counter()
    from trials.engines.ray import RayEngine

    return on(RayEngine(run, workers), payloads, started)


def with_tune_and_optuna(payloads: list[dict[str, Any]], workers: int) -> Measured:
    """Runs jobs as most people write it: a function, OptunaSearch, everything else by default."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    started = time.perf_counter()
    import ray
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    products = payloads[0]["products"]

    def objective(config: dict[str, Any]) -> None:
        tune.report({"seconds": run({"products": products})["seconds"], "error": config["x"]})

    ray.init(address="local", num_cpus=workers, logging_level=logging.ERROR)
    tuner = tune.Tuner(
        objective,
        param_space={"x": tune.uniform(0, 1)},
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(), metric="error", mode="min", num_samples=len(payloads),
            max_concurrent_trials=workers,
        ),
        run_config=tune.RunConfig(storage_path=tempfile.mkdtemp()),
    )  # fmt: skip
    began = time.perf_counter()
    results = tuner.fit()
    ended = time.perf_counter()
    seconds = [(results[number].metrics or {})["seconds"] for number in range(len(results))]
    ray.shutdown()
    return {
        "start": began - started, "seconds": ended - began, "jobs": seconds, "close": time.perf_counter() - ended
    }  # fmt: skip


def with_driven_tune(payloads: list[dict[str, Any]], workers: int) -> Measured:
    """Returns what the Ray engine might have been: a tuner in a thread whose searcher hands out
    jobs, on reused actors."""
    from benchmarks.engines.driven_tune import DrivenTune

    started = time.perf_counter()
    return on(DrivenTune(run, workers), payloads, started)


def with_ray_tune(payloads: list[dict[str, Any]], workers: int) -> Measured:
    started = time.perf_counter()
    from trials.engines.ray_tune import RayTuneEngine

    return on(RayTuneEngine(run, workers), payloads, started)


SYSTEMS: dict[str, Callable[[list[dict[str, Any]], int], Measured]] = {
    "inline": with_inline,
    "local engine": with_local,
    "Ray engine": with_ray,
    "Tune driven by jobs": with_driven_tune,
    "Ray Tune engine": with_ray_tune,
    "Tune with OptunaSearch": with_tune_and_optuna,
}


def main(system: str, workers: int, num_jobs: int, products: int) -> None:
    measured = SYSTEMS[system]([{"products": products} for _ in range(num_jobs)], workers)
    assert sys.__stdout__ is not None
    json.dump(measured, sys.__stdout__)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
