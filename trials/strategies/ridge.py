"""Ridge regression in closed form, with its penalty chosen by leave-one-out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sret_nas.arrays import FloatArray

PENALTIES = np.geomspace(1e-2, 1e4, 13)
"""Penalties tried, on standardised features."""

MAX_DEVIATIONS = 20.0
"""Median absolute deviations from the median at which targets are cut off, so that one diverged run is not all."""

LARGEST = 1e150
"""Stands in for infinity, and can be squared."""


@dataclass(frozen=True, eq=False)
class Ridge:
    """A linear model of one target: `predict` maps features (n, f) to (n,)."""

    offset: float
    weights: FloatArray
    mean: FloatArray
    scale: FloatArray
    penalty: float

    def predict(self, features: FloatArray) -> FloatArray:
        return self.offset + ((features - self.mean) / self.scale) @ self.weights

    @classmethod
    def fit(cls, features: FloatArray, targets: FloatArray) -> Ridge:
        """Fits features (n, f) to targets (n,), n >= 1, with the penalty of least squared leave-one-out error.

        The constant is not penalised. Features that do not vary have no weight.
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
    """The sum of squared errors of each target as predicted from the others.

    A residual over one less its leverage is the error with the row left out (Allen's PRESS), features standing still.
    """
    shrinkage = values**2 / (values**2 + penalty)
    leverage = 1 / len(left) + (left**2) @ shrinkage
    residual = centred - left @ (shrinkage * projected)
    return float(((residual / np.maximum(1 - leverage, 1e-12)) ** 2).sum())


def tamed(targets: FloatArray) -> FloatArray:
    """Targets (n,) as a least-squares fit can bear them, in their order, within 0 and 1.

    Infinities and far outliers are cut off at `MAX_DEVIATIONS`; where more than half of the targets are equal, which
    leaves no deviation to measure by, their ranks stand in.
    """
    bounded = np.clip(targets, -LARGEST, LARGEST)
    middle = float(np.median(bounded))
    reach = MAX_DEVIATIONS * float(np.median(abs(bounded - middle)))
    if reach > 0:
        cut = np.clip(bounded, middle - reach, middle + reach)
    else:
        cut = np.unique(bounded, return_inverse=True)[1].astype(float)
    span = float(cut.max() - cut.min())
    scaled: FloatArray = (cut - cut.min()) / span if span > 0 else np.zeros(len(cut))
    return scaled
