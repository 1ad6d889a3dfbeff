"""Residual connections: what each kind computes, and its coefficients by name."""

from __future__ import annotations

import pytest
import torch

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.parts import Residual, StageConfig
from sret_nas.nn.network import SReT
from sret_nas.nn.residual import ResidualModule

torch.set_num_threads(1)


class Two(ResidualModule):
    BRANCHES = ("first", "second")


@pytest.mark.parametrize(
    ("residual", "coefficients", "expected"),
    [("path", [2.0, 3.0, 5.0, 7.0], 5 * 10 + 7 * 1), ("branch", [2.0, 3.0], 10 + 3 * 1), ("plain", [], 10 + 1)],
)
def test_the_second_connection_uses_its_own_coefficients(
    residual: Residual, coefficients: list[float], expected: float
) -> None:
    module = Two(residual)
    assert (0 if module.coefficients is None else len(module.coefficients)) == len(coefficients)
    if module.coefficients is not None:
        module.coefficients.data = torch.tensor(coefficients)
    assert module.add(torch.full((1, 1, 1), 10.0), torch.ones(1, 1, 1), 1, 0.0).item() == expected


@pytest.mark.parametrize("residual", ["path", "branch", "plain"])
def test_a_dropped_branch_leaves_the_tokens_and_a_kept_one_is_scaled(residual: Residual) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        added = Two(residual).add(torch.full((200, 1, 1), 10.0), torch.ones(200, 1, 1), 0, 0.75)
    assert {round(value, 4) for value in added.flatten().tolist()} == {10.0, 14.0}
    assert 0.1 < (added > 12).float().mean() < 0.4


@pytest.mark.parametrize(
    ("residual", "names"),
    [
        ("path", ["attention/identity", "attention/branch", "mlp/identity", "mlp/branch"]),
        ("branch", ["attention/branch", "mlp/branch"]),
        ("plain", []),
    ],
)
def test_coefficients_of_a_network_by_name(residual: Residual, names: list[str]) -> None:
    stage = StageConfig(width=4, heads=1, blocks=2, recursions=1, groups=(1,), mlp_ratio=1.0)
    network = SReT(ArchConfig(stages=(stage,), image_size=16, classes=2, residual=residual))
    block = network.stages[0].blocks[1]  # type: ignore[index]
    if names:
        block.coefficients.data[-1] = 0.25
    found = network.residual_coefficients()
    in_second = [name.removeprefix("stage1/block2/") for name in found if name.startswith("stage1/block2/")]
    assert in_second == names + [f"nll1/{name}" for name in names if name.startswith("mlp")]
    assert all(value == (0.25 if name == "stage1/block2/mlp/branch" else 1.0) for name, value in found.items())
