"""Sliced Recursive Transformers: architectures as data, their costs, search spaces, and the network itself.

`from sret_nas import SReT; network = SReT.from_yaml("best.yaml")` builds a network from a search's result, and
`from sret_nas import search; result = search(flops_budget="1G")` runs a whole search.
Each name is imported on first use, so importing this package imports neither torch nor any other dependency.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sret_nas.arch.budget import Budget
    from sret_nas.arch.config import ArchConfig
    from sret_nas.arch.cost import cost_of
    from sret_nas.arch.parts import StageConfig, StemConfig
    from sret_nas.arch.presets import PRESETS, preset
    from sret_nas.errors import BudgetError, ConfigError, UserError
    from sret_nas.feasible.feasible_set import FeasibleSet
    from sret_nas.nn.flops import count_flops
    from sret_nas.nn.network import SReT
    from sret_nas.space.search_space import SearchSpace
    from sret_nas.trials.search.api import SearchResult, search

__version__ = "0.1.0"

__all__ = [
    "PRESETS",
    "ArchConfig",
    "Budget",
    "BudgetError",
    "ConfigError",
    "FeasibleSet",
    "SReT",
    "SearchResult",
    "SearchSpace",
    "StageConfig",
    "StemConfig",
    "UserError",
    "cost_of",
    "count_flops",
    "preset",
    "search",
]

_MODULES = {
    "arch.config": ("ArchConfig",),
    "arch.parts": ("StageConfig", "StemConfig"),
    "arch.budget": ("Budget",),
    "arch.cost": ("cost_of",),
    "errors": ("BudgetError", "ConfigError", "UserError"),
    "feasible.feasible_set": ("FeasibleSet",),
    "nn.flops": ("count_flops",),
    "nn.network": ("SReT",),
    "arch.presets": ("PRESETS", "preset"),
    "space.search_space": ("SearchSpace",),
    "trials.search.api": ("SearchResult", "search"),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
