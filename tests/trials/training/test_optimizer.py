"""The optimiser of short trainings: torch's AdamW, without its compiler."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import AdamW

from trials.training.optimizer import UncompiledAdamW, adamw


def trained(kind: type[AdamW], fused: bool) -> tuple[nn.Module, dict[str, Any]]:
    """Returns a module after a few steps, of which the last follows a change to the loaded state, and the state."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 3))
    groups = [{"params": module[0].parameters(), "weight_decay": 0.3}, {"params": module[1].parameters()}]
    optimizer = kind(groups, lr=0.01, fused=fused)
    for step in range(4):
        optimizer.zero_grad()
        module(torch.randn(4, 5)).square().sum().backward()
        if step == 3:
            state = optimizer.state_dict()
            state["param_groups"][0]["lr"] = 0.5
            optimizer.load_state_dict(state)
        optimizer.step()
    return module, optimizer.state_dict()


@pytest.mark.parametrize("fused", [True, False])
def test_it_makes_the_steps_of_torch_s(fused: bool) -> None:
    (ours, state), (theirs, expected) = trained(UncompiledAdamW, fused), trained(AdamW, fused)
    for value, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(value, other)
    assert state["param_groups"] == expected["param_groups"]
    assert state["state"].keys() == expected["state"].keys()
    for number, moments in state["state"].items():
        assert all(torch.equal(value, expected["state"][number][name]) for name, value in moments.items())


def test_a_step_calls_its_closure_with_gradients_on() -> None:
    weight = nn.Parameter(torch.ones(2))
    optimizer = adamw([{"params": [weight], "weight_decay": 0.0}], 0.01)

    def closure() -> float:
        loss = weight.sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 2.0
    assert torch.allclose(weight, torch.tensor([0.99, 0.99]))
