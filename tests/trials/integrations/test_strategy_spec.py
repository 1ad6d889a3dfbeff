"""Arguments that neither Optuna's sampler nor Ray Tune's searcher takes."""

from __future__ import annotations

from typing import Any

import pytest

from sret_nas import Budget, BudgetError, UserError
from tests.trials.integrations.smoke_studies import BUDGET
from trials.integrations.optuna_sampler import StrategySampler


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"strategy": "luck"}, "strategy must be one of random, .*, got 'luck'"),
        ({"space": "nosuch"}, "there is no such file and no such shipped search space"),
        ({"objectives": ()}, "objectives must be different names"),
        ({"objectives": ("error", "error")}, "objectives must be different names"),
        ({"objectives": "error"}, "objectives must be different names"),
        ({"population": 1}, "population must be at least 2, seed at least 0, got 1 and 0"),
        ({"seed": -1}, "population must be at least 2, seed at least 0, got 16 and -1"),
    ],
)
def test_arguments_that_cannot_be_are_refused(given: dict[str, Any], message: str) -> None:
    from trials.integrations.ray_searcher import StrategySearcher

    fields = {"strategy": "random", "space": "smoke", "budget": BUDGET, **given}
    for integration in (StrategySampler, StrategySearcher):
        with pytest.raises(UserError, match=message):
            integration(**fields)
        with pytest.raises(BudgetError, match="the nearest"):
            integration("random", "smoke", Budget(flops_max=1_000_000))
