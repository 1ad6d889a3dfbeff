"""Measures the speed of a built network: latency of one image, throughput of a batch."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sret_nas.nn.network import SReT


@dataclass(frozen=True)
class Speed:
    """Medians over `repeats` timed passes on `device`, in evaluation mode."""

    latency_ms: float
    """Of one image alone."""
    images_per_s: float
    """In batches of `batch_size`."""
    batch_size: int
    image_size: int
    repeats: int
    device: str
    num_threads: int


def measure_speed(
    network: SReT, *, batch_size: int = 16, repeats: int = 20, warmup: int = 3, max_seconds: float = 10.0
) -> Speed:
    """Measures the latency of one image and the throughput of a batch, on the network's device.

    Each is the median of `repeats` passes after `warmup` untimed ones. Timing stops early after `max_seconds`, but not
    before three passes. Leaves the network's modes and torch's generators unchanged.
    """
    if batch_size < 1 or repeats < 1:
        raise ValueError(f"batch_size and repeats must be at least 1, got {batch_size=}, {repeats=}")
    arch, device = network.arch, network.pos_embed.device
    noise = torch.randn(batch_size, arch.channels, arch.image_size, arch.image_size, generator=torch.Generator())
    images = noise.to(device, network.pos_embed.dtype)
    with evaluation_mode(network), torch.inference_mode():
        one = time_passes(lambda: network(images[:1]), device, repeats, warmup, max_seconds)
        batch = time_passes(lambda: network(images), device, repeats, warmup, max_seconds)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return Speed(
        latency_ms=1e3 * statistics.median(one),
        images_per_s=batch_size / statistics.median(batch),
        batch_size=batch_size,
        image_size=arch.image_size,
        repeats=min(len(one), len(batch)),
        device=name,
        num_threads=torch.get_num_threads(),
    )


def time_passes(
    run: Callable[[], Tensor], device: torch.device, repeats: int, warmup: int, max_seconds: float
) -> list[float]:
    """Runs `warmup` untimed passes, then returns the seconds of each timed one."""
    for _ in range(warmup):
        run()
    seconds: list[float] = []
    while len(seconds) < repeats and (len(seconds) < 3 or sum(seconds) < max_seconds):
        _wait_for(device)
        start = time.perf_counter()
        run()
        _wait_for(device)
        seconds.append(time.perf_counter() - start)
    return seconds


def _wait_for(device: torch.device) -> None:
    """Waits until the device has finished all queued work. The CPU runs synchronously, so it has none."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Puts a network into evaluation mode, and afterwards every module back into its own mode."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
