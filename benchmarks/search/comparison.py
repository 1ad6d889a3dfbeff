"""Paired statistics over seeds: medians with bootstrap intervals, wins, Wilcoxon's signed-rank test after Holm."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy.stats import wilcoxon

from sret_nas.arrays import FloatArray

RESAMPLES, SEED = 2000, 0


def median_interval(values: npt.ArrayLike) -> tuple[float, float, float]:
    """Returns the median, and the 95 % percentile interval of the medians of 2,000 bootstrap samples."""
    table = np.asarray(values, dtype=np.float64)
    drawn = np.random.default_rng(SEED).integers(len(table), size=(RESAMPLES, len(table)))
    low, high = np.quantile(np.median(table[drawn], axis=1), [0.025, 0.975])
    return float(np.median(table)), float(low), float(high)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjusts by Holm's step-down rule: the least of k is multiplied by k, the next by k - 1, ..., never decreasing."""
    adjusted, so_far = {}, 0.0
    for rank, (name, p_value) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        so_far = max(so_far, min(1.0, (len(p_values) - rank) * p_value))
        adjusted[name] = so_far
    return adjusted


def signed_rank(ours: FloatArray, theirs: FloatArray) -> float:
    """Returns the two-sided p of Wilcoxon's signed-rank test on pairs; 1 if all pairs are equal."""
    return 1.0 if (ours == theirs).all() else float(wilcoxon(ours, theirs).pvalue)


def against(ours: Mapping[int, float], others: Mapping[str, Mapping[int, float]]) -> dict[str, dict[str, float]]:
    """Compares ours with each other's results by seed, less being better: wins, losses, ties, p after Holm.

    Only seeds that both have count, and whoever shares none is left out.
    """
    compared: dict[str, dict[str, float]] = {}
    for name, theirs in others.items():
        seeds = sorted(ours.keys() & theirs.keys())
        if not seeds:
            continue
        mine, yours = np.array([ours[seed] for seed in seeds]), np.array([theirs[seed] for seed in seeds])
        compared[name] = {
            "seeds": len(seeds),
            "wins": int((mine < yours).sum()),
            "losses": int((mine > yours).sum()),
            "p": signed_rank(mine, yours),
        }
    adjusted = holm({name: row["p"] for name, row in compared.items()})
    return {name: {**row, "p_holm": adjusted[name]} for name, row in compared.items()}
