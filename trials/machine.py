"""Properties of this machine: its cores, its processor and its memory; and of this process: its collector."""

from __future__ import annotations

import gc
import os
import platform
import resource
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path

SPIN_COUNT = "10000"
"""Rounds of a loop in which a thread of GNU's OpenMP waits before it sleeps; 300,000 by default."""

MIN_ADDRESS_SPACE = 512 * 10**6
"""Least bytes of addresses with which libraries load, or fail in an error that can be shown."""


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pauses Python's collector of cycles while large libraries are imported, and spares it what they made ever after.

    Imports make no cycles to collect. The collector would walk through all modules again and again: during the imports,
    and at every later full collection, of which a short training alone has several.

    A program that has imported torch already has little left to import, and nothing is spared.
    """
    is_first, was_enabled = "torch" not in sys.modules, gc.isenabled()
    if is_first:
        gc.collect()  # or garbage would stay for ever
    gc.disable()
    try:
        yield
    finally:
        if is_first:
            gc.freeze()
        if was_enabled:
            gc.enable()


def num_cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cores_per_process() -> int:
    """Returns the number of cores of each of the processes that torchrun started on this machine, or of this one alone.

    `OMP_NUM_THREADS` goes before that, as everywhere. But where there are several processes, a 1 does not: torchrun
    sets it by itself if nobody has, and then all other cores would be idle.
    """
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # a list has one number per nested level
    if asked.isascii() and asked.isdigit() and int(asked) >= 1 and (processes == 1 or int(asked) > 1):
        return min(int(asked), num_cores())
    return max(1, num_cores() // processes)


def have_threads_wait_briefly(environment: MutableMapping[str, str]) -> None:
    """Lets OpenMP's threads wait for each other for some 10 µs before they sleep, unless a user has decided otherwise.

    By default they spin for milliseconds. Beside other work, a thread then spins on the core that the thread which it
    waits for should have, and training may come to a halt. Sleeping at once (`OMP_WAIT_POLICY=passive`) makes two
    threads slower than one on small networks (benchmarks/threads.py).

    Takes effect in a process that has not loaded torch yet, and in those that it starts.

    Args:
        environment: Of the process; changed.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & environment.keys():
        environment["GOMP_SPINCOUNT"] = SPIN_COUNT


def memory_bytes(limit: Path = Path("/sys/fs/cgroup/memory.max")) -> int:
    """Returns the bytes of memory of this machine, or of the container in which the process runs, if it has less.

    Args:
        limit: The file in which Linux says how much a container may use; `max` means all of it.
    """
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    allowed = limit.read_text(encoding="ascii").strip() if limit.is_file() else "max"
    return min(physical, int(allowed)) if allowed.isdigit() else physical


def missing_address_space() -> str | None:
    """Returns what is wrong if this process may use too little memory to load the libraries; None if it may.

    With less, some of them neither load nor fail: OpenBLAS asks for memory again and again.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY or limit >= MIN_ADDRESS_SPACE:
        return None
    return (
        f"memory ran out: this process may use {limit / 1e6:,.0f} MB (ulimit -v), and at least "
        f"{MIN_ADDRESS_SPACE / 1e6:,.0f} MB are needed to begin with"
    )


def processor_name() -> str:
    """Returns the CPU's name as the system reports it."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
