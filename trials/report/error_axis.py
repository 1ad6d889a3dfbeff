"""Where an axis of errors ends, so that a few bad networks do not flatten the picture of all others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MARGIN = 1.15
"""Room above the largest error that has to be seen."""

MIN_SAVING = 1.5
"""By how many times the largest error must pass the end of the axis, or else the axis simply shows all."""


def end_of_axis(seen: Sequence[float], others: Sequence[float]) -> float | None:
    """Returns the error at which an axis ends, in the errors' unit; None if all errors are to be shown.

    Args:
        seen: errors that lie within the axis: of the front, of what is recommended, of what was measured at the end.
        others: errors of other networks. Nine in ten of them lie within the axis.
    """
    if not seen:
        return None
    within = [max(seen), *([float(np.quantile(others, 0.9))] if others else [])]
    end = MARGIN * max(within)
    return end if max(others, default=0.0) > MIN_SAVING * end else None
