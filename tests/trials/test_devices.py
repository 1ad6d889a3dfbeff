"""What a process that computes keeps; devices themselves are tested with what uses them."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS_OF_A_SECOND_STEP = """
import resource
import torch
from trials.devices import compute_with

if {keeps}:
    compute_with(1)

def step():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.ones(2**18) for _ in range(100)]  # of 1 MiB, all there at the same time, as gradients are
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

step()
print(step())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep what was freed")
def test_freed_memory_is_not_asked_for_again_page_by_page() -> None:
    """A hundred MiB have 25,600 pages of 4 KiB."""
    faults = {}
    for keeps in (False, True):
        command = [sys.executable, "-c", FAULTS_OF_A_SECOND_STEP.format(keeps=keeps)]
        faults[keeps] = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert faults[True] < 2560
    assert faults[False] > 20_000  # or else there is nothing to gain
