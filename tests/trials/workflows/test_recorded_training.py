"""What is decided before a training begins."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from tests.trials.workflows.shipped_model import ARCH
from trials.runs.train_options import TrainOptions
from trials.workflows.recorded_training import RecordedTraining, record_training


@pytest.fixture
def network(tmp_path: Path) -> Path:
    from sret_nas.yaml_files import dump_yaml

    path = tmp_path / "network.yaml"
    path.write_text(dump_yaml(ARCH.to_dict()))
    return path


def test_a_warm_up_that_was_made_shorter_is_told_and_recorded(network: Path, tmp_path: Path) -> None:
    printed = io.StringIO()
    options = TrainOptions.parse({"architecture": str(network), "recipe": "small"}, "train")
    recorded, _ = record_training(ARCH, options, {"epochs": 2}, tmp_path / "run", Console(file=printed, width=120))
    assert "it warms up for 1 here\n" in printed.getvalue()
    again = RecordedTraining.model_validate(recorded.model_dump(mode="json"))
    assert (again.recipe.epochs, again.recipe.warmup_epochs) == (2, 1.0)
