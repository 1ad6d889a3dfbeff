"""What a process that uses the Ray engine shows and leaves behind, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import uuid
from typing import Any

import pytest

from tests import REPOSITORY
from tests.trials.engines.marked_processes import MARK, await_that, processes_with

pytestmark = pytest.mark.slow

DRIVER = """
import json, os, signal, sys
from tests.trials.engines.jobs_for_ray import look_around
from trials.engines.ray import MAX_FALSE_STARTS, RayEngine
from trials.interruption import handle_interruptions

def main():
    handle_interruptions()
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    group = os.getpgrp()
    engine = RayEngine(look_around, num_workers=2)
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert os.getpgrp() == group, "a terminal's Ctrl-C would not arrive any more"
    print("ready", flush=True)
    END

if __name__ == "__main__":
    main()
"""

LOSE_A_WORKER = """\
engine.submit(0, {"do": "kill"})
assert engine.wait()[0].failure.cause == "worker died"
"""

HANG = """\
engine.submit(1, {"do": "hang deaf"})
engine.submit(2, {"do": "hang deaf"})
"""


def start_driver(end: str, mark: str, **options: Any) -> subprocess.Popen[str]:
    """Starts a process that uses an engine and ends in some way, after printing `ready`."""
    script = DRIVER.replace("    END", textwrap.indent(end, "    "))
    # no home: Ray must not want to write there
    environment = {**os.environ, MARK: mark, "HOME": "/dev/null", "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(
        [sys.executable, "-c", script], env=environment, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, **options,
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line == "ready\n", line + process.communicate()[1]
    return process


def test_a_search_sees_nothing_of_ray() -> None:
    """No output, file, signal handler or process of Ray, also when a worker dies.

    It runs in a folder from which the tests cannot be imported.
    """
    mark = uuid.uuid4().hex
    driver = start_driver(
        LOSE_A_WORKER + "print(engine.submit(1, {'do': 'place'}), engine.wait()[0].result['code'])\nengine.close()",
        mark,
    )
    out, err = driver.communicate(timeout=60)
    assert (out, err, driver.returncode) == (f"None {REPOSITORY / 'trials'}\n", "", 0)
    assert processes_with(mark) == []


def test_nothing_outlives_a_killed_driver() -> None:
    mark = uuid.uuid4().hex
    driver = start_driver(HANG + "os.kill(os.getpid(), signal.SIGKILL)", mark)
    driver.communicate(timeout=60)
    assert driver.returncode == -signal.SIGKILL
    await_that(lambda: processes_with(mark) == [], seconds=15)


def test_ctrl_c_twice_ends_everything() -> None:
    """Sent to the whole process group, as by a terminal: while the driver waits, and while it closes the engine."""
    mark = uuid.uuid4().hex
    driver = start_driver(
        HANG + "with engine:\n    print('waiting', flush=True)\n    engine.wait()", mark, process_group=0
    )
    assert driver.stdout is not None
    assert driver.stdout.readline() == "waiting\n"
    os.killpg(driver.pid, signal.SIGINT)
    threading.Event().wait(0.3)
    os.killpg(driver.pid, signal.SIGINT)
    _, err = driver.communicate(timeout=60)
    # Ray may have a last word after it, or instead, where the second one meets it as it has just shut down
    assert "KeyboardInterrupt" in err or "core worker has already been shutdown" in err
    assert driver.returncode in (-signal.SIGINT, 1)
    await_that(lambda: processes_with(mark) == [], seconds=10)


def test_nobody_imports_ray_who_does_not_use_it() -> None:
    """Nor what takes as long, until a search comes to where it is needed."""
    script = "import sys, trials.engines, trials.search.search\nprint({*sys.modules} & {'ray', 'torch', 'scipy.stats'})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
