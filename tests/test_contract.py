"""The contract of imports (`.importlinter`) holds, and is red once it is broken, in every kind."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import REPOSITORY

LINT = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache"]


def lint(directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(LINT, cwd=directory, capture_output=True, text=True, check=False)


def test_imports_keep_the_contract() -> None:
    checked = lint(REPOSITORY)
    assert checked.returncode == 0, checked.stdout
    assert ", 0 broken." in checked.stdout.replace("\n", " ")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a copy of what is checked, to be broken."""
    directory = tmp_path_factory.mktemp("copy")
    shutil.copy(REPOSITORY / ".importlinter", directory)
    for package in ("sret_nas", "trials"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / package, directory / package, symlinks=True, ignore=ignored)
    return directory


BREAKS = {
    "a lower room imports a higher one": ("sret_nas/arch/cost.py", "from sret_nas.space import chain"),
    "a neighbour": ("sret_nas/latency/fit.py", "from sret_nas.surrogate import model"),
    "lazily": ("trials/data/folders.py", "def later():\n    from trials.search import plan"),
    "what is run, from what a network is": ("sret_nas/pareto.py", "import trials.machine"),
    "what is run, by its name once installed": ("sret_nas/pareto.py", "def later():\n    from .trials import machine"),
    "what starts the command line": ("sret_nas/nn/flops.py", "import sret_nas.__main__"),
    "a name that an installation lacks": ("trials/machine.py", "from trials import seeds"),
    "upwards, relatively": ("trials/machine.py", "from .search import plan"),
    "the entry": ("trials/machine.py", "import cli"),
    "torch": ("sret_nas/feasible/balanced.py", "import torch"),
    "optuna": ("trials/search/plan.py", "import optuna"),
    "ray": ("trials/search/plan.py", "def later():\n    import ray"),
    "rich": ("trials/engines/local.py", "from rich.console import Console"),
    "matplotlib": ("trials/search/plan.py", "import matplotlib"),
    "Pillow": ("trials/search/plan.py", "import PIL.Image"),
    "torchvision": ("trials/training/train.py", "import torchvision"),
    "onnx": ("sret_nas/nn/network.py", "import onnx"),
    "onnxruntime": ("trials/workflows/predict.py", "def later():\n    import onnxruntime"),
    "openvino": ("sret_nas/nn/speed.py", "import openvino"),
    "timm": ("trials/worker/timing.py", "def later():\n    import timm"),
    "a tracker": ("trials/search/plan.py", "def later():\n    import mlflow"),
    "shtab": ("trials/machine.py", "def later():\n    import shtab"),
    "tensorboardX": ("trials/search/plan.py", "import tensorboardX"),
    "pytest": ("trials/search/plan.py", "import pytest"),
    "a conformance test": ("trials/search/plan.py", "from trials.strategies import conformance"),
    "a room that has no place": ("trials/attic/__init__.py", ""),
}


@pytest.mark.slow
@pytest.mark.parametrize(("file", "line"), BREAKS.values(), ids=BREAKS.keys())
def test_a_broken_contract_is_seen(copy: Path, file: str, line: str) -> None:
    path = copy / file
    before = path.read_text() if path.exists() else None
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{before or ''}\n\n{line}\n")
    try:
        checked = lint(copy)
    finally:
        if before is None:
            shutil.rmtree(path.parent)
        else:
            path.write_text(before)
    assert checked.returncode == 1, checked.stdout + checked.stderr
    assert "BROKEN" in checked.stdout or "attic" in checked.stdout
