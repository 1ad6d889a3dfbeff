"""What a worker runs on: its processors, its device, the names by which people know it, and its memory."""

from __future__ import annotations

import ctypes
import platform
import resource
import sys

import torch

from sret_nas.errors import UserError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Numbers of glibc's `mallopt`."""


def compute_with(threads: int) -> None:
    """To be called where networks run: torch uses so many threads, and freed memory stays with this process.

    Else glibc gives what a step freed back to the system and asks for it again in the next one, page by page: steps of
    a supernet's training on one thread take 4 to 20 % longer (benchmarks/NOTES.md). The peak is the same.
    """
    torch.set_num_threads(threads)
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(M_MMAP_THRESHOLD, 2**25)  # the most that it takes; data sets are larger


def device_of(name: str) -> torch.device:
    """`auto` is a GPU where there is one. Raises `UserError` for a device that is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device {name} is not there: torch sees {torch.cuda.device_count()} CUDA device(s)")
    return device


def device_name(device: torch.device) -> str:
    """`cpu`, or the GPU's name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def peak_memory_mb(device: torch.device) -> float:
    """Largest resident memory of this process so far; on a GPU, largest memory that torch allocated there."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return kilobytes * 1024 / 1e6


def device_named(name: str, local_rank: int = 0, alone: bool = True) -> torch.device:
    """`auto` is a GPU where there is one, and each of several processes has its own. Raises `UserError`."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"device must be auto, cpu, cuda or cuda:NUMBER, got {name!r}") from None
    if device.type == "cuda" and not alone:
        device = torch.device("cuda", local_rank)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device {device} is not there: torch sees {torch.cuda.device_count()} CUDA device(s)")
    return device
