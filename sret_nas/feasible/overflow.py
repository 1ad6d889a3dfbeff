"""Check that the costs of a space fit into 64 bits, made once per space with Python's unbounded integers."""

from __future__ import annotations

from sret_nas.arch.cost import PartCost, attended_pairs, head_cost, stage_cost, stem_cost
from sret_nas.arch.parts import CLASS_TOKENS
from sret_nas.arch.sizes import hidden_width
from sret_nas.errors import UserError
from sret_nas.space.choices import StageChoices
from sret_nas.space.search_space import SearchSpace

MAX_COST = 2**62
"""Most FLOPs or parameters of a network: sums and differences of two such numbers stay below 2**63."""


def check_costs_fit(space: SearchSpace) -> None:
    """Raises `UserError` if a network of the space could cost more than `MAX_COST` FLOPs or parameters.

    A space that passed is not checked again.
    """
    space.tables.get(check_costs_fit, lambda: _check_costs_fit(space))


def _check_costs_fit(space: SearchSpace) -> None:
    """Bounds the costs from above and raises `UserError` if the bound exceeds `MAX_COST`."""
    parts = _most_expensive_parts(space)
    for name, most in (
        ("FLOPs", sum(part.flops for part in parts)),
        ("parameters", sum(part.params for part in parts)),
    ):
        if most > MAX_COST:
            raise UserError(
                f"{space.name}: networks must cost at most {MAX_COST:.3g} {name}, as costs are summed in 64 bits, got "
                f"up to {most:.3g}; use a smaller image_size, more strides, or less width, blocks or recursions"
            )


def _most_expensive_parts(space: SearchSpace) -> list[PartCost]:
    """Returns parts that cost at least as much as those of any network, because costs grow with every dimension."""
    tokens, widths = space.num_tokens, [max(stage.width) for stage in space.stages]
    attended = [*tokens[:-1], tokens[-1] + max(CLASS_TOKENS[head] for head in space.head)]
    stages = [_most_expensive_stage(*stage) for stage in zip(space.stages, attended, strict=True)]
    # A pooling between widths without a common divisor is a full convolution, which is the most expensive kind.
    pools = [
        PartCost(params=(9 * before + 1) * after, conv=9 * before * after * later)
        for later, before, after in zip(tokens[1:], widths, widths[1:], strict=False)
    ]
    stems = [
        stem_cost(
            space.image_size, space.channels, stem.width or widths[0], space.stem.strides, widths[0], stem.kind,
            stem.norm,
        )
        for stem in space.stem.stems
    ]  # fmt: skip
    heads = [head_cost(tokens[-1], widths[-1], space.classes, head) for head in space.head]
    return [*stems, *stages, *pools, *heads]


def _most_expensive_stage(stage: StageChoices, tokens: int) -> PartCost:
    """Bounds the cost of one stage from above: all dimensions at their most expensive, legal together or not."""
    width, recursions = max(stage.width), max(stage.recursions)
    least_groups = min(min(groups) for groups in stage.groups)
    return stage_cost(
        tokens, width, max(stage.blocks), recursions, recursions * attended_pairs(tokens, least_groups),
        hidden_width(width, max(stage.mlp_ratio)), recursions, hidden_width(width, max(stage.nll_ratio)),
    )  # fmt: skip
