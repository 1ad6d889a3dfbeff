"""Optuna's Gaussian-process sampler with a shorter search for each suggestion, which otherwise takes half a second."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from optuna.samplers import GPSampler


@contextmanager
def quick_gp() -> Iterator[None]:
    """Makes new samplers maximise their acquisition function from few starts.

    The suggestions are worse, and otherwise what they are: what every strategy keeps to does not depend on it.
    """
    create = GPSampler.__init__

    def with_few_starts(self: GPSampler, **arguments: Any) -> None:
        create(self, **arguments)
        assert (self._n_preliminary_samples, self._n_local_search) == (2048, 10)
        self._n_preliminary_samples, self._n_local_search = 64, 2

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GPSampler, "__init__", with_few_starts)
        yield
