"""Shapes of supernets: the smallest weights that hold every network of a space, stage by stage.

Recursions, loop orders, group schedules, attention heads and permutations own no weights, so they do not appear here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from math import prod
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.parts import (
    CLASS_TOKENS,
    COEFFICIENTS,
    Head,
    Residual,
    StageConfig,
    StemConfig,
    StemKind,
    StemNorm,
    Stride,
    WithVariants,
)
from sret_nas.arch.sizes import token_sides
from sret_nas.errors import ConfigError, UserError
from sret_nas.space.choices import OneOrListed, is_legal
from sret_nas.space.search_space import SearchSpace

Size = Annotated[int, Field(ge=1)]


def _must_ascend(values: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the values. Raises `ValueError` unless they ascend strictly."""
    if list(values) != sorted(set(values)):
        raise ValueError(f"must ascend, got {list(values)}")
    return values


class StageShape(BaseModel):
    """The shape of one stage's weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    widths: Annotated[tuple[Size, ...], Field(min_length=1), AfterValidator(_must_ascend)]
    """All widths that occur, ascending."""
    blocks: Size
    mlp_hidden: Size
    nll_recursions: Annotated[tuple[Annotated[int, Field(ge=0)], ...], AfterValidator(_must_ascend)]
    """Recursions (from 0) that are followed by an NLL in some network at some depth, ascending."""
    nll_hidden: Annotated[int, Field(ge=0)]
    """0 if no network has an NLL."""

    @property
    def width(self) -> int:
        """The largest width."""
        return self.widths[-1]


class SupernetShape(WithVariants):
    """The shape of a supernet's weights; `sret_nas.nn.supernet` builds them from it alone."""

    VARIANTS = ("residual", "head", "stem_kind", "stem_norm")

    stages: Annotated[tuple[StageShape, ...], Field(min_length=1)]
    stem_width: Size
    strides: tuple[Stride, Stride, Stride]
    image_size: Size
    channels: Size
    classes: Size
    residual: OneOrListed[Residual] = ("path",)
    """The residual connections that occur. Those with fewer coefficients use some of the others'."""
    head: OneOrListed[Head] = ("average",)
    """The heads that occur. All share the last norm, the classifier, and the first of the class tokens."""
    stem_kind: OneOrListed[StemKind] = ("conv",)
    """The kinds of stem that occur. Each has weights of its own."""
    stem_norm: OneOrListed[StemNorm] = ("batch",)
    """The norms that occur after the convolutions of a stem. All share one scale and one shift per channel."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Raises `ValueError` for strides that a kind of stem does not have."""
        for kind in self.stem_kind:
            try:
                StemConfig(width=self.stem_width, strides=self.strides, kind=kind)
            except ConfigError as error:
                raise ValueError(str(error)) from None
        return self

    @property
    def has_stem_norms(self) -> bool:
        """Whether a norm with weights follows the convolutions of some stem."""
        return "conv" in self.stem_kind and self.stem_norm != ("none",)

    @property
    def widest_residual(self) -> Residual:
        """The residual connections with the most coefficients, which hold those of all others."""
        return max(self.residual, key=COEFFICIENTS.__getitem__)

    @property
    def class_tokens(self) -> int:
        """The most class tokens that a network has."""
        return max(CLASS_TOKENS[head] for head in self.head)

    @property
    def side(self) -> int:
        """Side of the first stage's token grid."""
        return token_sides(self.image_size, self.strides, 1)[0]

    def check(self, arch: ArchConfig) -> None:
        """Raises `UserError` if the supernet does not hold all weights of a network."""
        problem = self.first_missing(_shape_of(arch))
        if problem is not None:
            raise UserError(f"the supernet does not hold the network {arch.arch_id} ({arch.summary()}): {problem}")

    def first_missing(self, other: SupernetShape) -> str | None:
        """Describes the first thing that this shape lacks to hold all networks of another one; None if nothing."""
        for name in ("channels", "classes", "image_size"):
            if getattr(self, name) != getattr(other, name):
                return f"{name.replace('_', ' ')} must be {getattr(self, name)}, got {getattr(other, name)}"
        for name in ("residual", "head"):
            held = getattr(self, name)
            if strange := [variant for variant in getattr(other, name) if variant not in held]:
                return f"{name} must be {' or '.join(held)}, got {strange[0]}"
        for kind in other.stem_kind:
            problem = self._first_missing_of_stem(kind, other)
            if problem is not None:
                return problem
        if len(self.stages) != len(other.stages):
            return f"there must be {len(self.stages)} stages, got {len(other.stages)}"
        for stage_number, (ours, theirs) in enumerate(zip(self.stages, other.stages, strict=True), start=1):
            if strange_widths := set(theirs.widths) - set(ours.widths):
                return f"width of stage {stage_number} must be one of {list(ours.widths)}, got {min(strange_widths)}"
            for name in ("blocks", "mlp_hidden", "nll_hidden"):
                held, wanted = getattr(ours, name), getattr(theirs, name)
                if wanted > held:
                    return f"{name} of stage {stage_number} must be at most {held}, got {wanted}"
            if missing := set(theirs.nll_recursions) - set(ours.nll_recursions):
                return f"there is no NLL after recursion {min(missing) + 1} of stage {stage_number}"
        return None

    def _first_missing_of_stem(self, kind: StemKind, other: SupernetShape) -> str | None:
        """Describes the first thing that this shape lacks to hold another one's stems of a kind; None if nothing.

        A patch embedding has neither a norm nor a width of its own, and of its strides only the product counts.
        """
        if kind not in self.stem_kind:
            return f"stem kind must be {' or '.join(self.stem_kind)}, got {kind}"
        ours, theirs = self.strides, other.strides
        if prod(ours) != prod(theirs) if kind == "patch" else ours != theirs:
            return f"strides must be {ours}, got {theirs}"
        if kind == "patch":
            return None
        if missing := [norm for norm in other.stem_norm if norm not in self.stem_norm]:
            return f"stem norm must be {' or '.join(self.stem_norm)}, got {missing[0]}"
        if other.stem_width > self.stem_width:
            return f"stem width must be at most {self.stem_width}, got {other.stem_width}"
        return None


def _shape_of(arch: ArchConfig) -> SupernetShape:
    """Returns the smallest shape that holds one network at its full depth."""
    return SupernetShape(
        stages=tuple(
            StageShape(
                widths=(stage.width,),
                blocks=stage.blocks,
                mlp_hidden=stage.mlp_hidden,
                nll_recursions=tuple(sorted(set(nll_recursions(stage)))),
                nll_hidden=stage.nll_hidden if stage.num_nlls > 0 else 0,
            )
            for stage in arch.stages
        ),
        stem_width=arch.stem.width,
        strides=arch.stem.strides,
        image_size=arch.image_size,
        channels=arch.channels,
        classes=arch.classes,
        residual=(arch.residual,),
        head=(arch.head,),
        stem_kind=(arch.stem.kind,),
        stem_norm=(arch.stem.norm,),
    )


def nll_recursions(stage: StageConfig) -> list[int]:
    """Returns, for each NLL of a block, the recursion (from 0) that it follows."""
    if stage.nll == "last":
        return [stage.recursions - 1]
    return list(range(stage.num_nlls))


def bounding_shape(
    space: SearchSpace,
    *,
    adapted: Callable[[ArchConfig], ArchConfig] = lambda arch: arch,
) -> SupernetShape:
    """Returns the smallest shape that holds all networks of a space.

    Args:
        space: The networks to hold.
        adapted: Maps each network to the one that the supernet holds instead, e.g. a narrower proxy. It must treat the
            stages of a network independently.
    """
    extremes = [_extreme_stages(space, stage_index) for stage_index in range(len(space.stages))]
    networks = [
        adapted(space.assembled(tuple(stages[min(row, len(stages) - 1)] for stages in extremes), stem))
        for row in range(max(map(len, extremes)))
        for stem in space.stem.stems
    ]
    # What the weights of convolutions depend on does not matter to a patch embedding.
    stems = [network.canonical().stem for network in networks]
    convolutions = [stem for stem in stems if stem.kind == "conv"] or stems
    first = networks[0]
    return SupernetShape(
        stages=tuple(
            _stage_shape([network.stages[stage_index] for network in networks]) for stage_index in range(len(extremes))
        ),
        stem_width=max(stem.width for stem in convolutions),
        strides=convolutions[0].strides,
        image_size=first.image_size,
        channels=first.channels,
        classes=first.classes,
        residual=space.residual,
        head=space.head,
        stem_kind=space.stem.kind,
        stem_norm=space.stem.norm,
    )


def _extreme_stages(space: SearchSpace, stage_index: int) -> list[StageConfig]:
    """Returns stages that together need at least the weights of every stage of the space at this position."""
    choices = space.stages[stage_index]
    max_recursions = max(choices.recursions)
    return [
        StageConfig(
            width=width, heads=heads, blocks=max(choices.blocks),
            recursions=max_recursions, groups=(1,) * max_recursions,
            nll=nll, nll_ratio=max(choices.nll_ratio), mlp_ratio=max(choices.mlp_ratio),
        )
        for width, heads, nll in product(choices.width, choices.heads, choices.nll)
        if is_legal(width, heads, max(choices.nll_ratio), max(choices.mlp_ratio))
    ]  # fmt: skip


def _stage_shape(stages: Sequence[StageConfig]) -> StageShape:
    """Returns the smallest shape that holds some stages at all their depths."""
    followed = {
        recursion
        for stage in stages
        for depth in range(1, stage.recursions + 1)
        for recursion in nll_recursions(stage.model_copy(update={"recursions": depth}))
    }
    return StageShape(
        widths=tuple(sorted({stage.width for stage in stages})),
        blocks=max(stage.blocks for stage in stages),
        mlp_hidden=max(stage.mlp_hidden for stage in stages),
        nll_recursions=tuple(sorted(followed)),
        nll_hidden=max((stage.nll_hidden for stage in stages if stage.num_nlls > 0), default=0),
    )
