"""The tiny supernet's data, for tests of trainings in several processes."""

from __future__ import annotations

from tests.trials.supernet.conftest import data, one_thread

__all__ = ["data", "one_thread"]
