"""Types of numpy arrays that the whole package shares, and plain data in place of numpy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
"""Costs, positions and choices."""

IndexArray = npt.NDArray[np.intp]
"""Positions in an array, as numpy's sorting and searching return them."""

FloatArray = npt.NDArray[np.float64]
"""Measurements, scores, and counts of networks, which may exceed 2**63."""


def holds_numpy(data: Any) -> bool:
    """Returns whether there are numpy's numbers or arrays in nested lists and mappings."""
    if isinstance(data, dict):
        return any(map(holds_numpy, data.values()))
    if isinstance(data, list | tuple):
        return any(map(holds_numpy, data))
    return isinstance(data, np.generic | np.ndarray)


def without_numpy(data: Any) -> Any:
    """Returns nested lists and mappings with Python's numbers and lists in place of numpy's numbers and arrays."""
    if isinstance(data, dict):
        return {key: without_numpy(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [without_numpy(value) for value in data]
    return data.tolist() if isinstance(data, np.generic | np.ndarray) else data
