"""Costs of architectures in closed form: parameters, and FLOPs exactly as fvcore counts them.

FLOPs are multiply-adds for one image. fvcore 0.1.5 counts convolutions and linear layers without their biases, both
attention products, 5 per element for a LayerNorm, 2 per element for a BatchNorm in evaluation, 1 per input element for
average pooling, and nothing for activations, additions and the residual coefficients. `sret_nas.nn.flops` traces the
built network with fvcore, with a handler for fused attention; tests check that both counts are equal.

The formulas take integers or numpy arrays of them (`Count`), so the same code costs one architecture or a million.
Symbols: N tokens, D width, B blocks, R recursions, G slices, K NLLs per block.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd, prod
from typing import Any, NamedTuple

import numpy as np

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.parts import CLASS_TOKENS, COEFFICIENTS, Head, StageConfig, StemKind, StemNorm
from sret_nas.arch.sizes import strided
from sret_nas.arrays import IntArray
from sret_nas.errors import UserError, describe

Count = Any
"""An `int`, or an int64 array that broadcasts with the other arguments."""

OPERATORS = ("conv", "linear", "matmul", "layer_norm", "batch_norm", "adaptive_avg_pool2d")
"""The operators that cost FLOPs, by fvcore's names; `matmul` covers the two attention products."""


class PartCost(NamedTuple):
    """Cost of one part of a network: parameters, and FLOPs by operator."""

    params: Count
    conv: Count = 0
    linear: Count = 0
    matmul: Count = 0
    layer_norm: Count = 0
    batch_norm: Count = 0
    adaptive_avg_pool2d: Count = 0

    @property
    def flops(self) -> Count:
        """FLOPs of all operators."""
        _, *flops = self
        return sum(flops)


def attended_pairs(tokens: Count, groups: Count) -> Count:
    """Counts the query-key pairs of one sliced attention: the sum of the squared lengths of its slices.

    N tokens are cut into G slices whose lengths differ by at most one: the first N mod G slices are one token longer.
    The sum is the paper's N^2 / G if G divides N. If G exceeds N, every token is a slice of its own.
    """
    length, longer = tokens // groups, tokens % groups
    return longer * (length + 1) ** 2 + (groups - longer) * length**2


def stage_cost(
    tokens: Count, width: Count, blocks: Count, recursions: Count, pairs: Count,
    mlp_hidden: Count, num_nlls: Count, nll_hidden: Count, coefficients: Count = 2,
) -> PartCost:  # fmt: skip
    """Returns the cost of one stage.

    Args:
        tokens: Tokens that the stage sees (N).
        width: Channels of a token (D).
        blocks: Distinct blocks (B).
        recursions: Applications of each block (R).
        pairs: Sum of `attended_pairs` over the recursions of one block.
        mlp_hidden: Hidden width of the MLPs.
        num_nlls: NLLs per block (K).
        nll_hidden: Hidden width of the NLLs.
        coefficients: Coefficients of each residual connection (`COEFFICIENTS`).
    """
    # attention (qkv and projection), MLP, two LayerNorms, and two residual connections
    block_params = 4 * width**2 + 4 * width + 2 * width * mlp_hidden + mlp_hidden + width + 4 * width + 2 * coefficients
    # MLP, LayerNorm, and one residual connection
    nll_params = 2 * width * nll_hidden + nll_hidden + width + 2 * width + coefficients
    block_linear = tokens * recursions * (4 * width**2 + 2 * width * mlp_hidden)
    nll_linear = tokens * num_nlls * 2 * width * nll_hidden
    return PartCost(
        params=blocks * (block_params + num_nlls * nll_params),
        linear=blocks * (block_linear + nll_linear),
        matmul=blocks * 2 * width * pairs,
        layer_norm=blocks * 5 * tokens * width * (2 * recursions + num_nlls),
    )


def stem_cost(
    image_size: int, channels: int, stem_width: Count, strides: tuple[int, ...], width: Count,
    kind: StemKind = "conv", norm: StemNorm = "batch",
) -> PartCost:  # fmt: skip
    """Returns the cost of the stem, and of the position embedding (parameters only)."""
    if kind == "patch":
        return _patch_cost(image_size, channels, prod(strides), width)
    conv = normed = params = 0
    side, inputs = image_size, channels
    for outputs, stride in zip((stem_width, width, width), strides, strict=True):
        side = strided(side, stride)
        weights = 9 * inputs * outputs
        conv = conv + weights * side**2
        normed = normed + outputs * side**2
        params = params + weights + outputs + (0 if norm == "none" else 2 * outputs)
        inputs = outputs
    params = params + width * side**2
    batch_norm, layer_norm = (2 * normed if norm == "batch" else 0), (5 * normed if norm == "layer" else 0)
    return PartCost(params=params, conv=conv, batch_norm=batch_norm, layer_norm=layer_norm)


def _patch_cost(image_size: int, channels: int, patch: int, width: Count) -> PartCost:
    """Returns the cost of an embedding of patches of `patch` pixels a side, and of the position embedding."""
    tokens, weights = strided(image_size, patch) ** 2, patch**2 * channels * width
    return PartCost(params=weights + width + width * tokens, conv=weights * tokens)


def pool_cost(tokens: int, width_in: Count, width_out: Count) -> PartCost:
    """Returns the cost of a pooling: a 3x3 stride-2 convolution with gcd(D_in, D_out) groups.

    `tokens` is the number of tokens after it.
    """
    is_scalar = isinstance(width_in, int) and isinstance(width_out, int)
    weights = 9 * width_out * (width_in // (gcd(width_in, width_out) if is_scalar else np.gcd(width_in, width_out)))
    return PartCost(params=weights + width_out, conv=weights * tokens)


def head_cost(tokens: int, width: Count, classes: int, head: Head = "average") -> PartCost:
    """Returns the cost of the average pooling over all tokens, the LayerNorm, and the classifier.

    A class token owns its embedding and its position, sees a LayerNorm and has a classifier of its own.
    """
    if head != "average":
        seen = CLASS_TOKENS[head]
        return PartCost(
            params=seen * (2 * width + width * classes + classes) + 2 * width,
            linear=seen * width * classes,
            layer_norm=seen * 5 * width,
        )
    return PartCost(
        params=2 * width + width * classes + classes,
        linear=width * classes,
        layer_norm=5 * width,
        adaptive_avg_pool2d=tokens * width,
    )


@dataclass(frozen=True)
class Cost:
    """Cost of one architecture, part by part: `stem`, `stage 1`, `pool 1`, `stage 2`, ..., `head`."""

    image_size: int
    classes: int
    parts: dict[str, PartCost]

    @property
    def params(self) -> int:
        """Parameters of all parts."""
        return sum(part_cost.params for part_cost in self.parts.values())

    @property
    def flops(self) -> int:
        """FLOPs of all parts."""
        return sum(part_cost.flops for part_cost in self.parts.values())

    def flops_by_operator(self) -> dict[str, int]:
        """Sums the FLOPs of each operator over all parts."""
        return {name: sum(getattr(part_cost, name) for part_cost in self.parts.values()) for name in OPERATORS}

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for a YAML file, including the convention of counting."""
        return {
            "flops": self.flops,
            "params": self.params,
            "convention": "multiply-adds for one image, as fvcore counts them",
            "image_size": self.image_size,
            "classes": self.classes,
            "by_part": {
                name: {"flops": part_cost.flops, "params": part_cost.params} for name, part_cost in self.parts.items()
            },
            "flops_by_operator": self.flops_by_operator(),
        }


def _cost_of_stage(stage: StageConfig, tokens: int, coefficients: int) -> PartCost:
    """Returns the cost of one stage that sees `tokens` tokens."""
    pairs = sum(attended_pairs(tokens, groups) for groups in stage.groups[: stage.recursions])
    return stage_cost(
        tokens, stage.width, stage.blocks, stage.recursions, pairs, stage.mlp_hidden, stage.num_nlls, stage.nll_hidden,
        coefficients,
    )  # fmt: skip


def cost_of(arch: ArchConfig) -> Cost:
    """Returns the cost of one architecture, without building it. Raises `UserError` for anything else."""
    if not isinstance(arch, ArchConfig):
        raise UserError(
            f"cost_of takes an ArchConfig, got {describe(arch)}: preset(NAME) and ArchConfig.from_yaml return one, and "
            "a network has it as `network.arch`"
        )
    num_tokens, stages, stem = arch.num_tokens, arch.stages, arch.stem
    parts = {
        "stem": stem_cost(
            arch.image_size, arch.channels, stem.width, stem.strides, stages[0].width, stem.kind, stem.norm
        )
    }
    for stage_number, (stage, tokens) in enumerate(zip(stages, arch.attended_tokens, strict=True), start=1):
        parts[f"stage {stage_number}"] = _cost_of_stage(stage, tokens, COEFFICIENTS[arch.residual])
        if stage_number < len(stages):
            parts[f"pool {stage_number}"] = pool_cost(num_tokens[stage_number], stage.width, stages[stage_number].width)
    parts["head"] = head_cost(num_tokens[-1], stages[-1].width, arch.classes, arch.head)
    return Cost(arch.image_size, arch.classes, parts)


def bounded_costs(arch: ArchConfig) -> tuple[int, int, int]:
    """Returns what a `Budget` bounds: FLOPs, parameters, and FLOPs at the shallowest depth."""
    cost = cost_of(arch)
    return cost.flops, cost.params, cost_of(arch.with_max_recursions(1)).flops


@dataclass(frozen=True, kw_only=True)
class StageColumns:
    """Many stages as columns: int64 arrays of shape (n,), and `groups` of shape (n, most recursions).

    Entries of `groups` beyond a row's `recursions` have no effect and may be any positive number.
    """

    width: IntArray
    blocks: IntArray
    recursions: IntArray
    groups: IntArray
    mlp_hidden: IntArray
    num_nlls: IntArray
    nll_hidden: IntArray

    def cost(self, tokens: int, coefficients: int = 2) -> PartCost:
        """Returns the cost of every row on `tokens` tokens, as arrays of shape (n,); see `stage_cost`."""
        is_run = np.arange(self.groups.shape[1]) < self.recursions[:, None]
        pairs = np.where(is_run, attended_pairs(tokens, self.groups), 0).sum(axis=1)
        return stage_cost(
            tokens, self.width, self.blocks, self.recursions, pairs, self.mlp_hidden, self.num_nlls, self.nll_hidden,
            coefficients,
        )  # fmt: skip
