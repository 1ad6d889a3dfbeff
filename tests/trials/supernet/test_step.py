"""One step against the same step in plain autograd."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.nn.supernet import Supernet
from sret_nas.space.supernet_shape import bounding_shape
from tests.trials.supernet.tiny_supernet import SPACE, config
from trials.distributed.processes import Processes
from trials.supernet.networks import StepNetworks
from trials.supernet.state import TrainingState
from trials.supernet.step import SupernetStep

ALONE = Processes(0, 1, torch.device("cpu"))
NETWORKS = StepNetworks(SPACE, Budget(), config(), lambda arch: arch, 0)
ARCHS = NETWORKS.of_step(0, 10)


def supernet() -> Supernet:
    """Returns a supernet in training mode with fixed permutations, and no weight at its initial value."""
    torch.manual_seed(0)
    made = Supernet(bounding_shape(SPACE)).train()
    made.fresh_permutations = False
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def batch(number: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(number, 3, 16, 16, generator=generator), torch.arange(number) % 10


def gradients(made: Supernet) -> dict[str, torch.Tensor]:
    return {name: weight.grad.clone() for name, weight in made.named_parameters() if weight.grad is not None}


def gradients_of_step(archs: Sequence[ArchConfig], **options: Any) -> tuple[dict[str, torch.Tensor], float]:
    """Returns the unclipped gradients, and the loss."""
    how = config(**options)
    how = how.model_copy(update={"training": how.training.model_copy(update={"clip_norm": 1e9})})
    made = supernet()
    loss = SupernetStep(made, how, ALONE)(archs, *batch(), learning_rate=1e-3)
    assert loss is not None
    return gradients(made), loss


def assert_close(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.slow
def test_a_sandwich_sums_the_others_soft_losses_and_the_largest_s_own() -> None:
    made, (images, labels) = supernet(), batch()
    teacher = made(images, ARCHS[0])
    losses = [F.cross_entropy(teacher, labels, label_smoothing=0.1)]
    fixed = teacher.detach().softmax(dim=1)
    losses += [F.cross_entropy(made(images, arch), fixed) for arch in ARCHS[1:]]
    loss = sum(losses, torch.zeros(())) / len(losses)
    loss.backward()
    found, value = gradients_of_step(ARCHS)
    assert_close(found, gradients(made))
    assert value == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"distil": False}, {"step_rule": "single"}], ids=["distil", "rule"])
def test_without_distillation_all_learn_the_true_labels(options: dict[str, Any]) -> None:
    made, (images, labels) = supernet(), batch()
    for arch in ARCHS:
        (F.cross_entropy(made(images, arch), labels, label_smoothing=0.1) / len(ARCHS)).backward()
    assert_close(gradients_of_step(ARCHS, **options)[0], gradients(made))


@pytest.mark.slow
def test_an_accumulated_batch_is_the_mean_of_its_parts() -> None:
    """Parts of 3, 3 and 2 images are weighted by size. Each has its own BatchNorm statistics."""
    made, (images, labels) = supernet(), batch()
    for chosen in (slice(0, 3), slice(3, 6), slice(6, 8)):
        for arch in ARCHS:
            loss = F.cross_entropy(made(images[chosen], arch), labels[chosen], label_smoothing=0.1)
            (loss * len(labels[chosen]) / 8 / len(ARCHS)).backward()
    assert_close(gradients_of_step(ARCHS, distil=False, gradient_accumulation=3)[0], gradients(made))


def test_what_no_network_used_keeps_its_weights_bit_for_bit() -> None:
    """Not even weight decay applies. Everything that was used changes."""
    made = supernet()
    step = SupernetStep(made, config(step_rule="single"), ALONE)
    for arch in (NETWORKS.largest, NETWORKS.smallest):  # so that AdamW has momenta of everything
        step([arch], *batch(), learning_rate=1e-2)
    before = {name: parameter.detach().clone() for name, parameter in made.named_parameters()}
    step([NETWORKS.smallest], *batch(), learning_rate=1e-2)
    used = gradients(made).keys()
    moved = {name for name, parameter in made.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == used
    assert "stages.0.blocks.0.attn.qkv.weight" in used
    assert not any(name.startswith(("stages.0.blocks.1", "stages.0.nlls", "stages.1.blocks.1")) for name in used)


@pytest.mark.parametrize("spoiled", ["loss", "gradient"])
def test_a_step_that_is_not_finite_changes_nothing(spoiled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = supernet()
    state = TrainingState(made, config(), ALONE)
    state.step(ARCHS, *batch(), learning_rate=1e-2)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    moments = [value.clone() for held in state.step.optimizer.state.values() for value in held.values()]
    images, labels = batch()
    if spoiled == "loss":
        images[0, 0, 0, 0] = math.nan
    else:
        made.head.weight.register_hook(lambda gradient: gradient * math.inf)
    assert state.step(ARCHS, images, labels, learning_rate=1e-2) is None
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
    after = [value for held in state.step.optimizer.state.values() for value in held.values()]
    assert all(torch.equal(value, other) for value, other in zip(after, moments, strict=True))


def test_the_gradient_is_clipped_as_a_whole() -> None:
    how = config()
    how = how.model_copy(update={"training": how.training.model_copy(update={"clip_norm": 1e-3})})
    made = supernet()
    SupernetStep(made, how, ALONE)(ARCHS, *batch(), learning_rate=1e-3)
    norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients(made).values()))
    assert norm == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.slow
def test_bf16_runs_the_passes_and_leaves_weights_and_gradients_in_single_precision() -> None:
    exact, loss = gradients_of_step(ARCHS)
    rough, rough_loss = gradients_of_step(ARCHS, precision="bf16")
    assert {gradient.dtype for gradient in rough.values()} == {torch.float32}
    assert rough_loss == pytest.approx(loss, rel=0.02)
    assert rough_loss != loss
    flat, rough_flat = (torch.cat([gradient.flatten() for gradient in found.values()]) for found in (exact, rough))
    assert float(F.cosine_similarity(flat, rough_flat, dim=0)) > 0.98


@pytest.mark.slow
def test_the_deepest_pass_of_a_random_network_teaches_its_shallower_ones() -> None:
    how: dict[str, Any] = {"step_rule": "single", "depth_schedule": "joint", "depth_distillation": True}
    drawn = StepNetworks(SPACE, Budget(), config(**how), lambda arch: arch, 0)
    archs = next(archs for step in range(20) if len(archs := drawn.of_step(step, 20)) == 3)
    assert [arch.max_recursions for arch in archs] == [3, 2, 1]
    made, (images, labels) = supernet(), batch()
    deepest, *shallow = [made(images, arch) for arch in archs]
    loss = F.cross_entropy(deepest, labels, label_smoothing=0.1)
    fixed = deepest.detach().softmax(dim=1)
    loss = (loss + sum(F.cross_entropy(logits, fixed) for logits in shallow)) / 3
    loss.backward()
    found, value = gradients_of_step(archs, **how)
    assert_close(found, gradients(made))
    assert value == pytest.approx(loss.item(), rel=1e-5)
