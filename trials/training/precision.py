"""The precision of passes: which one `auto` means on a device, and the context in which they run.

The choice is made once for a search or a training, where its jobs run, and is recorded with it. It depends on the
device alone, not on a timing, so that the same command gives the same result on the same machine every time.
"""

from __future__ import annotations

import torch

from sret_nas.nn.compute import multiplies_bf16

from .recipe import Precision, RequestedPrecision


def choose_precision(requested: RequestedPrecision, device: torch.device) -> Precision:
    """Returns the precision to compute in on a device: what was requested, or bf16 where the device multiplies it.

    `benchmarks/speed` measures what bf16 gains on a CPU and what it changes in errors.
    """
    if requested == "auto":
        return "bf16" if multiplies_bf16(device) else "fp32"
    return requested


def passes_in(precision: Precision, device: torch.device) -> torch.autocast:
    """Returns the context of a forward pass; a backward pass follows its precision and stays outside."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
