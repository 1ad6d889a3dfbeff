"""AdamW for short trainings, in processes that start a second earlier.

The methods of torch's optimisers are wrapped for `torch.compile`, and their first call imports torch's compiler, which
takes as long as all the rest of torch. Nothing here is compiled, so what is inside the wrappers is called.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import unwrap
from typing import Any

import torch
from torch.optim import AdamW, Optimizer


class UncompiledAdamW(AdamW):
    """Makes the same steps as AdamW, to the last bit, and has the same state."""

    add_param_group = unwrap(Optimizer.add_param_group)
    zero_grad = unwrap(Optimizer.zero_grad)
    state_dict = unwrap(Optimizer.state_dict)
    load_state_dict = unwrap(Optimizer.load_state_dict)
    _step = unwrap(AdamW.step)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        return self._step(closure)


def adamw(groups: list[dict[str, Any]], learning_rate: float) -> AdamW:
    """Returns an optimiser of parameter groups. It is fused: one pass over the parameters instead of a dozen (see
    benchmarks/NOTES.md)."""
    return UncompiledAdamW(groups, lr=learning_rate, fused=True)
