"""Trainings under torchrun, and what tests compare of their results."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from sret_nas.nn.supernet import Supernet
from tests import REPOSITORY
from trials.supernet.state import CHECKPOINT
from trials.supernet.training import SUPERNET

MARK_SECONDS = 1e6

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
INTERRUPTED = """
import sys
from cli import main
from trials.supernet.training import SupernetTraining
train_step = SupernetTraining.train_step
def interrupted(self, images, labels):
    if self.state.counts.steps == INTERRUPTED_AT:
        raise KeyboardInterrupt
    return train_step(self, images, labels)
SupernetTraining.train_step = interrupted
sys.exit(main(sys.argv[1:]))
"""
"""The command line, interrupted once a training has made so many steps."""


def torchrun(*arguments: str, script: Path = REPOSITORY / "cli.py", code: int = 0) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    ended = subprocess.run(
        [*TORCHRUN, str(script), *arguments], check=False, env=environment, capture_output=True, text=True
    )
    assert (ended.returncode == 0) == (code == 0), ended.stderr


def weights(directory: Path) -> dict[str, Tensor]:
    return safetensors.torch.load_file(directory / SUPERNET)


def assert_same(directory: Path, whole: Path) -> None:
    """Asserts that weights, optimiser and records are equal bit for bit, except durations."""
    expected = weights(whole)
    for name, value in weights(directory).items():
        assert torch.equal(value, expected[name]), name
    records = [Supernet.load(path / SUPERNET)[1] for path in (directory, whole)]
    for record in records:
        record.pop("seconds")
    assert records[0] == records[1]
    states = [torch.load(path / CHECKPOINT, weights_only=True) for path in (directory, whole)]
    assert states[0]["identity"] == states[1]["identity"]
    moments = [state["optimizer"]["state"] for state in states]
    assert moments[0].keys() == moments[1].keys()
    for number, moment in moments[0].items():
        assert torch.equal(moment["exp_avg_sq"], moments[1][number]["exp_avg_sq"])


def mark(directory: Path) -> None:
    """Adds many seconds to the checkpoint. A training that starts anew has the same weights, but not these seconds."""
    content = torch.load(directory / CHECKPOINT, weights_only=True)
    content["counts"]["seconds"] += MARK_SECONDS
    torch.save(content, directory / CHECKPOINT)


def assert_carried_on(directory: Path, whole: Path) -> None:
    assert Supernet.load(directory / SUPERNET)[1]["seconds"] > MARK_SECONDS
    assert_same(directory, whole)


def steps_of(directory: Path) -> int:
    return int(torch.load(directory / CHECKPOINT, weights_only=True)["counts"]["steps"])
