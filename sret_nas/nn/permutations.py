"""The orders in which evaluation slices tokens: fixed, a function of their place in the network alone."""

from __future__ import annotations

import random
from functools import lru_cache

import torch
from torch import Tensor

from sret_nas.arch.config import ArchConfig
from sret_nas.errors import UserError

MAX_PERMUTED = 2_000_000
"""Entries of all permutations of a loaded network together, unless it has more weights. A million takes a second."""


@lru_cache(maxsize=256)  # sorting by Python's generator takes milliseconds per permutation
def fixed_permutation(num_tokens: int, stage: int, block: int, recursion: int) -> tuple[int, ...]:
    """Returns the order in which evaluation slices the tokens, a function of its arguments alone.

    The order is part of a trained network, so it must never change. It does not depend on the number of recursions,
    on torch, or on any generator's state. It uses only what Python guarantees to stay the same between versions:
    seeding by text, and `random()` (not `shuffle`).
    """
    rng = random.Random(f"{num_tokens} {stage} {block} {recursion}")
    return tuple(sorted(range(num_tokens), key=lambda _: rng.random()))


def permutation_pair(order: Tensor) -> Tensor:
    """Stacks a permutation (N,) and its inverse into (2, N)."""
    return torch.stack((order, order.argsort()))


class FixedPermutations:
    """A cache of fixed permutations, as tensors with their inverses, for owners that build many networks."""

    def __init__(self) -> None:
        self._tensors: dict[tuple[torch.device, int, int, int, int], Tensor] = {}

    @torch.inference_mode(False)
    def on(self, device: torch.device, num_tokens: int, stage: int, block: int, recursion: int) -> Tensor:
        """Returns a permutation and its inverse (2, N).

        Inference mode is off here, because autograd refuses inference tensors: one that was first asked for in
        evaluation could not be used in training.
        """
        key = device, num_tokens, stage, block, recursion
        if key not in self._tensors:
            order = fixed_permutation(num_tokens, stage, block, recursion)
            self._tensors[key] = permutation_pair(torch.tensor(order, device=device))
        return self._tensors[key]


def check_permutations(arch: ArchConfig, num_weights: int, source: str) -> None:
    """Raises `UserError` for an architecture whose permutations have far more entries than the network has weights.

    No such network is ever trained, but a short header could describe one and keep `load` busy.
    """
    total = 0
    for index, (stage, tokens) in enumerate(zip(arch.stages, arch.num_tokens, strict=True)):
        permuting = sum(stage.permutes(recursion, tokens) for recursion in range(stage.recursions))
        total += permuting * stage.blocks * tokens
        if total > max(MAX_PERMUTED, num_weights):
            raise UserError(
                f"{source}: stages[{index}] permutes {tokens:,} tokens in {permuting * stage.blocks:,} places, which "
                f"makes {total:,} numbers for {num_weights:,} weights: at most {MAX_PERMUTED:,} are made"
            )
