"""Work without tensors loads nothing heavy. Who may import whom is in `.importlinter`."""

from __future__ import annotations

import subprocess
import sys

from tests import REPOSITORY

HEAVY = ("torch", "torchvision", "fvcore", "timm", "optuna", "ray", "rich", "sklearn", "matplotlib", "PIL")
WORK = """
import sys
import numpy as np
from sret_nas.space.search_space import SearchSpace
from sret_nas.feasible.feasible_set import FeasibleSet
from sret_nas import Budget, cost_of, pareto
feasible = FeasibleSet(SearchSpace.load("sret_tiny"), Budget(flops_max=10**9))
arch = feasible.sample(np.random.default_rng(0))
assert cost_of(arch).flops <= 10**9 and feasible.nearest().flops > 0
pareto.hypervolume([[0, 0]], [1, 1])
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_light_work_imports_nothing_heavy() -> None:
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", WORK], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    loaded = set(finished.stdout.split())
    assert {"numpy", "pydantic", "yaml", "sret_nas"} <= loaded
    assert loaded.isdisjoint({*HEAVY, "trials", "cli"})
