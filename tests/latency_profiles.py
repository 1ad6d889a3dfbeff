"""Latency profiles with pretended times, for tests that need a prediction but not a true one."""

from __future__ import annotations

import random

from sret_nas.latency.profile import LatencyProfile, MeasurementSetup, Part
from sret_nas.latency.table import parts_of
from sret_nas.space.search_space import SearchSpace

COEFFICIENTS = (1.25, 0.001, 3.5, 40.0)

SMALL = SearchSpace.from_dict(
    {
        "name": "small",
        "image_size": 32,
        "classes": 10,
        "stem": {"width": [4, 8]},
        "stages": [
            {
                "width": [8, 12], "heads": [1, 2], "blocks": [1, 2], "recursions": [1, 2], "loop": ["internal"],
                "groups": [[3, 2], [1]], "nll": ["every", "none"], "nll_ratio": [1.0], "mlp_ratio": [1.0],
            },
            {
                "width": [8, 16], "heads": [2], "blocks": [1], "recursions": [1, 3], "loop": ["internal"],
                "groups": [[2, 2, 1]], "nll": ["between", "last"], "nll_ratio": [0.5], "mlp_ratio": [2.0],
            },
        ],
        "depth_schedules": ["full", "joint"],
    }
)  # fmt: skip
"""1,024 networks, in which permutations, stems, NLLs and poolings all differ."""


def pretended_time(part: Part) -> float:
    """Returns microseconds, different for every part: a size with luck."""
    luck = random.Random(repr(part)).uniform(0.5, 1.5)
    return round(luck * (10 + part.side * part.side * part.sizes[0] / 20), 2)


def pretended_profile(space: SearchSpace) -> LatencyProfile:
    return LatencyProfile(
        setup=MeasurementSetup(
            device="cpu (pretended)", threads=1, batch_size=1, torch="0.0", image_size=space.image_size
        ),
        space_digest=space.digest,
        parts=tuple((part, pretended_time(part)) for part in parts_of(space)),
        coefficients=COEFFICIENTS,
        accuracy=None,
        rounds=1,
        seconds=0.0,
    )  # fmt: skip
