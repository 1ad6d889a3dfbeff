"""Every weight that a supernet holds is one of some network of its space."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, product
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.parts import CLASS_TOKENS, COEFFICIENTS, StageConfig
from sret_nas.nn.supernet import Supernet
from sret_nas.space.choices import StemChoice, is_legal
from sret_nas.space.search_space import SearchSpace
from sret_nas.space.supernet_shape import bounding_shape
from tests.counted_spaces import HEADS, PATCHES, RESIDUALS, STEMS, VARIED, shipped, space_of
from tests.sret_nas.nn.random_supernets import DAILY_OR_SLOW, SMALL, gradients, images_for, widths_of
from trials.training.recipe import ProxyConfig, TrainingConfig, proxy_arch

torch.set_num_threads(1)

Shapes = tuple[tuple[int, int], ...]
"""Width and heads of each stage."""

ODD_SPACES = {
    "only last NLLs": space_of({"nll": ["last"], "recursions": [3]}, {"nll": ["last"], "recursions": [2]}),
    "listed stems": space_of({"width": [8, 12], "heads": [2]}, stem={"width": [3, 9], "strides": [1, 2, 2]}),
    "coprime widths": space_of({"width": [7, 9], "heads": [1]}, {"width": [8, 11], "heads": [1]}),
    "no NLLs": space_of({"recursions": [1, 3], "nll": ["none"], "nll_ratio": [2.0]}, {"width": [16]}),
    "NLLs between": space_of({"recursions": [1, 2], "nll": ["between", "none"], "mlp_ratio": [1.0, 3.0]}),
    "a small space": SMALL,
    "variants": VARIED,
    "variants of patches": PATCHES,
    "all stems": STEMS,
    "all residuals": RESIDUALS,
    "all heads": HEADS,
    "an average or a class token": space_of({}, head=["average", "class_token"]),
    "plain and branch": space_of({"nll": ["every"]}, residual=["plain", "branch"]),
}


def covering(space: SearchSpace, adapted: Callable[[ArchConfig], ArchConfig]) -> list[ArchConfig]:
    """Returns networks that need, together, all that a supernet of the space holds: the largest, with NLLs wherever
    they may be (after the last recursion: at every depth); and for any two widths that may be neighbours a network
    of little else."""
    shapes = [
        [shape for shape in product(s.width, s.heads) if is_legal(*shape, max(s.nll_ratio), max(s.mlp_ratio))]
        for s in space.stages
    ]
    small = {path: adapted(built(space, path, min)) for path in product(*shapes)}
    widest = max(small, key=lambda path: sum(widths_of(small[path])))
    networks = []
    for placement in range(max(1 if "every" in stage.nll else len(stage.nll) for stage in space.stages)):
        for stem in space.stem.stems:
            arch = adapted(built(space, widest, max, placement, stem))
            shallowest = 1 if any(stage.nll == "last" for stage in arch.stages) else arch.max_recursions
            networks += [arch.with_max_recursions(depth) for depth in range(shallowest, arch.max_recursions + 1)]
    seen: set[tuple[int, tuple[int, int]]] = set()
    for arch in small.values():
        pairs = set(enumerate(pairwise(widths_of(arch))))
        if not pairs <= seen:
            networks.append(arch)
        seen |= pairs
    return networks


def built(
    space: SearchSpace, path: Shapes, pick: Callable[..., Any], placement: int = 0, stem: StemChoice | None = None
) -> ArchConfig:  # fmt: skip
    """Returns the network with given (width, heads) and stem, and the most or the least of everything else."""
    stages = []
    for choices, (width, heads) in zip(space.stages, path, strict=True):
        sizes = {name: pick(getattr(choices, name)) for name in ("blocks", "recursions", "nll_ratio", "mlp_ratio")}
        nll = "every" if "every" in choices.nll else choices.nll[placement % len(choices.nll)]
        stages.append(StageConfig(width=width, heads=heads, nll=nll, groups=(1,) * sizes["recursions"], **sizes))
    residual, head = max(space.residual, key=COEFFICIENTS.__getitem__), max(space.head, key=CLASS_TOKENS.__getitem__)
    return space.assembled(tuple(stages), stem, residual, head)


def has_gradient_by_nature(name: str) -> bool:
    """Returns whether a gradient is not 0 in theory. BatchNorm cancels the stem's biases, and softmax those of keys."""
    return not (name.startswith("stem.convs") and name.endswith("bias")) and not name.endswith("qkv.bias")


class TestHoldsNothingInVain:
    @pytest.mark.parametrize("width_scale", [1.0, pytest.param(0.5, marks=pytest.mark.slow)])
    @pytest.mark.parametrize("name", [*DAILY_OR_SLOW, *ODD_SPACES])
    def test_every_weight_is_some_networks(self, name: str, width_scale: float) -> None:
        space = ODD_SPACES.get(name) or shipped(name)
        proxy = ProxyConfig(image_size=48, width_scale=width_scale, training=TrainingConfig(images=2))

        def adapted(arch: ArchConfig) -> ArchConfig:
            return proxy_arch(arch, proxy, channels=3, classes=10)

        torch.manual_seed(0)
        supernet = Supernet(bounding_shape(space, adapted=adapted))
        parameters = dict(supernet.named_parameters())
        reached = {name: torch.zeros(parameter.shape, dtype=torch.bool) for name, parameter in parameters.items()}
        for arch in covering(space, adapted):
            F.cross_entropy(supernet(images_for(arch), arch), torch.arange(4)).backward()
            for name, gradient in gradients(supernet).items():
                reached[name] |= gradient != 0
        for name, entries_reached in reached.items():
            expected = entries_reached.all() if has_gradient_by_nature(name) else entries_reached.any()
            assert expected, f"{name}: {entries_reached.float().mean():.1%}"
