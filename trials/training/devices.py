"""The device of a process: CPU threads and allocator, choice of device, its name, and its peak memory."""

from __future__ import annotations

import ctypes
import gc
import platform
import re
import resource
import sys

import torch

from sret_nas.errors import UserError
from sret_nas.plurals import counted

from ..machine import memory_bytes, num_cores

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's `mallopt`."""


def compute_with(threads: int) -> None:
    """Prepares a process for running networks: sets torch's threads, and keeps freed memory in the process.

    By default, glibc returns the memory that a step frees to the system, and the next step gets it again page by page.
    Steps of a supernet's training on one thread then take 4 to 20 % longer (benchmarks/NOTES.md). The peak is the same.
    """
    torch.set_num_threads(min(threads, num_cores()))  # far more than cores never come to an end
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(M_MMAP_THRESHOLD, 2**25)  # the largest value it accepts; data sets are larger


def release_memory() -> None:
    """Gives the freed memory that `compute_with` keeps back to the system, before the process idles."""
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def device_memory(device: torch.device) -> int:
    """Returns the bytes of all memory of a device."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else memory_bytes()


def device_of(name: str, local_rank: int = 0, alone: bool = True) -> torch.device:
    """Returns the device of a process; `auto` is a GPU if there is one.

    Args:
        name: `auto`, or torch's name of the CPU or a GPU.
        local_rank: the process's rank on this machine. Each of several processes uses the GPU of that index.
        alone: whether it is the only process, whose GPU is then the one that `name` says.

    Raises `UserError` for another name, or a device that does not exist.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    refused = UserError(f"device must be auto, cpu, cuda or cuda:NUMBER, got {name!r}")
    if not re.fullmatch(r"cpu|cuda(:[0-9]+)?", name):
        raise refused
    try:
        device = torch.device(name)
    except RuntimeError:  # a number that is too large
        raise refused from None
    if device.type == "cuda" and not alone:
        device = torch.device("cuda", local_rank)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device {device} is not there: torch sees {counted(torch.cuda.device_count(), 'CUDA device')}")
    return device


def device_name(device: torch.device) -> str:
    """Returns `cpu`, or the GPU's name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def peak_memory_mb(device: torch.device) -> float:
    """Returns the peak memory in MB (10^6 bytes): resident memory of this process, or on a GPU, torch's allocations."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    # Linux reports KiB, macOS bytes.
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return kibibytes * 1024 / 1e6
