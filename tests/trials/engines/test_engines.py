"""Conformance tests for engines on this machine, and tests of worker processes. Ray's are in test_ray.py."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import sys
import termios
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import wait
from pathlib import Path

import pytest

from tests import REPOSITORY
from tests.trials.engines.jobs_for_engines import misbehave
from trials.engines.conformance import EngineContract, run_all
from trials.engines.engine import Engine, Outcome
from trials.engines.inline import InlineEngine
from trials.engines.local import LocalEngine, _describe_exit
from trials.engines.results import Failure
from trials.engines.retries import should_retry

SQUARES = [{"do": "square", "value": value} for value in range(4)]


class TestInlineEngine(EngineContract):
    @pytest.fixture
    def engine(self) -> Iterator[Engine]:
        with InlineEngine(misbehave) as engine:
            yield engine


def num_bytes_waiting(descriptor: int) -> int:
    """Returns how much has come through a pipe and was not read yet."""
    (number,) = struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, b"\0" * 4))
    return int(number)


def left_idle(engine: Engine) -> Engine:
    """Returns the engine, once jobs that a test has left behind have ended."""
    while engine.wait():
        pass
    return engine


@pytest.fixture(scope="class")
def local_engine() -> Iterator[Engine]:
    with LocalEngine(misbehave, num_workers=2) as engine:
        yield engine


@pytest.mark.slow
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

    def test_a_job_whose_worker_is_suspended_beyond_its_limit_did_not_time_out(self) -> None:
        """It may be tried again, by a worker that takes the place of the suspended one."""
        with LocalEngine(misbehave, num_workers=1) as engine:
            process = run_all(engine, SQUARES[:1])[0].result["process"]  # type: ignore[index]
            engine.submit(1, {"do": "hang"}, time_limit=1.5)
            os.kill(process, signal.SIGSTOP)
            (outcome,) = engine.wait()
            assert outcome.failure is not None
            assert outcome.failure.cause == "suspended"
            assert outcome.failure.message == "its worker was suspended beyond the 1.5 s that it may take"
            assert should_retry([outcome.failure])
            engine.submit(2, {"do": "hang"}, time_limit=0.5)
            (outcome,) = engine.wait()
            assert outcome.failure is not None
            assert outcome.failure.cause == "timed out"

    def test_a_worker_that_is_killed_in_the_midst_of_its_result_takes_only_its_own_job(self) -> None:
        """A pipe holds a part of a large result; the worker waits to send the rest."""
        with LocalEngine(misbehave, num_workers=1) as engine:
            process = run_all(engine, SQUARES[:1])[0].result["process"]  # type: ignore[index]
            engine.submit(1, {"do": "answer at length", "length": 10_000_000})
            (worker,) = engine._workers
            while num_bytes_waiting(worker.connection.fileno()) < 1000:  # at first the length of the result comes alone
                wait([worker.connection])
            os.kill(process, signal.SIGKILL)
            (outcome,) = engine.wait()
            assert outcome.failure is not None
            assert outcome.failure.cause == "worker died"
            assert run_all(engine, SQUARES[:1])[0].failure is None

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


@pytest.mark.slow
def test_a_worker_that_still_imports_goes_with_its_driver(tmp_path: Path) -> None:
    """Also one whose import holds the interpreter's lock, so that no thread of it can look after the driver."""
    (tmp_path / "slow_import.py").write_text(
        "import ctypes, os\n"
        "def run_job(payload): return payload\n"
        "if 'WORKERS' in os.environ:\n"
        "    os.write(1, b'importing ')\n"
        "    ctypes.PyDLL(None).sleep(300)\n"
    )
    script = textwrap.dedent(
        """
        import os, signal, sys, time
        from slow_import import run_job
        from trials.engines.local import LocalEngine
        os.environ["WORKERS"] = "1"
        reading, writing = os.pipe()
        out = os.dup(1)
        os.dup2(writing, 1)
        engine = LocalEngine(run_job, num_workers=1)
        os.read(reading, 1)
        os.write(out, str(time.monotonic()).encode())
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    path = f"{REPOSITORY}{os.pathsep}{tmp_path}"
    command, environment = [sys.executable, "-c", script], os.environ | {"PYTHONPATH": path}
    # The worker has the driver's standard error, so reading it to its end takes until the worker is gone as well.
    driver = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert driver.returncode == -signal.SIGKILL
    assert time.monotonic() - float(driver.stdout) < 2.0


@pytest.mark.slow
@pytest.mark.parametrize("guard", ["", "if __name__ == '__main__':\n"])
def test_the_driver_s_main_module_is_no_business_of_workers(tmp_path: Path, guard: str) -> None:
    """From standard input there is none that they could import, and a script may do without a guard."""
    script = (
        "from tests.trials.engines.jobs_for_engines import misbehave\n"
        "from trials.engines.local import LocalEngine\n"
        f"{guard or 'if True:'}\n"
        "    with LocalEngine(misbehave, num_workers=1) as engine:\n"
        "        engine.submit(0, {'do': 'square', 'value': 3})\n"
        "        print(engine.wait()[0].result['value'])\n"
    )
    (tmp_path / "script.py").write_text(script)
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    for arguments, text in (["-"], script), ([str(tmp_path / "script.py")], None):
        driver = subprocess.run(
            [sys.executable, *arguments], input=text, env=environment, capture_output=True, text=True, check=False
        )
        assert (driver.stdout, driver.stderr) == ("9\n", "")


@pytest.mark.slow
def test_jobs_defined_on_standard_input_are_refused_in_one_line() -> None:
    script = (
        "from trials.engines.local import LocalEngine\n"
        "def run_job(payload): return payload\n"
        "try:\n"
        "    LocalEngine(run_job, num_workers=1)\n"
        "except Exception as error:\n"
        "    print(error)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    driver = subprocess.run(
        [sys.executable, "-"], input=script, env=environment, capture_output=True, text=True, check=True
    )
    assert driver.stdout == "worker processes cannot import what is defined in a notebook or on standard input\n"


@pytest.mark.parametrize(
    ("exit_code", "name"), [(-signal.SIGTERM, "SIGTERM"), (-signal.SIGRTMIN - 1, f"signal {signal.SIGRTMIN + 1}")]
)
def test_a_signal_without_a_name_is_told_by_its_number(exit_code: int, name: str) -> None:
    assert _describe_exit(exit_code) == f"the worker process was ended by {name}"


def test_engines_that_start_in_threads_leave_the_main_module_as_it_was() -> None:
    """As two searches of one notebook do, whose own classes could not be pickled otherwise."""
    main, barrier = sys.modules["__main__"], threading.Barrier(3)

    def start(_: int) -> None:
        barrier.wait()
        LocalEngine(misbehave, 4).close()

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(start, range(3)))
    assert sys.modules["__main__"] is main
