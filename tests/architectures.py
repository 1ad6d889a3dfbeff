"""Random small architectures for tests; every legal shape has a chance, however odd."""

from __future__ import annotations

import random
from typing import get_args

from hypothesis import strategies as st

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.parts import Head, Residual, StageConfig, StemConfig, StemKind, StemNorm


def random_stage(rng: random.Random, max_width: int = 32) -> StageConfig:
    heads = rng.choice([1, 2, 3, 4])
    recursions = rng.randint(1, 4)
    return StageConfig(
        width=heads * rng.randint(1, max_width // heads),
        heads=heads,
        blocks=rng.randint(1, 3),
        recursions=recursions,
        groups=tuple(rng.choice([1, 1, 2, 3, 4, 5, 8, 49]) for _ in range(recursions)),
        loop=rng.choice(["internal", "external"]),
        nll=rng.choice(["every", "between", "last", "none"]),
        nll_ratio=rng.choice([1.0, 1.5, 2.0]),
        mlp_ratio=rng.choice([1.0, 2.0, 3.6]),
    )


def random_arch(rng: random.Random, max_width: int = 32) -> ArchConfig:
    return ArchConfig(
        stages=tuple(random_stage(rng, max_width) for _ in range(rng.randint(1, 4))),
        stem=StemConfig(width=rng.randint(1, 16), strides=rng.choice([(2, 2, 2), (1, 2, 2), (2, 1, 2)])),
        image_size=rng.choice([16, 24, 33, 40, 56, 64]),
        channels=rng.choice([1, 3]),
        classes=rng.randint(2, 20),
        drop_path=rng.choice([0.0, 0.1]),
    )


@st.composite
def varied_archs(draw: st.DrawFn, max_stages: int = 2) -> ArchConfig:
    """Draws small architectures with any combination of variants."""
    head = draw(st.sampled_from(get_args(Head)))
    num_stages = draw(st.integers(1, max_stages))
    stages = [
        draw(_varied_stages(one_slice=head != "average" and last == num_stages - 1)) for last in range(num_stages)
    ]
    kind = draw(st.sampled_from(get_args(StemKind)))
    strides = draw(st.sampled_from([(2, 2, 2), (1, 2, 2)] + [(4, 2, 1), (4, 2, 2)] * (kind == "patch")))
    norm = draw(st.sampled_from(get_args(StemNorm)))
    return ArchConfig(
        stages=tuple(stages),
        stem=StemConfig(width=draw(st.integers(1, 8)), strides=strides, kind=kind, norm=norm),
        image_size=draw(st.sampled_from([24, 33])),
        channels=draw(st.sampled_from([1, 3])),
        classes=3,
        residual=draw(st.sampled_from(get_args(Residual))),
        head=head,
    )


@st.composite
def _varied_stages(draw: st.DrawFn, one_slice: bool) -> StageConfig:
    heads, recursions = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    groups = st.just(1) if one_slice else st.sampled_from([1, 2, 3, 30])
    permute, inverse = draw(st.booleans()), draw(st.booleans())
    return StageConfig(
        width=heads * draw(st.integers(1, 4)),
        heads=heads,
        blocks=draw(st.integers(1, 2)),
        recursions=recursions,
        groups=tuple(draw(groups) for _ in range(recursions)),
        nll=draw(st.sampled_from(["every", "between", "last", "none"])),
        mlp_ratio=2.0,
        permute=permute,
        inverse=inverse,
        permute_single=draw(st.booleans()) and not (one_slice and permute and not inverse),
    )
