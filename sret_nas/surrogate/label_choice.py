"""Which labels a model is fitted to where there are too many for all."""

from __future__ import annotations

import numpy as np

from sret_nas.arrays import IntArray


def spread_over(num_labels: int, most: int) -> IntArray:
    """Returns the positions of the labels that a model is fitted to: all, or `most` of them.

    Half of these are the latest labels, and half are spread evenly over the earlier ones.
    """
    if num_labels <= most:
        return np.arange(num_labels)
    last = most // 2
    before = np.linspace(0, num_labels - last - 1, most - last).round().astype(int)
    return np.concatenate([before, np.arange(num_labels - last, num_labels)])
