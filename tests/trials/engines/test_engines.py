"""Conformance tests for every engine, and tests of worker processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest

from tests.trials.engines.jobs_for_engines import misbehave
from trials.engines.conformance import EngineContract, run_all
from trials.engines.engine import Engine, Outcome
from trials.engines.inline import InlineEngine
from trials.engines.local import LocalEngine
from trials.engines.messages import Failure

pytestmark = pytest.mark.xdist_group("engines")  # its fixtures are made once, in one process

SQUARES = [{"do": "square", "value": value} for value in range(4)]


class TestInlineEngine(EngineContract):
    @pytest.fixture
    def engine(self) -> Iterator[Engine]:
        with InlineEngine(misbehave) as engine:
            yield engine


def left_idle(engine: Engine) -> Engine:
    """The engine, once jobs that a test has left behind have ended."""
    while engine.wait():
        pass
    return engine


@pytest.fixture(scope="class")
def local_engine() -> Iterator[Engine]:
    with LocalEngine(misbehave, num_workers=2) as engine:
        yield engine


class TestLocalEngine(EngineContract):
    @pytest.fixture
    def engine(self, local_engine: Engine) -> Engine:
        return left_idle(local_engine)

    @pytest.mark.parametrize(
        ("what", "message"),
        [
            ("exit", "the worker process ended with exit code 3"),
            ("kill", "the worker process was ended by SIGKILL (often: the system ran out of memory)"),
        ],
    )
    def test_a_worker_that_dies_takes_only_its_own_job(self, engine: Engine, what: str, message: str) -> None:
        payloads = [{"do": "square", "value": 1}, {"do": what}, {"do": "square", "value": 2}, {"do": what}]
        outcomes = run_all(engine, payloads)
        for job in (1, 3):
            failure = outcomes[job].failure
            assert failure is not None
            assert (failure.cause, failure.message) == ("worker died", message)
        assert [outcomes[job].result["value"] for job in (0, 2)] == [1, 4]  # type: ignore[index]

    def test_a_job_that_hangs_is_ended_and_takes_nothing_with_it(self, engine: Engine) -> None:
        """Beside it, one job ends in time and one has no limit. Its worker is replaced."""
        before = {outcome.result["process"] for outcome in run_all(engine, SQUARES).values() if outcome.result}
        engine.submit(7, {"do": "hang"}, time_limit=0.5)
        engine.submit(8, {"do": "square", "value": 4}, time_limit=None)
        outcomes = {outcome.job_id: outcome for _ in range(2) for outcome in engine.wait()}
        assert outcomes[7] == Outcome(
            7, failure=Failure(cause="timed out", message="it took longer than its time limit of 0.5 s")
        )
        assert outcomes[8].result is not None
        assert outcomes[8].result["value"] == 16
        for process in before - {outcomes[8].result["process"]}:
            with pytest.raises(ProcessLookupError):
                os.kill(process, 0)
        after = run_all(engine, SQUARES)
        assert [after[job].result["value"] for job in range(4)] == [0, 1, 4, 9]  # type: ignore[index]

    def test_closing_ends_jobs_that_run(self) -> None:
        """Even if the worker ignores SIGTERM."""
        engine = LocalEngine(misbehave, num_workers=1)
        process = run_all(engine, [{"do": "square", "value": 1}])[0].result["process"]  # type: ignore[index]
        engine.submit(1, {"do": "hang deaf"})
        engine.close()
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)

    def test_workers_are_reused_and_are_other_processes(self, engine: Engine) -> None:
        outcomes = run_all(engine, [{"do": "square", "value": value} for value in range(10)])
        processes = {outcome.result["process"] for outcome in outcomes.values() if outcome.result}
        assert 1 <= len(processes) <= 2
        assert os.getpid() not in processes

    def test_ctrl_c_is_not_the_workers_to_handle(self) -> None:
        """Including the first worker, for which Python starts its resource tracker."""
        script = textwrap.dedent(
            """
            import os, signal, sys
            from tests.trials.engines.jobs_for_engines import misbehave
            from trials.engines.local import LocalEngine
            if __name__ == "__main__":
                with LocalEngine(misbehave, num_workers=2) as engine:
                    for job in range(2):
                        engine.submit(job, {"do": "signals"})
                    outcomes = engine.wait() + engine.wait()
                    print(sorted(outcome.result["sigint"] for outcome in outcomes))
            """
        )
        driver = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert driver.stdout == "['blocked and ignored', 'blocked and ignored']\n"

    def test_closing_ends_the_workers(self) -> None:
        engine = LocalEngine(misbehave, num_workers=1)
        process = run_all(engine, [{"do": "square", "value": 1}])[0].result["process"]  # type: ignore[index]
        engine.close()
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


@pytest.fixture(scope="class")
def ray_engine() -> Iterator[Engine]:
    from trials.engines.ray import RayEngine

    with RayEngine(misbehave, num_workers=2) as engine:
        yield engine


@pytest.mark.slow
class TestRayEngine(EngineContract):
    """Tests of its own are in test_ray.py."""

    @pytest.fixture
    def engine(self, ray_engine: Engine) -> Engine:
        return left_idle(ray_engine)


@pytest.mark.slow
def test_no_worker_outlives_a_killed_driver() -> None:
    """The driver kills itself with SIGKILL while its worker runs an endless job. The worker must notice and end."""
    script = textwrap.dedent(
        """
        import os, signal, sys
        from tests.trials.engines.jobs_for_engines import misbehave
        from trials.engines.local import LocalEngine
        if __name__ == "__main__":
            engine = LocalEngine(misbehave, num_workers=1)
            engine.submit(0, {"do": "square", "value": 1})
            engine.wait()
            engine.submit(1, {"do": "hang"})
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    # The worker has the pipes of the driver, so reading them to their end takes until the worker is gone as well.
    driver = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert driver.returncode == -signal.SIGKILL
