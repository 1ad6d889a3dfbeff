"""One file of weights, several operating points: a network run with fewer recursions per stage than it has."""

from __future__ import annotations

from collections.abc import Collection
from itertools import product

from torch import Tensor

from sret_nas.arch.config import ArchConfig
from sret_nas.nn.network import SReT

Depth = tuple[int, ...]
"""Recursions of each stage."""


def full_depth(arch: ArchConfig) -> Depth:
    """Returns the recursions that the network has."""
    return tuple(stage.recursions for stage in arch.stages)


def num_depths(arch: ArchConfig) -> int:
    """Returns the number of depths of `all_depths`."""
    count = 1
    for recursions in full_depth(arch):
        count *= recursions
    return count


def all_depths(arch: ArchConfig) -> list[Depth]:
    """Returns every combination of recursions per stage, the shallowest first, the full depth last."""
    return list(product(*(range(1, recursions + 1) for recursions in full_depth(arch))))


def equal_depths(arch: ArchConfig) -> list[Depth]:
    """Returns the depths of an equal limit in all stages, the shallowest first, the full depth last."""
    return [full_depth(arch.with_max_recursions(limit)) for limit in range(1, arch.max_recursions + 1)]


def logits_at_depths(network: SReT, images: Tensor, depths: Collection[Depth]) -> dict[Depth, Tensor]:
    """Maps images (B, channels, H, W) to logits (B, classes) at each depth, as `network(images, depth)` does.

    Depths that begin with the same recursions share their passes through the first stages: all eight depths of three
    stages with two recursions each take little more than half the time of eight passes.
    """
    logits: dict[Depth, Tensor] = {}

    def run(features: Tensor, begun: Depth) -> None:
        stage = len(begun)
        if stage == len(network.arch.stages):
            logits[begun] = network.classify(features)
            return
        for recursions in sorted({depth[stage] for depth in depths if depth[:stage] == begun}):
            run(network.run_stage(stage, features, recursions), (*begun, recursions))

    run(network.embed(images), ())
    return logits
