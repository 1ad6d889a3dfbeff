"""Types of numpy arrays that the whole package shares."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
"""Costs, positions and choices."""

IndexArray = npt.NDArray[np.intp]
"""Positions in an array, as numpy's sorting and searching return them."""

FloatArray = npt.NDArray[np.float64]
"""Measurements, scores, and counts of networks, which may exceed 2**63."""
