"""The programs in examples/ run as they stand, in a folder of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from statistics import fmean

import pytest

from sret_nas import ArchConfig, SearchSpace, SReT, StageConfig
from sret_nas.arch.result_file import write_result

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def run(example: str, *arguments: str, folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / example), *arguments],
        capture_output=True, text=True, check=False, cwd=folder, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_result_is_loaded_and_trained(tmp_path: Path) -> None:
    stage = StageConfig(width=8, heads=2, blocks=1, recursions=2, groups=(2, 1))
    arch = ArchConfig(stages=(stage,), image_size=32, classes=3)
    write_result(tmp_path / "best.yaml", arch, metrics={}, recipe={}, provenance={})
    output = run("train_a_result.py", "best.yaml", "--steps", "120", "--batch-size", "4", folder=tmp_path)
    losses = [float(loss) for loss in re.findall(r"loss ([\d.]+)", output)]
    assert len(losses) == 120
    assert fmean(losses[-8:]) < 0.8 * fmean(losses[:8])  # it learns its few images by heart
    assert SReT.load(tmp_path / "trained.safetensors").arch.arch_id == arch.arch_id


def test_a_space_is_made_counted_and_written(tmp_path: Path) -> None:
    output = run("own_space.py", folder=tmp_path)
    space = SearchSpace.load(tmp_path / "mine.yaml")
    counted = re.search(r"^([\d,]+) networks, ([\d,]+) of them within 8 MFLOPs$", output, re.MULTILINE)
    assert counted is not None
    networks, inside = (int(number.replace(",", "")) for number in counted.groups())
    assert 0 < inside < networks == space.num_networks
    flops = [int(number.replace(",", "")) for number in re.findall(r"([\d,]+) FLOPs", output)]
    assert len(flops) == 3
    assert max(flops) <= 8_000_000


def test_our_strategy_proposes_in_an_optuna_study(tmp_path: Path) -> None:
    output = run("optuna_study.py", "--trials", "3", "--epochs", "1", folder=tmp_path)
    front = re.findall(r"error ([\d.]+) %, ([\d,]+) FLOPs", output)
    flops = [int(number.replace(",", "")) for _, number in front]
    errors = [float(error) for error, _ in front]
    assert flops == sorted(flops)
    assert errors == sorted(errors, reverse=True)
    assert 0 < max(flops) <= 200_000


def test_every_example_is_tested() -> None:
    tested = set(re.findall(r'run\("(\w+\.py)"', Path(__file__).read_text()))
    assert tested == {path.name for path in EXAMPLES.glob("*.py")}
