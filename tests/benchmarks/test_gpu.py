"""The script for a GPU, in tiny sizes on a CPU, so that it works when a GPU is there."""

from __future__ import annotations

import pytest
import torch

from benchmarks.gpu.run import TINY, inference, medians, supernet_steps, training_steps

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


def test_every_way_takes_its_turn_after_two_that_do_not_count() -> None:
    turns: list[str] = []
    found = medians({"one": lambda: turns.append("one"), "two": lambda: turns.append("two")}, CPU, rounds=3)
    assert turns == ["one", "two"] * 5
    assert set(found) == {"one", "two"}


def test_steps_and_passes_are_timed() -> None:
    steps = training_steps(CPU, TINY, None)
    assert set(steps["sret_t"]["ms"]) == {"fp32", "tf32", "bf16"}
    assert set(supernet_steps(CPU, TINY)["ms"]) == {"fp32", "bf16"}
    passes = inference(CPU, TINY, None)
    assert set(passes) == {"batch 1", "batch 3"}
    times = [*steps["sret_s"]["ms"].values(), *passes["batch 3"]["ms"].values()]
    assert all(milliseconds > 0 for milliseconds in times)
    assert torch.get_float32_matmul_precision() == "highest"
