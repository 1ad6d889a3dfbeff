"""Random small architectures for tests; every legal shape has a chance, however odd."""

from __future__ import annotations

import random

from sret_nas.arch.config import ArchConfig, StageConfig, StemConfig


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
