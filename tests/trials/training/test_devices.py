"""Names of devices, and memory that a computing process keeps."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from sret_nas.errors import UserError
from trials.training.devices import device_of

MEMORY_KEPT_AFTER_A_STEP = """
import resource
import torch
from trials.training.devices import compute_with, release_memory

if {keeps}:
    compute_with(1)

def resident_bytes():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()

def step():
    blocks = [torch.ones(2**18) for _ in range(100)]  # of 1 MiB, all there at the same time, as gradients are

before = resident_bytes()
step()
kept = resident_bytes() - before
release_memory()
print(kept, resident_bytes() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep what was freed"
)
def test_what_a_step_freed_stays_with_the_process_until_it_is_released() -> None:
    """Measures resident memory, not page faults, which depend on the system's page size.

    By default, glibc returns memory depending on its heap's layout. Told to map large blocks, it always returns it.
    """
    gives_back = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**17)}
    kept = {}
    for keeps in (False, True):
        command = [sys.executable, "-c", MEMORY_KEPT_AFTER_A_STEP.format(keeps=keeps)]
        said = subprocess.run(command, env=gives_back, stdout=subprocess.PIPE, check=True).stdout.split()
        kept[keeps], released = (int(number) / 2**20 for number in said)
        assert released < 20
    assert kept[True] > 95
    assert kept[False] < 20


@pytest.mark.slow
def test_there_are_no_more_threads_than_cores() -> None:
    """A thousand threads on two cores wait for each other for ever."""
    code = (
        "import torch; from trials.machine import num_cores; from trials.training.devices import compute_with; "
        "compute_with(1024); print(torch.get_num_threads() == num_cores())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "True\n"


@pytest.mark.parametrize("name", ["meta", "mps", "xpu:0", "cpu:1", "cuda:x", "cuda:99999999999", "CPU", ""])
def test_other_names_than_those_of_devices_that_are_used_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=rf"device must be auto, cpu, cuda or cuda:NUMBER, got '{name}'"):
        device_of(name)
    assert device_of("cpu").type == "cpu"
