"""The conformance test of engines: what everything that runs jobs keeps to.

To test an engine of your own, subclass `EngineContract` in a test module, under a name that pytest collects, and make
the engine in the fixture `engine`, with `misbehave` as what its workers do with a job:

    from collections.abc import Iterator

    import pytest

    from sret_nas.trials.engines.conformance import EngineContract, misbehave
    from sret_nas.trials.engines.engine import Engine

    from my_package import MyEngine


    class TestMyEngine(EngineContract):
        @pytest.fixture
        def engine(self) -> Iterator[Engine]:
            with MyEngine(misbehave) as engine:
                yield engine

An engine that is slow to start can be shared by the tests of a class; then the fixture waits for the jobs that a test
has left behind. Workers must be able to import this module, and so pytest. Nothing but tests imports it. For failures
that show their values, put `pytest.register_assert_rewrite("sret_nas.trials.engines.conformance")` in `conftest.py`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from ..training.recipe import DivergedError
from .engine import Engine, Outcome


def misbehave(payload: dict[str, Any]) -> dict[str, Any]:
    """Does what the payload says: squares a number, or fails in one of several ways."""
    what = payload["do"]
    if what == "square":
        return {"value": payload["value"] ** 2, "process": os.getpid()}
    if what == "raise":
        raise ValueError("no such luck")
    if what == "diverge":
        raise DivergedError("the loss is nan")
    if what == "run out of memory":
        return {"value": len(bytearray(1 << 62))}  # a real MemoryError: no machine has 4 EiB
    if what == "fill the disk":
        with open("/dev/full", "wb", buffering=0) as file:
            file.write(b"x")
    raise NotImplementedError(f"no way to {what}")


def run_all(engine: Engine, payloads: list[dict[str, Any]]) -> dict[int, Outcome]:
    """Runs jobs numbered from 0 at the engine's capacity."""
    outcomes: dict[int, Outcome] = {}
    submitted = 0
    while len(outcomes) < len(payloads):
        while submitted < len(payloads) and submitted - len(outcomes) < engine.capacity:
            engine.submit(submitted, payloads[submitted])
            submitted += 1
        for outcome in engine.wait():
            assert outcome.job_id not in outcomes
            outcomes[outcome.job_id] = outcome
    return outcomes


class EngineContract:
    """What every engine keeps to. A subclass says how its engine is made."""

    @pytest.fixture
    def engine(self) -> Iterator[Engine]:
        """Yields an engine whose workers run `misbehave`, and that has no job."""
        raise NotImplementedError("each engine's test class makes its own")

    def test_every_job_has_its_own_result(self, engine: Engine) -> None:
        outcomes = run_all(engine, [{"do": "square", "value": value} for value in range(7)])
        assert {job: outcome.result["value"] for job, outcome in outcomes.items() if outcome.result} == {
            value: value**2 for value in range(7)
        }
        assert all(outcome.failure is None for outcome in outcomes.values())

    @pytest.mark.parametrize(
        ("what", "cause", "message"),
        [
            ("raise", "exception", "ValueError: no such luck"),
            ("diverge", "diverged", "the loss is nan"),
            ("run out of memory", "out of memory", "MemoryError: "),
            ("fill the disk", "disk full", "[Errno 28] No space left on device"),
        ],
    )
    def test_a_job_that_raises_is_a_failure_and_the_next_one_runs(
        self, engine: Engine, what: str, cause: str, message: str
    ) -> None:
        outcomes = run_all(engine, [{"do": what}, {"do": "square", "value": 3}])
        failure = outcomes[0].failure
        assert failure is not None
        assert (failure.cause, failure.message) == (cause, message)
        assert misbehave.__name__ in failure.traceback
        assert outcomes[0].result is None
        assert outcomes[1].result is not None
        assert outcomes[1].result["value"] == 9

    def test_a_time_limit_changes_nothing_for_a_job_that_keeps_to_it(self, engine: Engine) -> None:
        engine.submit(0, {"do": "square", "value": 3}, time_limit=600.0)
        (outcome,) = engine.wait()
        assert outcome.result is not None
        assert outcome.result["value"] == 9

    def test_waiting_for_nothing_returns_at_once(self, engine: Engine) -> None:
        assert engine.wait() == []

    def test_more_jobs_than_capacity_are_refused(self, engine: Engine) -> None:
        for job in range(engine.capacity):
            engine.submit(job, {"do": "square", "value": 1})
        with pytest.raises(RuntimeError):
            engine.submit(99, {"do": "square", "value": 1})
