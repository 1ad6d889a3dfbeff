"""Evolution keeps a queue of proposals, which somebody else may try before their turn comes."""

from __future__ import annotations

import pytest

from trials.strategies.conformance import middle, pretended, run
from trials.strategies.create import create_strategy
from trials.strategies.evolution import BATCH
from trials.strategies.strategy import Candidate, Strategy

pytestmark = pytest.mark.slow

START = 6


def begun() -> Strategy[Candidate]:
    """Returns a strategy whose next proposals come from its first fit."""
    strategy = create_strategy("evolution", middle(), ("error", "flops"), seed=0, population=START)
    run(strategy, START, 0, 99, pretended)
    return strategy


@pytest.mark.parametrize("way", ["exclude", "adopt"])
def test_what_others_tried_meanwhile_is_passed_over(way: str) -> None:
    undisturbed, strategy = begun(), begun()
    batch = [undisturbed.ask() for _ in range(BATCH)]
    assert strategy.ask() == batch[0]
    for tried in (batch[1], batch[4], batch[5]):
        getattr(strategy, way)(tried)
    assert [strategy.ask() for _ in range(BATCH - 4)] == [batch[2], batch[3], *batch[6:]]


def test_a_fit_comes_where_nothing_queued_is_left() -> None:
    undisturbed, strategy = begun(), begun()
    batch = [undisturbed.ask() for _ in range(BATCH)]
    assert strategy.ask() == batch[0]
    for tried in batch[1:]:
        assert tried is not None
        strategy.exclude(tried)
    proposed = strategy.ask()
    assert proposed is not None
    assert proposed not in batch
