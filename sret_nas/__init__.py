"""Sliced Recursive Transformers: the architecture as data, its cost, its search space, and the network itself.

`from sret_nas import ArchConfig, SReT; SReT.from_yaml("best.yaml")` builds a network from a search's result.
Importing this package does not import torch; `SReT` and what else needs tensors is loaded when it is first named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sret_nas.arch import ArchConfig, StageConfig, StemConfig
from sret_nas.budget import Budget
from sret_nas.cost import cost_of
from sret_nas.errors import BudgetError, ConfigError, UserError
from sret_nas.presets import PRESETS, preset

if TYPE_CHECKING:
    from sret_nas.nn.network import SReT

__all__ = [
    "PRESETS",
    "ArchConfig",
    "Budget",
    "BudgetError",
    "ConfigError",
    "SReT",
    "StageConfig",
    "StemConfig",
    "UserError",
    "cost_of",
    "preset",
]


def __getattr__(name: str) -> Any:
    if name == "SReT":
        from sret_nas.nn.network import SReT

        return SReT
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
