"""The smoke space with changes, random small spaces, and every spelling of one."""

from __future__ import annotations

import copy
from itertools import product
from typing import Any

from hypothesis import strategies as st

from sret_nas.arch.config import ArchConfig
from sret_nas.errors import ConfigError
from sret_nas.space.search_space import SearchSpace

SMOKE = SearchSpace.load("smoke")


def changed(*path: str | int, value: Any) -> dict[str, Any]:
    """Returns the content of `smoke` with one value replaced."""
    data: Any = copy.deepcopy(SMOKE.to_dict())
    inner = data
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = value
    result: dict[str, Any] = data
    return result


def choose(values: list[Any], most: int) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=most, unique=True)


STAGES = st.fixed_dictionaries(
    {
        "width": choose([4, 6, 8, 12], 2),
        "heads": choose([1, 2, 3], 2),
        "blocks": choose([1, 2, 3], 2),
        "recursions": choose([1, 2, 3], 2),
        "loop": st.just(["internal", "external"]),
        "groups": st.sampled_from([[[1]], [[4, 1], [4]], [[8, 2], [8, 2, 1]], [[1000], [900]]]),
        "nll": choose(["every", "between", "last", "none"], 3),
        "nll_ratio": choose([0.25, 0.26, 1.0], 2),
        "mlp_ratio": choose([1.0, 1.01, 2.0], 2),
    }
)
VARIANTS = st.sampled_from(
    [
        {}, {"inverse": [True, False]}, {"permute": [False, True], "inverse": [True, False]}, {"permute": [False]},
        {"inverse": [False, True], "permute_single": [True, False]},
        {"permute": [True, False], "inverse": [False], "permute_single": [True]},
    ]
)  # fmt: skip
NETWORK_VARIANTS = st.sampled_from(
    [
        {}, {"residual": "plain"}, {"residual": "branch", "stem": {"kind": "patch", "strides": [2, 4, 2]}},
        {"stem": {"kind": ["patch", "conv"], "norm": ["none", "batch"], "width": [2, 5], "strides": [1, 2, 2]}},
        {"head": ["average", "class_token"]}, {"head": ["distillation_token", "average", "class_token"]},
        {"stem": {"kind": ["conv", "patch"]}, "residual": ["plain", "path"]},
        {"stem": {"norm": ["layer", "batch", "none"]}},
    ]
)  # fmt: skip
PLAIN_SPACES = st.fixed_dictionaries(
    {
        "name": st.just("random"),
        "image_size": st.sampled_from([8, 17, 32]),
        "classes": st.just(7),
        "drop_path": st.sampled_from([0.0, 0.1]),
        "stem": st.sampled_from([{}, {"width": [2, 5], "strides": [1, 2, 2]}]),
        "stages": st.lists(st.builds(lambda *parts: parts[0] | parts[1], STAGES, VARIANTS), min_size=1, max_size=1),
        "depth_schedules": st.just(["full", "sandwich"]),
    }
)
SPACES = st.builds(lambda *parts: parts[0] | parts[1], PLAIN_SPACES, NETWORK_VARIANTS)


def space_or_none(data: dict[str, Any]) -> SearchSpace | None:
    try:
        return SearchSpace.from_dict(data)
    except ConfigError as error:
        if "is in no legal network" in error.problem:
            return None
        raise


def every_spelling(space: SearchSpace) -> list[ArchConfig | None]:
    """Decodes every combination of choices."""
    dimensions = space.dimensions()
    return [space.decode(dict(zip(dimensions, values, strict=True))) for values in product(*dimensions.values())]
