"""Fit of measured latencies to sums over a network's parts, and its quality on held-out networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import nnls

from sret_nas.arrays import FloatArray
from sret_nas.latency.profile import FitQuality


def fit_coefficients(features: FloatArray, measured: FloatArray) -> FloatArray:
    """Fits non-negative coefficients, of shape (features,), by least squares of the relative errors.

    Args:
        features: Features of the networks, of shape (networks, features).
        measured: Latencies in microseconds, of shape (networks,).
    """
    scale = np.maximum(features.max(axis=0), 1e-9)  # the columns differ by orders of magnitude
    coefficients, _ = nnls(features / scale / measured[:, None], np.ones(len(measured)))
    unscaled: FloatArray = coefficients / scale
    return unscaled


def quality_of(predicted: FloatArray, measured: FloatArray, flops: Sequence[int]) -> FitQuality:
    """Returns errors and rank correlations of predicted and measured latencies; all of shape (networks,)."""
    return FitQuality(
        num_networks=len(measured),
        median_error=float(np.median(np.abs(predicted / measured - 1))),
        tau=_tau(predicted, measured),
        flops_tau=_tau(flops, measured),
    )


def _tau(first: Sequence[float] | FloatArray, second: FloatArray) -> float:
    """Returns Kendall's tau-b, or 0 if one of the two does not vary."""
    if len(np.unique(first)) < 2 or len(np.unique(second)) < 2:
        return 0.0
    from scipy.stats import kendalltau  # takes half a second to import

    return float(kendalltau(first, second).statistic)
