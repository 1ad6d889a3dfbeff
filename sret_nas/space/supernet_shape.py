"""How large a supernet must be to hold every network of a space: the most of everything, stage by stage.

Recursion counts, loop orders, group schedules and heads own no weights, so they do not appear here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from sret_nas.arch.config import ArchConfig, StageConfig, token_sides
from sret_nas.errors import UserError
from sret_nas.space.choices import is_legal
from sret_nas.space.search_space import SearchSpace

Size = Annotated[int, Field(ge=1)]


def _must_ascend(values: tuple[int, ...]) -> tuple[int, ...]:
    if list(values) != sorted(set(values)):
        raise ValueError(f"must ascend, got {list(values)}")
    return values


class StageExtent(BaseModel):
    """The weights of one stage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    widths: Annotated[tuple[Size, ...], Field(min_length=1), AfterValidator(_must_ascend)]
    """All widths that occur, ascending."""
    blocks: Size
    mlp_hidden: Size
    nll_recursions: Annotated[tuple[Annotated[int, Field(ge=0)], ...], AfterValidator(_must_ascend)]
    """The recursions, counted from 0, that an NLL follows in some network, run to any depth; ascending."""
    nll_hidden: Annotated[int, Field(ge=0)]
    """0 where no network has an NLL."""

    @property
    def width(self) -> int:
        return self.widths[-1]


class SupernetShape(BaseModel):
    """A supernet's shape; its weights, `sret_nas.nn.supernet`, are built from nothing else."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stages: Annotated[tuple[StageExtent, ...], Field(min_length=1)]
    stem_width: Size
    strides: tuple[Literal[1, 2], Literal[1, 2], Literal[1, 2]]
    image_size: Size
    channels: Size
    classes: Size

    @property
    def side(self) -> int:
        """Side of the first stage's token grid."""
        return token_sides(self.image_size, self.strides, 1)[0]

    def check(self, arch: ArchConfig) -> None:
        """Raises `UserError` if a network's weights are not all in here."""
        problem = self._problem(arch)
        if problem is not None:
            raise UserError(f"the supernet does not hold the network {arch.arch_id} ({arch.summary()}): {problem}")

    def first_missing(self, other: SupernetShape) -> str | None:
        """What keeps the networks of another extent from being all in here, or None."""
        same = ("channels", "classes", "image_size", "strides")
        for name in same:
            if getattr(self, name) != getattr(other, name):
                return f"{name} must be {getattr(self, name)}, got {getattr(other, name)}"
        if len(self.stages) != len(other.stages):
            return f"there must be {len(self.stages)} stages, got {len(other.stages)}"
        if self.stem_width < other.stem_width:
            return f"the stem's width must be at most {self.stem_width}, got {other.stem_width}"
        for number, (ours, theirs) in enumerate(zip(self.stages, other.stages, strict=True), start=1):
            for name in ("widths", "nll_recursions"):
                if missing := set(getattr(theirs, name)) - set(getattr(ours, name)):
                    return f"{name} of stage {number} must be among {list(getattr(ours, name))}, got {min(missing)}"
            for name in ("blocks", "mlp_hidden", "nll_hidden"):
                if getattr(theirs, name) > getattr(ours, name):
                    return (
                        f"{name} of stage {number} must be at most {getattr(ours, name)}, got {getattr(theirs, name)}"
                    )
        return None

    def _problem(self, arch: ArchConfig) -> str | None:
        for what, ours, wanted in (
            ("channels", self.channels, arch.channels),
            ("classes", self.classes, arch.classes),
            ("image size", self.image_size, arch.image_size),
            ("strides", self.strides, arch.stem.strides),
            ("number of stages", len(self.stages), len(arch.stages)),
        ):
            if ours != wanted:
                return f"its {what} must be {ours}, got {wanted}"
        if arch.stem.width > self.stem_width:
            return f"its stem's width must be at most {self.stem_width}, got {arch.stem.width}"
        for number, (extent, stage) in enumerate(zip(self.stages, arch.stages, strict=True), start=1):
            if stage.width not in extent.widths:
                return f"the width of stage {number} must be one of {list(extent.widths)}, got {stage.width}"
            for name, most in (("blocks", extent.blocks), ("mlp_hidden", extent.mlp_hidden)):
                if getattr(stage, name) > most:
                    return f"{name} of stage {number} must be at most {most}, got {getattr(stage, name)}"
            if stage.num_nlls > 0 and stage.nll_hidden > extent.nll_hidden:
                return f"nll_hidden of stage {number} must be at most {extent.nll_hidden}, got {stage.nll_hidden}"
            if missing := set(nll_recursions(stage)) - set(extent.nll_recursions):
                return f"there is no NLL after recursion {min(missing) + 1} of stage {number}"
        return None


def nll_recursions(stage: StageConfig) -> list[int]:
    """For each NLL that a block of the stage owns, the recursion, from 0, that it follows."""
    if stage.nll == "last":
        return [stage.recursions - 1]
    return list(range(stage.num_nlls))


def bounding_shape(
    space: SearchSpace,
    *,
    adapted: Callable[[ArchConfig], ArchConfig] = lambda arch: arch,
) -> SupernetShape:
    """The extent of a space's networks, or of what `adapted` makes of each, e.g. narrower proxies of them.

    `adapted` must treat the stages of a network one by one.
    """
    rows = [_extreme_stages(space, number) for number in range(len(space.stages))]
    stem_width = None if space.stem.width is None else max(space.stem.width)
    networks = [
        adapted(space.assembled(tuple(stages[min(number, len(stages) - 1)] for stages in rows), stem_width))
        for number in range(max(map(len, rows)))
    ]
    stem = max(network.stem.width for network in networks)
    first = networks[0]
    return SupernetShape(
        stages=tuple(_stage_extent([network.stages[at] for network in networks]) for at in range(len(rows))),
        stem_width=stem,
        strides=first.stem.strides,
        image_size=first.image_size,
        channels=first.channels,
        classes=first.classes,
    )


def _extreme_stages(space: SearchSpace, number: int) -> list[StageConfig]:
    """Stages that, together, have the most of everything that a stage of the space can have."""
    choices = space.stages[number]
    most = max(choices.recursions)
    return [
        StageConfig(
            width=width, heads=heads, blocks=max(choices.blocks), recursions=most, groups=(1,) * most,
            nll=nll, nll_ratio=max(choices.nll_ratio), mlp_ratio=max(choices.mlp_ratio),
        )
        for width, heads, nll in product(choices.width, choices.heads, choices.nll)
        if is_legal(width, heads, max(choices.nll_ratio), max(choices.mlp_ratio))
    ]  # fmt: skip


def _stage_extent(stages: Sequence[StageConfig]) -> StageExtent:
    followed = {
        recursion
        for stage in stages
        for depth in range(1, stage.recursions + 1)
        for recursion in nll_recursions(stage.model_copy(update={"recursions": depth}))
    }
    return StageExtent(
        widths=tuple(sorted({stage.width for stage in stages})),
        blocks=max(stage.blocks for stage in stages),
        mlp_hidden=max(stage.mlp_hidden for stage in stages),
        nll_recursions=tuple(sorted(followed)),
        nll_hidden=max((stage.nll_hidden for stage in stages if stage.num_nlls > 0), default=0),
    )
