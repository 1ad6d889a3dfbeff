"""The layers: who may import whom, and that the light half does its work without torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import REPOSITORY

HEAVY = ("torch", "torchvision", "fvcore", "timm", "optuna", "ray", "rich", "sklearn", "matplotlib", "PIL")
LIGHT_HALF = (
    "__init__", "errors", "files", "arch", "presets", "budget", "cost", "choices", "stage_table", "space",
    "choice_costs", "cost_cells", "cost_table", "extremes", "feasible", "pareto", "strata", "chain", "additive",
    "surrogate", "surrogate_features", "exact_front", "latency", "latency_table", "latency_fit", "latency_set",
    "cost_grid", "cost_map", "cost_bound", "cost_rectangles", "chain_halves", "incumbents",
)  # fmt: skip

WORK = """
import sys
import numpy as np
from sret_nas.space import SearchSpace
from sret_nas.feasible.feasible_set import FeasibleSet
from sret_nas import Budget, cost_of, pareto, presets
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


def imports_of(tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """Every module that a file names in an import, at the top or inside, and whether the import only serves types."""
    only_types = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that they can be read and checked"
            assert node.module is not None
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        yield from ((name, id(node) in only_types) for name in names)


def test_imports_of_sees_every_form() -> None:
    tree = ast.parse(
        "import torch.nn\nfrom a.b import c\nif TYPE_CHECKING:\n    import rich\ndef f():\n    from optuna import log"
    )
    assert set(imports_of(tree)) == {
        ("torch.nn", False), ("a.b", False), ("a.b.c", False), ("rich", True), ("optuna", False), ("optuna.log", False)
    }  # fmt: skip


def forbidden_for(file: Path) -> tuple[str, ...]:
    """What a file must not import, by the place where it stands."""
    package, *rest = file.relative_to(REPOSITORY).with_suffix("").parts
    if package == "trials":
        return ("cli",)
    if len(rest) == 1 and rest[0] in LIGHT_HALF:
        return ("trials", "cli", "sret_nas.nn", *HEAVY)
    return ("trials", "cli", "optuna", "ray", "rich")


SOURCES = sorted([*(REPOSITORY / "sret_nas").rglob("*.py"), *(REPOSITORY / "trials").rglob("*.py")])


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_no_import_runs_against_the_layers(file: Path) -> None:
    # `sret_nas.__init__` names the network for type checkers and loads it when it is asked for.
    allowed = {"sret_nas.nn.network", "sret_nas.nn.network.SReT"} if file.name == "__init__.py" else set()
    found = [
        name
        for name, only_types in imports_of(ast.parse(file.read_text(encoding="utf-8")))
        if not only_types and name not in allowed
        for forbidden in forbidden_for(file)
        if name == forbidden or name.startswith(f"{forbidden}.")
    ]
    assert found == []


def test_the_light_half_is_there() -> None:
    assert {file.stem for file in SOURCES if file.parent == REPOSITORY / "sret_nas"} >= set(LIGHT_HALF)
