"""The processes of a data-parallel training: one, or several started by torchrun, each with a share of every batch.

DistributedDataParallel does not fit: it expects one backward pass that reaches every parameter, but a step has several,
each through different parameters. All processes train the same networks in the same step, so the same parameters have
gradients in all of them. One all-reduce after the last pass averages them.
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

from ..training.devices import device_of


@dataclass(frozen=True)
class Processes:
    """The rank of this process, the number of processes, and the device of this one.

    Methods that all processes must call raise `ConnectionError` if another process has ended.
    """

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that prints and writes files."""
        return self.rank == 0

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replaces tensors by their means over all processes. Shapes must be the same in all of them."""
        if self.world_size == 1:
            return
        # One exchange of all tensors: for many small ones, latency would dominate.
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with _peers_alive():
            dist.all_reduce(flat)
        flat /= self.world_size
        start = 0
        for tensor in tensors:
            tensor.copy_(flat[start : start + tensor.numel()].view_as(tensor))
            start += tensor.numel()

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Replaces tensors by those of the first process. Shapes and types must be the same in all of them."""
        if self.world_size == 1:
            return
        with _peers_alive():
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def any(self, flag: bool) -> bool:
        """Returns whether the flag is set in any process. All processes must call this, and get the same answer."""
        if self.world_size == 1:
            return flag
        flags = torch.tensor(int(flag), device=self.device)
        with _peers_alive():
            dist.all_reduce(flags, dist.ReduceOp.MAX)
        return bool(flags.item())

    def wait(self) -> None:
        """Waits until all processes have called this."""
        if self.world_size > 1:
            with _peers_alive():
                dist.barrier()


@contextmanager
def _peers_alive() -> Iterator[None]:
    """Turns the error of a collective operation into a `ConnectionError`, since another process of it has ended."""
    try:
        yield
    except RuntimeError as error:
        raise ConnectionError("another process of this training has ended: its message says why") from error


@contextmanager
def process_group(device: str, store: Store | None = None) -> Iterator[Processes]:
    """Joins the process group given by `RANK`, `WORLD_SIZE` and `LOCAL_RANK`, and leaves it at the end.

    Without these variables, which torchrun sets, there is one process and no group. A group that is already joined is
    used, and left to whoever joined it.

    Args:
        device: torch's name of a device, or `auto`.
        store: the key-value store through which the processes find each other; None means torchrun's.

    Raises `UserError` for a device that does not exist.
    """
    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    chosen = device_of(device, local_rank=int(os.environ.get("LOCAL_RANK", "0")), alone=world_size == 1)
    if world_size == 1 or dist.is_initialized():
        yield Processes(rank, world_size, chosen)
        return
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    backend = "nccl" if chosen.type == "cuda" else "gloo"
    if store is None:
        dist.init_process_group(backend)
    else:
        dist.init_process_group(backend, store=store, rank=rank, world_size=world_size)
    try:
        yield Processes(rank, world_size, chosen)
    finally:
        dist.destroy_process_group()
