"""Arguments that neither Optuna's sampler nor Ray Tune's searcher takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sret_nas import Budget, BudgetError, SearchSpace, UserError
from sret_nas.yaml_files import dump_yaml
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
        (
            {"objectives": ("error", "FLOPs")},
            ", got 'FLOPs': the known cost is written 'flops'",
        ),
        ({"objectives": ("error", 3)}, "objectives must be names, such as 'error' and 'flops', got 3"),
        ({"budget": None}, "the budget must be a Budget, such as .*, got None"),
        ({"budget": 10**9}, "the budget must be a Budget, such as .*, got 1000000000"),
        ({"space": {"name": "mine"}}, "the search space must be the name of a shipped one or a file, got "),
        ({"space": None}, "the search space must be the name of a shipped one or a file, got None"),
        ({"population": "16"}, "population and seed must be whole numbers, got '16' and 0"),
        ({"population": 6.5}, "population and seed must be whole numbers, got 6.5 and 0"),
        ({"seed": None}, "population and seed must be whole numbers, got 16 and None"),
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


def test_paths_and_numbers_of_numpy_are_taken(tmp_path: Path) -> None:
    from trials.integrations.ray_searcher import StrategySearcher

    file = tmp_path / "mine.yaml"
    file.write_text(dump_yaml(SearchSpace.load("smoke").to_dict()))
    seed: Any = np.int64(3)
    searcher = StrategySearcher("random", file, Budget(flops_max=np.int64(10**9)), seed=seed)  # type: ignore[arg-type]
    plain = StrategySearcher("random", "smoke", Budget(flops_max=10**9), seed=3)
    assert searcher.suggest("1") == plain.suggest("1")
    searcher.save(str(tmp_path / "searcher.json"))
    plain.restore(str(tmp_path / "searcher.json"))
