"""How a machine's cores are shared out."""

from __future__ import annotations

import pytest

from trials import machine
from trials.machine import SPIN_COUNT, cores_per_process, have_threads_wait_briefly


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
