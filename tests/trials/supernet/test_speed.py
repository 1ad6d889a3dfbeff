"""How long a supernet's training takes, as it is planned from the networks that are to come."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sret_nas.arch.cost import cost_of
from tests.trials.supernet.tiny_supernet import config, spec
from trials.data import PreparedData
from trials.supernet import training
from trials.supernet.speed import seconds_per_step, steps_within


def test_a_time_budget_is_planned_from_the_networks_that_are_to_come(
    data: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock by which a pass takes 2 ms and a MFLOP 5 ms: then the expected step is that of the mean network."""
    clock = [0.0]

    def train_step(self: training.SupernetTraining, *batch: torch.Tensor) -> float:
        archs = self.networks.of_step(self.state.counts.steps, self.steps)
        self.state.counts.steps += 1
        clock[0] += sum(0.002 + 0.005 * cost_of(arch).flops / 1e6 for arch in archs)
        return 0.0

    monkeypatch.setattr(training.SupernetTraining, "train_step", train_step)
    alone = training.Processes(0, 1, torch.device("cpu"))
    how = config(images=13 * 32, step_rule="single")
    measured = training.SupernetTraining(tmp_path, spec(how), data, alone)
    flops = [cost_of(measured.networks.of_step(step, 256)[0]).flops for step in range(256)]
    expected = 0.002 + 0.005 * sum(flops) / 256 / 1e6
    assert seconds_per_step(measured, lambda: clock[0]) == pytest.approx(expected, rel=1e-5)
    assert (steps_within(100.0, 0.5), steps_within(0.1, 0.5)) == (180, 1)
