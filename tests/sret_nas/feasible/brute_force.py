"""Small spaces of every kind, and all their networks by brute force."""

from __future__ import annotations

from itertools import product

from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import bounded_costs
from sret_nas.arch.parts import StageConfig, StemConfig
from sret_nas.errors import ConfigError
from sret_nas.feasible.feasible_set import CostedArch
from sret_nas.space.choices import StageChoices, schedule_of
from sret_nas.space.search_space import SearchSpace
from tests.counted_spaces import (
    FIRST,
    FOUR_STAGES,
    HEADS,
    PATCHES,
    RESIDUALS,
    SECOND,
    STEMS,
    THIRD,
    VARIED,
    shipped,
    space_of,
)

SPACES = {
    "smoke": shipped("smoke"),
    "one stage": space_of(FIRST),
    "one stage, three stems": space_of({"width": [8, 12]}, stem={"width": [4, 6, 9]}),
    "two stages": space_of(FIRST, THIRD),
    "three stages, two stems": space_of(THIRD, SECOND, THIRD, stem={"width": [8, 12], "strides": [1, 2, 2]}),
    "four stages": FOUR_STAGES,
    "variants": VARIED,
    "variants of patches": PATCHES,
    "all stems": STEMS,
    "all residuals": RESIDUALS,
    "all heads": HEADS,
    "all heads, one stage": space_of(
        {"width": [8, 12], "groups": [[1], [2, 1]], "recursions": [1, 2]},
        head=["average", "class_token"],
        residual=["plain", "path"],
        stem={"kind": ["conv", "patch"]},
    ),
    "all residuals, one stage": space_of({"width": [8, 12]}, residual=["path", "plain", "branch"]),
    "two residuals, two stages": space_of(FIRST, THIRD, residual=["branch", "plain"]),
    "two residuals, four stages": FOUR_STAGES.model_copy(update={"residual": ("branch", "path")}),
}


def stages_of(choices: StageChoices, num_tokens: int) -> list[StageConfig]:
    """Finds the distinct stages by trying every combination."""
    found: dict[StageConfig, StageConfig] = {}
    for combination in product(*(getattr(choices, name) for name in choices.dimensions)):
        values = dict(zip(choices.dimensions, combination, strict=True))
        values["groups"] = schedule_of(values["groups"], values["recursions"])
        try:
            stage = StageConfig(**values).canonical(num_tokens)
        except ConfigError:
            continue
        found[stage] = stage
    return list(found)


def every_network(space: SearchSpace) -> dict[str, CostedArch]:
    """Returns all networks by id, with their costs, by brute force."""
    tables = [stages_of(choices, tokens) for choices, tokens in zip(space.stages, space.num_tokens, strict=True)]
    networks = {}
    for stages in product(*tables):
        widths = space.stem.width or [stages[0].width // 2]
        variants = (widths, space.stem.kind, space.stem.norm, space.residual, space.head)
        for width, kind, norm, residual, head in product(*variants):
            try:
                arch = ArchConfig(
                    stages=stages, image_size=space.image_size, classes=space.classes, drop_path=space.drop_path,
                    stem=StemConfig(width=width, strides=space.stem.strides, kind=kind, norm=norm),
                    residual=residual, head=head,
                )  # fmt: skip
            except ConfigError:  # class tokens where attention does not see all tokens
                continue
            networks[arch.arch_id] = CostedArch(arch, *bounded_costs(arch))
    return networks


def inside(networks: dict[str, CostedArch], budget: Budget) -> set[str]:
    return {arch_id for arch_id, network in networks.items() if budget.allows(network.flops, network.params)}
