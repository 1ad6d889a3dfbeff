"""One process, or several that torchrun started, each with its share of every batch.

DistributedDataParallel is no use here: it hooks one backward pass that reaches every parameter, and a step has several,
each through other parameters. All processes train the same networks in the same step, so the same parameters have
gradients in all of them, and one exchange after the last pass averages them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import Store  # type: ignore[attr-defined]

from ..training.devices import device_named


@dataclass(frozen=True)
class Processes:
    """Which of how many this one is, and what it trains on."""

    rank: int
    number: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this is the one that speaks and writes."""
        return self.rank == 0

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replaces tensors, of equal shapes in all processes, by their means over the processes."""
        if self.number == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.number
        start = 0
        for tensor in tensors:
            tensor.copy_(flat[start : start + tensor.numel()].view_as(tensor))
            start += tensor.numel()

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        if self.number == 1:
            return flag
        flags = torch.tensor(int(flag), device=self.device)
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        return bool(flags.item())

    def wait(self) -> None:
        """Until all processes have come this far."""
        if self.number > 1:
            dist.barrier()


@contextmanager
def process_group(device: str, store: Store | None = None) -> Iterator[Processes]:
    """Joins the processes that torchrun started, if it did; `store` is where they meet, by default as torchrun says.

    Raises `UserError` for a device that is not there.
    """
    rank, number = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    chosen = device_named(device, local_rank=int(os.environ.get("LOCAL_RANK", "0")), alone=number == 1)
    if number == 1 or dist.is_initialized():
        yield Processes(rank, number, chosen)
        return
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    backend = "nccl" if chosen.type == "cuda" else "gloo"
    if store is None:
        dist.init_process_group(backend)
    else:
        dist.init_process_group(backend, store=store, rank=rank, world_size=number)
    try:
        yield Processes(rank, number, chosen)
    finally:
        dist.destroy_process_group()
