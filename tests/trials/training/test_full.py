"""Whole trainings: killed and continued, in two processes, with all depths, and what ends them."""

from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor

from sret_nas.errors import UserError
from sret_nas.nn.model_directory import read_info, read_model
from tests.forked import Forked
from tests.full_disk import largest_file
from tests.trials.distributed.two_ranks import run_in_two_ranks
from tests.trials.training import tiny_training
from tests.trials.training.tiny_training import ARCH, BUSY, recipe, run, spec, train_and_print_steps, weights
from trials.data.whole_images import WholeImages
from trials.distributed.processes import process_group
from trials.training import full, full_state
from trials.training.full_progress import FullProgress
from trials.training.full_state import Counts
from trials.training.losses import soft_cross_entropy
from trials.training.recipe import DivergedError


@pytest.fixture(scope="module")
def images() -> WholeImages:
    return WholeImages.find(tiny_training.DATA)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def assert_equal(one: dict[str, Tensor], two: dict[str, Tensor]) -> None:
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert torch.equal(value, two[name]), name


@pytest.mark.slow
def test_a_training_that_was_killed_ends_in_the_same_weights(images: WholeImages, tmp_path: Path) -> None:
    """In the middle of its second epoch, with a process that reads images; it continues without one."""
    how: dict[str, Any] = {"changes": BUSY, "schedule": "joint"}
    whole = run(tmp_path / "whole", spec(**how), images)
    process = Forked(lambda: train_and_print_steps(tmp_path / "killed", spec(**how, workers=1)))
    assert any(int(line) >= 5 for line in process.stdout)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    continued = run(tmp_path / "killed", spec(**how), images)
    assert_equal(weights(tmp_path / "whole"), weights(tmp_path / "killed"))
    assert continued == whole
    epochs = [
        [{**json.loads(line), "seconds": None} for line in (tmp_path / name / full.METRICS).read_text().splitlines()]
        for name in ("whole", "killed")
    ]
    assert epochs[0] == epochs[1]
    assert [epoch["epoch"] for epoch in epochs[0]] == [1, 2]


@pytest.mark.slow
def test_a_training_that_was_killed_while_it_replaced_its_best_network_ends(
    images: WholeImages, tmp_path: Path
) -> None:
    whole = run(tmp_path, spec({}), images)
    (tmp_path / full.BEST).rename(tmp_path / f".{full.BEST}.abcd1234.old")
    assert run(tmp_path, spec({}), images) == whole
    assert read_info(tmp_path / full.BEST).metrics == whole


@pytest.mark.slow
def test_best_weights_that_are_gone(images: WholeImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a lost run directory, of which only the checkpoint could be kept, or if somebody moves them away."""
    step = full.FullTraining.train_step

    def stop_after_an_epoch(self: full.FullTraining, stream: Iterator[tuple[Tensor, Tensor]]) -> float | None:
        if self.state.counts.validated_epochs == 1:
            raise KeyboardInterrupt
        return step(self, stream)

    best, console, how = tmp_path / full.BEST, Console(file=io.StringIO(), width=300), spec(BUSY)
    monkeypatch.setattr(full.FullTraining, "train_step", stop_after_an_epoch)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, how, images)
    monkeypatch.undo()
    best.rename(tmp_path / "shipped")
    assert run(tmp_path, how, images, console)["validation"]["epoch"] == 2
    assert isinstance(console.file, io.StringIO)
    said = f"note: {best}, the weights of epoch 1, is gone: the best of the epochs from here on takes its place"
    assert said in console.file.getvalue()
    best.rename(tmp_path / "shipped as well")
    with pytest.raises(UserError) as error:
        run(tmp_path, how, images)
    assert str(error.value) == (
        f"{best}: the best weights, those of epoch 2, are gone: put the folder back and resume the training, or delete "
        f"{tmp_path / 'checkpoint.pt'} to start anew"
    )
    (tmp_path / "checkpoint.pt").unlink()
    assert run(tmp_path, how, images, console)["validation"]["epoch"] == 2
    assert f"note: {tmp_path} has no checkpoint.pt: the training starts again" in console.file.getvalue()
    assert console.file.getvalue().count("starts again") == 1


SCHEDULES = ("joint", "sandwich", "random", "growing")


@pytest.mark.slow
def test_two_processes_train_as_one_that_computes_both_parts(
    images: WholeImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every schedule. The same views, mixing, permutations and drop path belong to a part wherever it runs."""

    def train() -> None:
        for schedule in SCHEDULES:
            run(tmp_path / "two" / schedule, spec(BUSY, schedule), images)

    run_in_two_ranks(train, tmp_path / "store")
    for schedule in SCHEDULES:
        run(tmp_path / "one" / schedule, spec({**BUSY, "gradient_accumulation": 2}, schedule), images)
        one, two = weights(tmp_path / "one" / schedule), weights(tmp_path / "two" / schedule)
        assert one.keys() == two.keys()
        for name, value in one.items():
            # Running statistics are of one part, and nothing uses them. BatchNorm takes biases away, and softmax the
            # biases of keys, so their gradients are rounding alone, which Adam makes into steps.
            if "stem.norms" in name or ("stem.convs" in name and name.endswith("bias")):
                continue
            ours, theirs = value, two[name]
            if name.endswith("qkv.bias"):
                ours, theirs = (torch.cat((bias.chunk(3)[0], bias.chunk(3)[2])) for bias in (ours, theirs))
            # Adam divides by the gradient's size, so rounding in small ones grows; a step is up to the rate, 2e-3.
            torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5, msg=f"{schedule} {name}")


@pytest.mark.slow
def test_a_run_has_all_its_files(images: WholeImages, tmp_path: Path) -> None:
    metrics = run(tmp_path, spec({"ema_decay": 0.5}, "random"), images)
    assert {path.name for path in tmp_path.iterdir()} == {
        "best",
        "last",
        "checkpoint.pt",
        "metrics.jsonl",
        "tensorboard",
    }
    best, info = read_model(tmp_path / "best")
    assert info.metrics == metrics
    assert metrics["test"]["images"] == 20
    assert metrics["validation"]["images"] == 20
    assert info.class_names == images.class_names
    assert info.recipe is not None
    assert info.recipe["depth_schedule"] == "random"
    epochs = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert metrics["validation"]["error"] == min(epoch["validation"]["error"] for epoch in epochs)
    last, _ = read_model(tmp_path / "last")
    coefficients = {name: round(value, 5) for name, value in last.residual_coefficients().items()}
    assert epochs[-1]["residual_coefficients"] == coefficients
    assert set(coefficients.values()) != {1.0}
    (scalars,) = (tmp_path / "tensorboard").iterdir()
    assert b"residual/stage1/block1/attention/branch" in scalars.read_bytes()
    state, stored = last.state_dict(), weights(tmp_path)
    assert torch.equal(state["head.weight"], stored["averaged head.weight"])
    assert not torch.equal(state["head.weight"], stored["head.weight"])
    assert best.arch == ARCH


@pytest.mark.slow
def test_precision_and_memory_format(images: WholeImages, tmp_path: Path) -> None:
    """Of the passes alone: weights stay fp32. bf16 rounds them visibly, another order of memory does not."""
    short = {"epochs": 1, "warmup_epochs": 0.0}
    trained = {}
    for name, changes in (("plain", {}), ("bf16", {"precision": "bf16"}), ("last", {"channels_last": True})):
        run(tmp_path / name, spec({**short, **changes}), images)
        trained[name] = weights(tmp_path / name)["head.weight"]
    assert {weight.dtype for weight in trained.values()} == {torch.float32}
    torch.testing.assert_close(trained["last"], trained["plain"], rtol=0, atol=2e-5)
    assert 1e-6 < (trained["bf16"] - trained["plain"]).abs().max() < 1e-2


@pytest.mark.slow
def test_statistics_of_the_stem_are_those_of_the_kept_weights(images: WholeImages, tmp_path: Path) -> None:
    """On all training images at once: for the first BatchNorm, mean and variance of the first convolution's output."""
    run(tmp_path, spec({"recalibration_images": 48, "batch_size": 48, "epochs": 1, "warmup_epochs": 0.0}), images)
    network, info = read_model(tmp_path / "last")
    transform = full.evaluation_transform(info.preprocessing)
    batch = torch.stack([transform(images.train.load(index, "L")) for index in range(48)])
    with torch.no_grad():
        features = network.stem.convs[0](batch)
    torch.testing.assert_close(network.stem.norms[0].running_mean, features.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(network.stem.norms[0].running_var, features.var(dim=(0, 2, 3)), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_step_without_finite_numbers_is_skipped(
    images: WholeImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = full_state.DepthTask.forward
    calls = 0

    def broken(self: Any, *arguments: Any) -> dict[str, Tensor]:
        nonlocal calls
        calls += 1
        result = whole(self, *arguments)
        return {**result, "loss": result["loss"] * (float("nan") if calls in (2, 3) else 1.0)}

    monkeypatch.setattr(full_state.DepthTask, "forward", broken)
    run(tmp_path / "two", spec({"ema_decay": 0.5}), images)
    epochs = [json.loads(line) for line in (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()]
    assert [epoch["skipped_steps"] for epoch in epochs] == [2, 2]
    assert all(torch.isfinite(value).all() for value in weights(tmp_path / "two").values())

    monkeypatch.setattr(full_state.DepthTask, "forward", lambda *args: {"loss": whole(*args)["loss"] * float("inf")})
    with pytest.raises(DivergedError, match=r"not finite in 10 steps in a row, up to step 10 of 12, .*lower"):
        run(tmp_path / "all", spec({"epochs": 4}), images)


@pytest.mark.slow
def test_a_full_disk_leaves_the_checkpoint_before(images: WholeImages, tmp_path: Path) -> None:
    how = spec({})
    whole = run(tmp_path / "whole", how, images)
    size = (tmp_path / "whole" / "checkpoint.pt").stat().st_size
    with largest_file(size - 1), pytest.raises(OSError, match=r"checkpoint\.pt"):
        run(tmp_path / "full", how, images)
    content = torch.load(tmp_path / "full" / "checkpoint.pt", weights_only=True)
    assert json.loads(content["counts"])["steps"] == 3  # it is a little shorter than the one after the second epoch
    assert run(tmp_path / "full", how, images) == whole


@pytest.mark.slow
def test_ctrl_c_leaves_a_checkpoint(images: WholeImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_step = full.FullTraining.train_step

    def interrupted(self: full.FullTraining, stream: Iterator[tuple[Tensor, Tensor]]) -> float | None:
        if self.state.counts.steps == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return train_step(self, stream)

    with monkeypatch.context() as patch:
        patch.setattr(full.FullTraining, "train_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, spec({}), images)
    content = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert json.loads(content["counts"])["steps"] == 4


@pytest.mark.slow
def test_another_training_in_the_directory_is_refused(images: WholeImages, tmp_path: Path) -> None:
    run(tmp_path, spec({"epochs": 1, "warmup_epochs": 0.0}), images)
    with pytest.raises(UserError, match=r"of a training with another recipe\.learning_rate: it was 0.002, got 0.001"):
        run(tmp_path, spec({"epochs": 1, "warmup_epochs": 0.0, "learning_rate": 0.001}), images)


@pytest.mark.parametrize(
    ("changes", "processes", "size"),
    [({}, 1, 16), ({"mixup": 0.2}, 1, 16), ({"batch_size": 100}, 1, 48), ({"batch_size": 64, "mixup": 0.2}, 5, 40)],
)
def test_batches_are_full_and_equally_shared(changes: dict[str, Any], processes: int, size: int) -> None:
    plan = full.plan_of(recipe(**changes), 48, 0, processes)
    assert (plan.batch_size, plan.steps_per_epoch) == (size, 48 // size)
    parts = [plan.microbatch(0, part) for part in range(processes)]
    assert {len(part) for part in parts} == {size // processes}
    assert sorted(view for part in parts for view in part) == sorted(plan.views(0))


@pytest.mark.parametrize(("changes", "processes"), [({}, 3), ({"mixup": 0.2}, 16), ({"gradient_accumulation": 8}, 2)])
def test_batches_that_cannot_be_shared(changes: dict[str, Any], processes: int) -> None:
    with pytest.raises(UserError, match=r"--batch-size must give every one of .* got a batch of 16"):
        full.plan_of(recipe(**changes), 48, 0, processes)


@pytest.mark.parametrize("teaches", [False, True])
def test_the_deepest_pass_teaches_the_shallower_ones(images: WholeImages, tmp_path: Path, teaches: bool) -> None:
    stages = tuple(stage.model_copy(update={"groups": (1,) * stage.recursions}) for stage in ARCH.stages)
    arch = ARCH.model_copy(update={"stages": stages, "drop_path": 0.0})  # nothing random in a pass
    how = spec({"depth_distillation": teaches, "clip_norm": None}, "joint", arch)
    with process_group("cpu") as processes:
        training = full.FullTraining(tmp_path, how, images, processes, None)
        inputs, labels = next(training.microbatches(range(1)))
        passes = [training.state.network.train()(inputs, depth) for depth in (1, 2, 3)]
        deepest = F.cross_entropy(passes[2], labels, label_smoothing=0.1)
        if teaches:
            shallow = [soft_cross_entropy(logits, passes[2].detach()) for logits in passes[:2]]
        else:
            shallow = [F.cross_entropy(logits, labels, label_smoothing=0.1) for logits in passes[:2]]
        expected = (deepest + sum(shallow)) / 3
        gradients = torch.autograd.grad(expected, training.state.network.parameters())
        loss = training.train_step(training.microbatches(range(1)))
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    for parameter, gradient in zip(training.state.network.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("ends", ["in validation", "in the test"])
def test_scores_that_are_not_finite_end_a_training_before_they_are_written(
    ends: str, images: WholeImages, tmp_path: Path
) -> None:
    """No resume could read them."""
    with process_group("cpu") as processes, FullProgress(None, Counts(), 6, 3, Console(quiet=True)) as progress:
        training = full.FullTraining(tmp_path, spec({}), images, processes, None)
        training.state.counts.steps = 6
        with torch.no_grad():
            training.state.evaluated.head.weight.fill_(3e38)  # finite, unlike logits
        if ends == "in the test":
            training._write_model(full.BEST, training.state.evaluated, {"validation": {"error": 0.5}}, progress)
        with pytest.raises(DivergedError, match=r"cross-entropy is nan after step 6 of 6: lower --learning-rate"):
            training._validate(progress) if ends == "in validation" else training._finish(progress)
    assert not (tmp_path / full.METRICS).exists()
    assert not training.state.counts.epochs
    if ends == "in the test":
        assert "test" not in read_info(tmp_path / full.BEST).metrics
