"""The shared weights of a supernet, and how a narrower network's channels spread over a wider one's."""

from __future__ import annotations

from itertools import pairwise, product
from math import gcd, prod

import numpy as np
import torch
from torch import nn

from sret_nas.arch.parts import Residual, StemNorm
from sret_nas.arrays import IntArray
from sret_nas.errors import UserError
from sret_nas.nn.layers import NLL, Block
from sret_nas.nn.stem import PatchStem, Stem
from sret_nas.nn.weight_shapes import Shapes
from sret_nas.space.supernet_shape import StageShape, SupernetShape

MAX_PAIRS, PAIRS_PER_LOOP = 200_000_000, 1_000
"""Limits on the pooling filters of a supernet in a file: the sum over all pairs of widths, with shared filters counted
for each pair; and what a pair adds to that sum for the time of its own loop."""


class StemWeights(nn.Module):
    """The weights of a supernet's stems: convolutions, which share a scale and shift whatever the norm, and patches."""

    def __init__(self, shape: SupernetShape) -> None:
        super().__init__()
        width = shape.stages[0].width
        if "conv" in shape.stem_kind:
            norm: StemNorm = "layer" if shape.has_stem_norms else "none"  # the weights of a BatchNorm are alike
            stem = Stem(shape.channels, shape.stem_width, width, shape.strides, norm)
            self.convs, self.norms = stem.convs, stem.norms
        if "patch" in shape.stem_kind:
            self.proj = PatchStem(shape.channels, width, prod(shape.strides)).proj


class StageWeights(nn.Module):
    """The shared blocks of one stage, and for each block an NLL per recursion after which some network has one."""

    def __init__(self, shape: StageShape, residual: Residual) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(shape.width, 1, shape.mlp_hidden, residual) for _ in range(shape.blocks))
        self.nlls = nn.ModuleList(
            nn.ModuleDict(
                {str(recursion): NLL(shape.width, shape.nll_hidden, residual) for recursion in shape.nll_recursions}
            )
            for _ in range(shape.blocks)
        )


class ClassTokenWeights(nn.Module):
    """The class tokens of the widest network and their positions, (tokens, D) each; see `ClassTokens`."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.zeros(count, width))
        self.position = nn.Parameter(torch.zeros(count, width))


class PoolWeights(nn.Module):
    """The pooling between two stages: one 3x3 filter per (output channel, input channel) that some network connects.

    A network's pooling is a convolution in gcd(before, after) groups, so each pair of widths connects other channels.
    Networks share the filters of the channel pairs that they have in common.
    """

    def __init__(self, before: tuple[int, ...], after: tuple[int, ...]) -> None:
        super().__init__()
        self.widths = before[-1], after[-1]
        self.pairs = connected_pairs(before, after)
        self.weight = nn.Parameter(torch.empty(len(self.pairs), 3, 3))
        self.bias = nn.Parameter(torch.zeros(after[-1]))
        fan_in = 9 * (before[-1] // gcd(*self.widths))
        nn.init.normal_(self.weight, std=fan_in**-0.5)  # keeps the variance of the input (He et al., 2015)

    def rows(self, before: int, after: int) -> IntArray:
        """Returns the rows of the weight used by a network with these widths, in the order of the network's filters."""
        pairs = _pairs_of(before, after, self.widths)
        rows = np.searchsorted(self.pairs, pairs)
        assert np.array_equal(self.pairs[rows], pairs), (before, after)
        return rows


def connected_pairs(before: tuple[int, ...], after: tuple[int, ...]) -> IntArray:
    """Returns the channel pairs that some network with these widths connects, ascending, numbered as in `_pairs_of`."""
    is_connected = np.zeros(before[-1] * after[-1], dtype=bool)
    for widths in product(before, after):
        is_connected[_pairs_of(*widths, (before[-1], after[-1]))] = True
    return np.flatnonzero(is_connected)


def _pairs_of(before: int, after: int, widest: tuple[int, int]) -> IntArray:
    """Returns the channel pairs that a network's pooling connects, in the order of the network's filters.

    Args:
        before: the network's width before the pooling.
        after: its width after the pooling.
        widest: the largest widths before and after. A pair is numbered `output * widest[0] + input`, with channels
            of these widths.
    """
    groups = gcd(before, after)
    outputs = spread(after, widest[1]).reshape(groups, -1, 1)
    inputs = spread(before, widest[0]).reshape(groups, 1, -1)
    return (outputs * widest[0] + inputs).ravel()


def pool_shapes(shape: SupernetShape, source: str) -> Shapes:
    """Yields the names and shapes of all pooling filters in `Supernet(shape).state_dict()`.

    Raises `UserError` for a shape with so many widths that counting the filters would take long.
    """
    total = 0
    for index, (before, after) in enumerate(pairwise(shape.stages)):
        widths = np.array(before.widths)[:, None], np.array(after.widths)[None, :]
        total += int((widths[0] * widths[1] // np.gcd(*widths) + PAIRS_PER_LOOP).sum())
        if total > MAX_PAIRS:
            raise UserError(
                f"{source}: {len(before.widths):,} and {len(after.widths):,} widths of stages[{index}] and "
                f"stages[{index + 1}] are too many: poolings between them have {total:,} filters, and at most "
                f"{MAX_PAIRS:,} are possible"
            )
        yield f"pools.{index}.weight", (len(connected_pairs(before.widths, after.widths)), 3, 3)


def spread(count: int, size: int) -> IntArray:
    """Returns `count` evenly spread indices below `size`, (count,).

    The rows of a qkv projection are three equal parts, one below the other. Spreading over all of them spreads each
    part in the same way, so that queries, keys and values need no treatment of their own.
    """
    assert count <= size, (count, size)
    return np.arange(count) * size // count
