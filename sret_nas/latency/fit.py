"""The fit of measured networks: from sums of parts to latency, and how good that is on networks it has not seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import nnls
from scipy.stats import kendalltau

from sret_nas.arrays import FloatArray
from sret_nas.latency.profile import FitQuality


def fitted(features: FloatArray, measured: FloatArray) -> FloatArray:
    """Non-negative coefficients of the features, of shape (features,), by least squares of relative errors.

    `features` are (networks, features), `measured` (networks,) in microseconds.
    """
    scale = np.maximum(features.max(axis=0), 1e-9)  # the columns differ by orders of magnitude
    coefficients, _ = nnls(features / scale / measured[:, None], np.ones(len(measured)))
    found: FloatArray = coefficients / scale
    return found


def accuracy_of(predicted: FloatArray, measured: FloatArray, flops: Sequence[int]) -> FitQuality:
    """How well predictions meet what was measured; all of shape (networks,)."""
    return FitQuality(
        num_networks=len(measured),
        median_error=float(np.median(np.abs(predicted / measured - 1))),
        tau=_tau(predicted, measured),
        flops_tau=_tau(flops, measured),
    )


def _tau(first: Sequence[float] | FloatArray, second: FloatArray) -> float:
    """Kendall's tau-b; 0 where one of the two does not vary."""
    if len(np.unique(first)) < 2 or len(np.unique(second)) < 2:
        return 0.0
    return float(kendalltau(first, second).statistic)
