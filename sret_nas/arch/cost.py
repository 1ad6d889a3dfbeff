"""What an architecture costs, in closed form: parameters, and FLOPs exactly as fvcore counts them.

FLOPs are multiply-adds for one image. fvcore 0.1.5 counts convolutions and linear layers without their biases, both
attention products, 5 per element for a LayerNorm, 2 per element for a BatchNorm in evaluation, 1 per input element for
average pooling, and nothing for activations, additions and the residual coefficients. `sret_nas.nn.flops` traces the
built network with fvcore, with a handler for fused attention, and the tests hold the two equal to the last unit.

Every formula below takes whole numbers or numpy arrays of them (`Count`), so one architecture and a million are
costed by the same lines. Symbols: N tokens, D width, B blocks, R recursions, K NLLs per block.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import Any, NamedTuple

import numpy as np

from sret_nas.arch.config import ArchConfig, StageConfig, StemConfig, halved, token_sides
from sret_nas.arrays import IntArray

Count = Any
"""An `int`, or an int64 array that broadcasts with the other arguments."""

OPERATORS = ("conv", "linear", "matmul", "layer_norm", "batch_norm", "adaptive_avg_pool2d")
"""The operators that cost FLOPs, under fvcore's names; `matmul` are the two attention products."""


class Terms(NamedTuple):
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
        _, *flops = self
        return sum(flops)


def attended_pairs(tokens: Count, groups: Count) -> Count:
    """Query-key pairs of one sliced attention: the sum over slices of the slice's length squared.

    N tokens are cut into G slices whose lengths differ by at most one: the first N mod G slices are one token
    longer. Where G divides N that is the paper's N^2 / G; where G exceeds N, every token is alone.
    """
    length, longer = tokens // groups, tokens % groups
    return longer * (length + 1) ** 2 + (groups - longer) * length**2


def stage_terms(
    tokens: Count, width: Count, blocks: Count, recursions: Count, pairs: Count,
    mlp_hidden: Count, num_nlls: Count, nll_hidden: Count,
) -> Terms:  # fmt: skip
    """Cost of one stage; `pairs` is the sum of `attended_pairs` over one block's recursions."""
    block_params = 4 * width**2 + 4 * width + 2 * width * mlp_hidden + mlp_hidden + width + 4 * width + 4
    nll_params = 2 * width * nll_hidden + nll_hidden + width + 2 * width + 2
    block_linear = tokens * recursions * (4 * width**2 + 2 * width * mlp_hidden)
    nll_linear = tokens * num_nlls * 2 * width * nll_hidden
    return Terms(
        params=blocks * (block_params + num_nlls * nll_params),
        linear=blocks * (block_linear + nll_linear),
        matmul=blocks * 2 * width * pairs,
        layer_norm=blocks * 5 * tokens * width * (2 * recursions + num_nlls),
    )


def stem_terms(image_size: int, channels: int, stem_width: Count, strides: tuple[int, ...], width: Count) -> Terms:
    """Cost of the three stem convolutions, their BatchNorms, and the position embedding (parameters only)."""
    conv = batch_norm = params = 0
    side, inputs = image_size, channels
    for outputs, stride in zip((stem_width, width, width), strides, strict=True):
        side = halved(side) if stride == 2 else side
        weights = 9 * inputs * outputs
        conv = conv + weights * side**2
        batch_norm = batch_norm + 2 * outputs * side**2
        params = params + weights + outputs + 2 * outputs
        inputs = outputs
    return Terms(params=params + width * side**2, conv=conv, batch_norm=batch_norm)


def pool_terms(tokens: int, width_in: Count, width_out: Count) -> Terms:
    """Cost of a 3x3 stride-2 convolution with gcd(D_in, D_out) groups; `tokens` are those of the later stage."""
    is_scalar = isinstance(width_in, int) and isinstance(width_out, int)
    weights = 9 * width_out * (width_in // (gcd(width_in, width_out) if is_scalar else np.gcd(width_in, width_out)))
    return Terms(params=weights + width_out, conv=weights * tokens)


def head_terms(tokens: int, width: Count, classes: int) -> Terms:
    """Cost of average pooling, LayerNorm and classifier."""
    return Terms(
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
    parts: dict[str, Terms]

    @property
    def params(self) -> int:
        return sum(terms.params for terms in self.parts.values())

    @property
    def flops(self) -> int:
        return sum(terms.flops for terms in self.parts.values())

    def flops_by_operator(self) -> dict[str, int]:
        return {name: sum(getattr(terms, name) for terms in self.parts.values()) for name in OPERATORS}

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a YAML file, with the convention spelled out."""
        return {
            "flops": self.flops,
            "params": self.params,
            "convention": "multiply-adds for one image, as fvcore counts them",
            "image_size": self.image_size,
            "classes": self.classes,
            "by_part": {name: {"flops": terms.flops, "params": terms.params} for name, terms in self.parts.items()},
            "flops_by_operator": self.flops_by_operator(),
        }


def _terms_of_stage(stage: StageConfig, tokens: int) -> Terms:
    pairs = sum(attended_pairs(tokens, groups) for groups in stage.groups[: stage.recursions])
    return stage_terms(
        tokens, stage.width, stage.blocks, stage.recursions, pairs, stage.mlp_hidden, stage.num_nlls, stage.nll_hidden
    )


def cost_of(arch: ArchConfig) -> Cost:
    """The cost of one architecture, without building it."""
    num_tokens, stages = arch.num_tokens, arch.stages
    parts = {"stem": stem_terms(arch.image_size, arch.channels, arch.stem.width, arch.stem.strides, stages[0].width)}
    for number, (stage, tokens) in enumerate(zip(stages, num_tokens, strict=True), start=1):
        parts[f"stage {number}"] = _terms_of_stage(stage, tokens)
        if number < len(stages):
            parts[f"pool {number}"] = pool_terms(num_tokens[number], stage.width, stages[number].width)
    parts["head"] = head_terms(num_tokens[-1], stages[-1].width, arch.classes)
    return Cost(arch.image_size, arch.classes, parts)


@dataclass(frozen=True, kw_only=True)
class StageColumns:
    """Many stages as columns of int64 arrays of shape (n,), and `groups` of shape (n, most recursions).

    Entries of `groups` beyond a row's `recursions` mean nothing and may be any positive number.
    """

    width: IntArray
    blocks: IntArray
    recursions: IntArray
    groups: IntArray
    mlp_hidden: IntArray
    num_nlls: IntArray
    nll_hidden: IntArray

    def terms(self, tokens: int) -> Terms:
        """Cost of every row, for a stage of `tokens` tokens; arrays of shape (n,)."""
        is_run = np.arange(self.groups.shape[1]) < self.recursions[:, None]
        pairs = np.where(is_run, attended_pairs(tokens, self.groups), 0).sum(axis=1)
        return stage_terms(
            tokens, self.width, self.blocks, self.recursions, pairs, self.mlp_hidden, self.num_nlls, self.nll_hidden
        )

    @classmethod
    def from_stages(cls, stages: list[StageConfig]) -> StageColumns:
        """The columns of a list of stages."""
        most = max((len(stage.groups) for stage in stages), default=1)
        columns = {name: np.array([getattr(stage, name) for stage in stages], dtype=np.int64)
                   for name in ("width", "blocks", "recursions", "mlp_hidden", "num_nlls", "nll_hidden")}  # fmt: skip
        groups = [stage.groups + (1,) * (most - len(stage.groups)) for stage in stages]
        return cls(groups=np.array(groups, dtype=np.int64).reshape(len(stages), most), **columns)


def bulk_cost(
    stages: list[StageColumns], stem: StemConfig, image_size: int, channels: int, classes: int,
    stem_width: IntArray | None = None,
) -> tuple[IntArray, IntArray]:  # fmt: skip
    """FLOPs and parameters, each of shape (n,), of n architectures given as one `StageColumns` of n rows per stage.

    They share image size, channels, classes and stem strides; `stem_width` of shape (n,) replaces `stem.width`.
    """
    arch_tokens = [side * side for side in token_sides(image_size, stem.strides, len(stages))]
    width_in = stem.width if stem_width is None else stem_width
    parts = [stem_terms(image_size, channels, width_in, stem.strides, stages[0].width)]
    parts += [columns.terms(tokens) for columns, tokens in zip(stages, arch_tokens, strict=True)]
    for number in range(1, len(stages)):
        parts.append(pool_terms(arch_tokens[number], stages[number - 1].width, stages[number].width))
    parts.append(head_terms(arch_tokens[-1], stages[-1].width, classes))
    return sum(part.flops for part in parts), sum(part.params for part in parts)
