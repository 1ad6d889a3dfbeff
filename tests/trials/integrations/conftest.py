"""What tests of integrations may use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.trials.strategies.quick_gp import quick_gp


@pytest.fixture(autouse=True)
def _quick() -> Iterator[None]:
    with quick_gp():
        yield
