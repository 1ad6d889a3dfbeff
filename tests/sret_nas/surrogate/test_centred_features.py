"""Products with centred features, against the same features written out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from sret_nas.surrogate.centred_features import CentredFeatures

RNG = np.random.default_rng(0)
TREND = RNG.normal(size=(5, 2))
EFFECTS = np.array([[1.0, 0, 2, 0], [0, 0, 1, 0], [3, 1, 0, 0], [0, 0, 0, 0], [0, 2, 0, 0]])
"""No point has the last effect."""
MEAN, NORM = RNG.normal(size=4), RNG.uniform(1, 2, size=4)
SPARSE = CentredFeatures(TREND, csr_array(EFFECTS), MEAN, NORM)
WRITTEN_OUT = np.column_stack([TREND, (EFFECTS - MEAN) / NORM])
PRIOR = RNG.uniform(0.5, 2, size=6)


@pytest.mark.parametrize("shape", [(6,), (6, 3)])
def test_products(shape: tuple[int, ...]) -> None:
    weights = RNG.normal(size=shape)
    assert SPARSE @ weights == pytest.approx(WRITTEN_OUT @ weights)


def test_variances_and_covariances() -> None:
    covariance = (WRITTEN_OUT * PRIOR) @ WRITTEN_OUT.T
    assert SPARSE.gram(PRIOR) == pytest.approx(covariance)
    assert SPARSE.squares(PRIOR) == pytest.approx(np.diag(covariance))


def test_an_effect_that_is_written_twice_counts_as_the_sum() -> None:
    twice = csr_array(([1.0, 2.0], ([0, 0], [1, 1])), shape=(1, 4))
    features = CentredFeatures(TREND[:1], twice, MEAN, NORM)
    once = CentredFeatures(TREND[:1], csr_array([[0.0, 3.0, 0.0, 0.0]]), MEAN, NORM)
    assert features.squares(PRIOR) == pytest.approx(once.squares(PRIOR))


def test_a_model_without_effects() -> None:
    features = CentredFeatures(TREND, None, np.zeros(0), np.zeros(0))
    assert len(features) == 5
    assert features @ np.array([1.0, 2.0]) == pytest.approx(TREND @ [1.0, 2.0])
    assert features.squares(PRIOR[:2]) == pytest.approx(np.diag(features.gram(PRIOR[:2])))
