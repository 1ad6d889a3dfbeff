"""Trainings that cannot fit into memory are refused before a network is built."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sret_nas.arch.presets import PRESETS
from sret_nas.errors import UserError
from sret_nas.space.search_space import SearchSpace
from sret_nas.space.supernet_shape import bounding_shape
from tests.counted_spaces import shipped
from trials.machine import memory_bytes
from trials.supernet import training
from trials.training.devices import device_memory
from trials.training.memory import require_memory
from trials.worker import evaluate


def test_a_parameter_takes_sixteen_bytes() -> None:
    require_memory(1000, 16_000, "the network", "make it smaller")
    with pytest.raises(UserError) as caught:
        require_memory(2 * 10**9, 25 * 10**9, "the network", "make it smaller")
    assert str(caught.value) == (
        "the network has 2G parameters: training it takes at least 32 GB of memory, "
        "and there are 25 GB: make it smaller"
    )


def test_a_container_may_have_less_memory_than_the_machine(tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    physical = memory_bytes(limit)
    assert physical > 2**20
    limit.write_text("max\n")
    assert memory_bytes(limit) == physical
    limit.write_text("1048576\n")
    assert memory_bytes(limit) == 2**20
    assert device_memory(torch.device("cpu")) <= physical


def test_a_proxy_that_cannot_fit_is_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "device_memory", lambda device: 10**6)
    monkeypatch.setattr(evaluate, "SReT", None)
    with pytest.raises(UserError, match=r"^the proxy .* has 4\.\d+M parameters: .* --params-budget"):
        evaluate.build(PRESETS["sret_t"], "cpu", seed=0)


def test_a_supernet_that_cannot_fit_is_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = bounding_shape(shipped("sret_tiny"))
    monkeypatch.setattr(training, "device_memory", lambda device: 10**6)
    with pytest.raises(UserError, match=r"^the supernet of sret_tiny has \d\.\d+M parameters: .* --no-supernet"):
        training._require_memory(shape, "sret_tiny", torch.device("cpu"))


def test_the_parameters_of_a_supernet_are_counted_before_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = bounding_shape(SearchSpace.load("smoke"))
    num_params = sum(parameter.numel() for parameter in training.Supernet(shape).parameters())
    monkeypatch.setattr(training, "device_memory", lambda device: 16 * num_params)
    training._require_memory(shape, "smoke", torch.device("cpu"))
    monkeypatch.setattr(training, "device_memory", lambda device: 16 * num_params - 1)
    with pytest.raises(UserError, match="the supernet of smoke"):
        training._require_memory(shape, "smoke", torch.device("cpu"))
