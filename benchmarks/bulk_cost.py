"""Costs of many architectures at once, from the closed formulas that the search uses part by part.

`benchmarks.cost` times it, and tests compare it with the cost of each architecture.
"""

from __future__ import annotations

from sret_nas.arch.cost import StageColumns, head_cost, pool_cost, stem_cost
from sret_nas.arch.parts import CLASS_TOKENS, COEFFICIENTS, Head, Residual, StemConfig
from sret_nas.arch.sizes import token_sides
from sret_nas.arrays import IntArray


def bulk_cost(
    stages: list[StageColumns], stem: StemConfig, image_size: int, channels: int, classes: int,
    stem_width: IntArray | None = None, residual: Residual = "path", head: Head = "average",
) -> tuple[IntArray, IntArray]:  # fmt: skip
    """Returns the FLOPs and the parameters of n architectures, each of shape (n,).

    Args:
        stages: One `StageColumns` of n rows per stage.
        stem: The stem that all architectures share.
        image_size: Side of the input, in pixels.
        channels: Channels of the input.
        classes: Outputs of the classifier.
        stem_width: Replaces `stem.width`, of shape (n,).
        residual: The residual connections of all architectures.
        head: The head of all architectures.
    """
    arch_tokens = [side * side for side in token_sides(image_size, stem.strides, len(stages))]
    width_in = stem.width if stem_width is None else stem_width
    parts = [stem_cost(image_size, channels, width_in, stem.strides, stages[0].width, stem.kind, stem.norm)]
    attended = [*arch_tokens[:-1], arch_tokens[-1] + CLASS_TOKENS[head]]
    parts += [columns.cost(tokens, COEFFICIENTS[residual]) for columns, tokens in zip(stages, attended, strict=True)]
    for stage in range(1, len(stages)):
        parts.append(pool_cost(arch_tokens[stage], stages[stage - 1].width, stages[stage].width))
    parts.append(head_cost(arch_tokens[-1], stages[-1].width, classes, head))
    return sum(part.flops for part in parts), sum(part.params for part in parts)
