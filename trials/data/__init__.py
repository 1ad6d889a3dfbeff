"""The images of the proxy runs: finds, splits and decodes a data set once, then serves batches.

The driver of a search calls `prepare`, its workers `PreparedData.open`, and their training loops `batches`. Importing
this package does not import torch; only batches and torchvision's data sets do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .config import DIGITS, DataConfig
from .preparation import prepare
from .prepared import PreparedData, PreparedPart

if TYPE_CHECKING:
    from .batching import batches, num_training_batches, training_batches

__all__ = [
    "DIGITS",
    "DataConfig",
    "PreparedData",
    "PreparedPart",
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
