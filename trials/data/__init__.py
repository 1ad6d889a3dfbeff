"""The data of the proxy runs: found, split, decoded once, and handed out in batches.

`prepare` in the process that drives a search, `PreparedData.open` in its workers, `batches` in their training loops.
Importing this package does not import torch; only batches, and sources that are torchvision's, do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .config import DIGITS, DataConfig
from .preparation import prepare
from .prepared import PreparedData, Split

if TYPE_CHECKING:
    from .batching import batches, num_training_batches, training_batches

__all__ = [
    "DIGITS",
    "DataConfig",
    "PreparedData",
    "Split",
    "batches",
    "num_training_batches",
    "prepare",
    "training_batches",
]


def __getattr__(name: str) -> Any:
    if name in ("batches", "num_training_batches", "training_batches"):
        from . import batching

        return getattr(batching, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
