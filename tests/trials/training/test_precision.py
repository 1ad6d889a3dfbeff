"""The choice of a precision, and trainings in it."""

from __future__ import annotations

import pytest
import torch

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.parts import StageConfig
from trials.data import DataConfig, PreparedData, prepare
from trials.training import precision
from trials.training.precision import choose_precision, passes_in
from trials.training.recipe import Precision, TrainingConfig
from trials.training.train import Training, score
from trials.worker.evaluate import build

ARCH = ArchConfig(
    stages=(StageConfig(width=16, heads=2, blocks=1, recursions=2, groups=(2, 1)),),
    image_size=32, channels=1, classes=10,
)  # fmt: skip
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    config = DataConfig(image_size=32, max_train=128, max_val=100, max_test=10)
    return prepare(config, tmp_path_factory.mktemp("data") / "prepared", None)


def trained(data: PreparedData, precision: Precision) -> Training:
    config = TrainingConfig(images=128, batch_size=32)
    training = Training(build(ARCH, "cpu", seed=1), data, config, "full", 1, precision)
    training.run()
    return training


@pytest.mark.parametrize("has_instructions", [False, True])
def test_auto_is_bf16_where_the_device_multiplies_it(has_instructions: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "multiplies_bf16", lambda device: has_instructions)
    assert choose_precision("auto", CPU) == ("bf16" if has_instructions else "fp32")
    assert choose_precision("fp32", CPU) == "fp32"
    assert choose_precision("bf16", CPU) == "bf16"


def test_passes_are_in_the_precision_and_nothing_else_is() -> None:
    network = build(ARCH, "cpu", seed=0)
    seen = []
    network.stages[0].blocks[0].attn.qkv.register_forward_hook(  # type: ignore[union-attr, index]
        lambda module, inputs, output: seen.append(output.dtype)
    )
    for name in ("fp32", "bf16"):
        with passes_in(name, CPU):  # type: ignore[arg-type]
            network(torch.randn(2, 1, 32, 32))
    assert seen == [torch.float32] * 2 + [torch.bfloat16] * 2
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


@pytest.mark.slow
def test_a_training_in_bf16_is_near_that_in_fp32_and_equal_to_itself(data: PreparedData) -> None:
    exact, rough, again = trained(data, "fp32"), trained(data, "bf16"), trained(data, "bf16")
    assert rough.losses == again.losses
    assert rough.losses != exact.losses
    assert rough.losses == pytest.approx(exact.losses, rel=0.02)
    scores = [score(rough.network, data.val, 32, precision=name) for name in ("fp32", "bf16")]  # type: ignore[arg-type]
    assert scores[0] != scores[1]
    assert scores[1].cross_entropy == pytest.approx(scores[0].cross_entropy, rel=0.02)


def test_the_residual_stream_is_in_fp32_from_the_first_block_on() -> None:
    network = build(ARCH, "cpu", seed=0)
    with passes_in("bf16", CPU):
        tokens = network.stages[0].blocks[0](torch.randn(2, 9, 16).bfloat16())  # type: ignore[index, operator]
    assert tokens.dtype == torch.float32
