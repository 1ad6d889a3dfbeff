"""Residual connections: what a block or an NLL adds to its tokens, and with which learnable coefficients."""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor, nn

from sret_nas.arch.parts import COEFFICIENTS, Residual

PATHS: dict[Residual, tuple[str, ...]] = {"path": ("identity", "branch"), "branch": ("branch",), "plain": ()}
"""What each coefficient of a connection weighs, in the order of the coefficients."""

assert all(len(PATHS[residual]) == COEFFICIENTS[residual] for residual in get_args(Residual))


class ResidualModule(nn.Module):
    """The base of modules with `BRANCHES` residual connections, in the order in which they run.

    `coefficients` holds those of all connections, one after the other, which start at 1. A plain connection has none.
    """

    BRANCHES: tuple[str, ...] = ()
    """Names of the connections, for people."""

    coefficients: nn.Parameter | None

    def __init__(self, residual: Residual) -> None:
        super().__init__()
        self.residual = residual
        count = len(self.BRANCHES) * COEFFICIENTS[residual]
        self.coefficients = nn.Parameter(torch.ones(count)) if count else None

    def add(self, tokens: Tensor, branch: Tensor, index: int, drop_path: float) -> Tensor:
        """Adds the output of connection number `index` to the tokens, (B, N, D) each.

        `drop_path` is the rate at which a sample's branch is dropped.
        """
        count = COEFFICIENTS[self.residual]
        if self.coefficients is None:
            return plain_residual(tokens, branch, drop_path)
        weights = self.coefficients[index * count : (index + 1) * count]
        add = weighted_residual if count == 2 else weighted_branch
        return add(tokens, branch, weights, drop_path)

    def named_coefficients(self) -> dict[str, float]:
        """Returns the coefficients by connection and path, e.g. `attention/identity`."""
        if self.coefficients is None:
            return {}
        names = [f"{branch}/{path}" for branch in self.BRANCHES for path in PATHS[self.residual]]
        return dict(zip(names, self.coefficients.tolist(), strict=True))


def weighted_residual(tokens: Tensor, branch: Tensor, weights: Tensor, drop_path: float) -> Tensor:
    """Returns `weights[0] * tokens + weights[1] * branch`, (B, N, D), dropping each sample's branch at a given rate.

    Stochastic depth (Huang et al., 2016): branches that are kept are scaled by 1 / (1 - rate), so that the expectation
    does not depend on the rate.
    """
    identity_weight, branch_weight = torch.split(weights, 1)
    if drop_path > 0:
        branch_weight = branch_weight * _kept(tokens, drop_path)
    return torch.addcmul(identity_weight * tokens, branch_weight, branch)


def weighted_branch(tokens: Tensor, branch: Tensor, weight: Tensor, drop_path: float) -> Tensor:
    """Returns `tokens + weight * branch`, (B, N, D), with branches dropped as by `weighted_residual`."""
    if drop_path > 0:
        weight = weight * _kept(tokens, drop_path)
    return torch.addcmul(tokens, weight, branch)


def plain_residual(tokens: Tensor, branch: Tensor, drop_path: float) -> Tensor:
    """Returns `tokens + branch`, (B, N, D), with branches dropped as by `weighted_residual`."""
    return torch.addcmul(tokens, _kept(tokens, drop_path), branch) if drop_path > 0 else tokens + branch


def _kept(tokens: Tensor, drop_path: float) -> Tensor:
    """Draws a factor for each sample's branch, (B, 1, 1): 0 at the given rate, 1 / (1 - rate) otherwise."""
    return tokens.new_empty((tokens.shape[0], 1, 1)).bernoulli_(1 - drop_path) / (1 - drop_path)
