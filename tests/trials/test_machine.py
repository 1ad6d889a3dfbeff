"""How a machine's cores are shared out, and what the collector of a process spares."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from trials import machine
from trials.machine import (
    MIN_ADDRESS_SPACE,
    SPIN_COUNT,
    cores_per_process,
    have_threads_wait_briefly,
    missing_address_space,
)


@pytest.mark.parametrize(
    ("processes", "threads", "expected"),
    [
        (None, None, 8),
        (None, "3", 3),
        (None, "1", 1),
        (None, "100", 8),
        (None, "", 8),
        (None, "0", 8),
        (None, "4,2", 4),
        (None, "many", 8),
        ("2", None, 4),
        ("2", "1", 4),  # which torchrun sets where nobody has
        ("2", "3", 3),
        ("3", None, 2),
        ("16", None, 1),
    ],
)
def test_the_cores_are_divided_among_the_processes_of_a_machine(
    monkeypatch: pytest.MonkeyPatch, processes: str | None, threads: str | None, expected: int
) -> None:
    monkeypatch.setattr(machine, "num_cores", lambda: 8)
    for name, value in (("LOCAL_WORLD_SIZE", processes), ("OMP_NUM_THREADS", threads)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert cores_per_process() == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"GOMP_SPINCOUNT": SPIN_COUNT}),
        ({"OMP_WAIT_POLICY": "active"}, {"OMP_WAIT_POLICY": "active"}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
    ],
)
def test_threads_wait_as_the_user_says_or_briefly(given: dict[str, str], expected: dict[str, str]) -> None:
    have_threads_wait_briefly(given)
    assert given == expected


@pytest.mark.parametrize(
    ("limit", "is_enough"), [(resource.RLIM_INFINITY, True), (MIN_ADDRESS_SPACE, True), (1, False)]
)
def test_so_little_memory_that_libraries_hang_is_too_little(
    monkeypatch: pytest.MonkeyPatch, limit: int, is_enough: bool
) -> None:
    monkeypatch.setattr(machine.resource, "getrlimit", lambda which: (limit, resource.RLIM_INFINITY))
    assert (missing_address_space() is None) == is_enough


def test_with_too_little_memory_a_command_ends_in_one_line() -> None:
    """With 260 MB, NumPy's import would never come to an end."""
    command = f'ulimit -v 260000; exec "{sys.executable}" -m sret_nas runs list'
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 1
    assert ended.stderr == (
        "error: memory ran out: this process may use 266 MB (ulimit -v), and at least 512 MB are needed to begin with\n"
    )


def test_what_is_imported_at_first_is_spared_by_the_collector() -> None:
    """And nothing that an exception has left: what is garbage before is freed. Once torch is there, nothing changes."""
    code = (
        "import gc, types, weakref; from trials.machine import collector_paused\n"
        "class Cycle: pass\n"
        "garbage = Cycle(); garbage.itself = garbage; dead = weakref.ref(garbage); del garbage\n"
        "with collector_paused():\n    assert not gc.isenabled() and dead() is None\n    import torch\n"
        "spared = gc.get_freeze_count()\n"
        "assert gc.isenabled() and spared > 100_000, spared\n"
        "more = [[] for _ in range(1000)]\n"
        "with collector_paused():\n    assert not gc.isenabled()\n"
        "assert gc.isenabled() and gc.get_freeze_count() == spared\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_a_worker_spares_what_it_imports() -> None:
    """Or its collector would walk through all of torch several times in every job."""
    code = (
        "import gc; from trials.worker.entry import JobRunner\n"
        "try:\n    JobRunner()({})\nexcept Exception:\n    pass\n"
        "assert gc.get_freeze_count() > 200_000, gc.get_freeze_count()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
