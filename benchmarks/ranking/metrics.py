"""How well a prediction ranks networks: Kendall's tau-b, also among networks of like cost; regret; noise ceilings."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

RESAMPLES = 2_000
SIMULATIONS = 500


def cost_bins(costs: FloatArray, number: int) -> IntArray:
    """Returns bins (n,) of equally many networks, give or take one, by cost; equal costs may fall into two."""
    ranks = np.argsort(np.argsort(costs, kind="stable"), kind="stable")
    bins: IntArray = ranks * number // len(costs)
    return bins


def tau_b(predicted: FloatArray, measured: FloatArray, bins: IntArray | None = None) -> float:
    """Returns Kendall's tau-b of two rows (n,); given bins, over the pairs inside a bin alone, all bins together.

    Not a number where either row is tied in all pairs.
    """
    return float(taus(predicted, measured, np.ones((1, len(predicted))), bins)[0])


def taus(predicted: FloatArray, measured: FloatArray, counts: FloatArray, bins: IntArray | None = None) -> FloatArray:
    """Returns `tau_b` of samples (m,) in which network i occurs `counts[:, i]` times, (m, n)."""
    signs, others = (np.sign(row[:, None] - row) for row in (predicted, measured))
    if bins is not None:
        signs, others = (table * (bins[:, None] == bins) for table in (signs, others))

    def over_pairs(table: FloatArray) -> FloatArray:
        total: FloatArray = np.einsum("mi,ij,mj->m", counts, table, counts, optimize=True)
        return total

    with np.errstate(invalid="ignore"):
        result: FloatArray = over_pairs(signs * others) / np.sqrt(over_pairs(signs**2) * over_pairs(others**2))
    return result


def resamples(number: int, seed: int = 0) -> FloatArray:
    """Returns how often each of `number` networks occurs in each bootstrap sample: (RESAMPLES, number)."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(number, np.full(number, 1 / number), size=RESAMPLES).astype(np.float64)


def interval(values: FloatArray) -> tuple[float, float]:
    """Returns the 95 % percentile interval, without the samples that have no value."""
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def regret_at(predicted: FloatArray, measured: FloatArray, number: int) -> float:
    """Returns what the best of the `number` networks predicted lowest is worse, in `measured`, than the best of all.

    Of networks that tie in prediction, the first are taken.
    """
    chosen = np.argsort(predicted, kind="stable")[:number]
    return float(measured[chosen].min() - measured.min())


def regret_in_bins(predicted: FloatArray, measured: FloatArray, bins: IntArray) -> float:
    """Returns the regret of choosing one network in every bin, on average over bins."""
    return float(
        np.mean([regret_at(predicted[bins == which], measured[bins == which], 1) for which in np.unique(bins)])
    )


def noise_sd(pairs: FloatArray) -> float:
    """Returns the standard deviation of one training's result, from results (n, 2) of two trainings each."""
    return float(np.sqrt(np.mean((pairs[:, 0] - pairs[:, 1]) ** 2) / 2))


def noise_ceiling(measured: FloatArray, noise: float, bins: IntArray, within: bool, seed: int = 0) -> float:
    """Returns the mean tau-b that a perfect prediction would reach with results as noisy as
    these; `within` bins or over
    all.

    Simulated: the truth is taken to be the results, drawn towards the mean of their bin until their spread inside bins
    is what noise leaves of it, and new noise is added to it. 0 inside bins where noise leaves nothing.
    """
    rng = np.random.default_rng(seed)
    centres = np.array([measured[bins == which].mean() for which in bins])
    spread = float(np.sum((measured - centres) ** 2)) / (len(bins) - len(np.unique(bins)))
    if within and noise**2 >= spread:
        return 0.0
    truth = centres + (measured - centres) * np.sqrt(max(0.0, 1 - noise**2 / spread))
    noisy = truth + rng.normal(scale=noise, size=(SIMULATIONS, len(truth)))
    return float(np.mean([tau_b(truth, row, bins if within else None) for row in noisy]))
