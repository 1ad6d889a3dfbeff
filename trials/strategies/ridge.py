"""Ridge regression in closed form, with the penalty chosen by leave-one-out cross-validation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sret_nas.arrays import FloatArray

PENALTIES = np.geomspace(1e-2, 1e4, 13)
"""Candidate penalties, for standardised features."""

MAX_DEVIATIONS = 20.0
"""Targets are clipped at this number of median absolute deviations, so that one diverged run does not dominate."""

MAX_TARGET = 1e150
"""Replaces infinity; its square is finite."""


@dataclass(frozen=True, eq=False)
class Ridge:
    """A linear model of one target."""

    offset: float
    weights: FloatArray
    mean: FloatArray
    scale: FloatArray
    penalty: float

    def predict(self, features: FloatArray) -> FloatArray:
        """Returns predictions (n,) for features (n, f)."""
        return self.offset + ((features - self.mean) / self.scale) @ self.weights

    @classmethod
    def fit(cls, features: FloatArray, targets: FloatArray) -> Ridge:
        """Fits targets (n,), n >= 1, to features (n, f), with the penalty of least squared leave-one-out error.

        The constant is not penalised. Constant features get no weight.
        """
        mean, scale = features.mean(axis=0), features.std(axis=0)
        scale = np.where(scale > 1e-12 * (1 + abs(mean)), scale, np.inf)
        left, values, right = np.linalg.svd((features - mean) / scale, full_matrices=False)
        offset = float(targets.mean())
        projected = left.T @ (targets - offset)
        errors = [_leave_one_out_error(left, values, projected, targets - offset, p) for p in PENALTIES]
        penalty = float(PENALTIES[int(np.argmin(errors))])
        weights = right.T @ (values / (values**2 + penalty) * projected)
        return cls(offset, weights, mean, scale, penalty)


def _leave_one_out_error(
    left: FloatArray, values: FloatArray, projected: FloatArray, centred: FloatArray, penalty: float
) -> float:
    """Returns the sum of squared leave-one-out errors.

    The error of a left-out row is its residual / (1 - leverage) (Allen's PRESS), with the standardisation kept fixed.
    """
    shrinkage = values**2 / (values**2 + penalty)
    leverage = 1 / len(left) + (left**2) @ shrinkage
    residual = centred - left @ (shrinkage * projected)
    return float(((residual / np.maximum(1 - leverage, 1e-12)) ** 2).sum())


def tamed(targets: FloatArray) -> FloatArray:
    """Returns targets (n,) made safe for a least-squares fit: a monotone transform into [0, 1].

    Infinities and outliers are clipped at `MAX_DEVIATIONS`. If the median absolute deviation is 0, because more than
    half of the targets are equal, their ranks are used.
    """
    bounded = np.clip(targets, -MAX_TARGET, MAX_TARGET)
    middle = float(np.median(bounded))
    reach = MAX_DEVIATIONS * float(np.median(abs(bounded - middle)))
    if reach > 0:
        cut = np.clip(bounded, middle - reach, middle + reach)
    else:
        cut = np.unique(bounded, return_inverse=True)[1].astype(float)
    span = float(cut.max() - cut.min())
    scaled: FloatArray = (cut - cut.min()) / span if span > 0 else np.zeros(len(cut))
    return scaled
