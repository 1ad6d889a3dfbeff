"""Training of a supernet: it learns, is deterministic, and interruptions do not change its result."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from sret_nas.arch.budget import Budget
from sret_nas.errors import BudgetError, UserError
from sret_nas.nn.supernet import Supernet
from sret_nas.space.search_space import SearchSpace
from tests.forked import Forked
from tests.trials.distributed.two_ranks import run_in_two_ranks
from tests.trials.supernet import tiny_supernet
from tests.trials.supernet.tiny_supernet import SPACE, config, proxy, train_and_print_steps, trained
from trials.data import PreparedData
from trials.interruption import StepAborted, handle_interruptions
from trials.supernet import training
from trials.supernet.config import SupernetConfig
from trials.supernet.inherit import extract_for_eval
from trials.supernet.networks import extreme
from trials.supernet.state import CHECKPOINT, require_same_supernet
from trials.supernet.step import SupernetStep
from trials.training.recipe import DivergedError, ProxyConfig, TrainingConfig, proxy_arch
from trials.training.train import score

pytestmark = pytest.mark.slow


def weights(path: Path) -> dict[str, torch.Tensor]:
    return Supernet.load(path)[0].state_dict()


def assert_same_weights(path: Path, other: Path) -> None:
    ours, theirs = weights(path), weights(other)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def start(directory: Path, data: PreparedData, how: SupernetConfig) -> Forked:
    """Starts the same training in another process, which prints the number of steps after each."""
    return Forked(lambda: train_and_print_steps(directory, data, how))


def read_until(process: Forked, step: int) -> None:
    for line in process.stdout:
        if int(line) == step:
            return
    pytest.fail(f"the training ended before step {step}")


HOW = config(images=8 * 32, random_networks=1, depth_schedule="random")


@pytest.fixture(scope="module")
def whole(data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns an uninterrupted training; read-only for the tests that share it."""
    return trained(tmp_path_factory.mktemp("whole"), data, HOW)


def assert_same_training(whole: Path, other: Path) -> None:
    assert_same_weights(whole, other)
    ours, theirs = (Supernet.load(path)[1] for path in (whole, other))
    assert {**ours, "seconds": 0} == {**theirs, "seconds": 0}


def test_a_training_killed_and_carried_on_ends_in_the_same_weights_bit_for_bit(
    whole: Path, data: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed, and what it left is carried on. So is what a kill then would leave in the second epoch: a copy of
    all that is there after 6 steps, of which an epoch has 4."""
    process = start(tmp_path / "killed", data, HOW)
    read_until(process, 2)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / training.SUPERNET).exists()

    train_step = training.SupernetTraining.train_step

    def copied_at_last(self: training.SupernetTraining, *batch: torch.Tensor) -> float | None:
        if self.state.counts.steps == 6:
            shutil.copytree(tmp_path / "killed", tmp_path / "killed again")
        return train_step(self, *batch)

    with monkeypatch.context() as patch:
        patch.setattr(training, "CHECKPOINT_SECONDS", -1.0)  # every step leaves one
        patch.setattr(training.SupernetTraining, "train_step", copied_at_last)
        assert_same_training(whole, trained(tmp_path / "killed", data, HOW))
    left = torch.load(tmp_path / "killed again" / CHECKPOINT, weights_only=True)
    assert left["counts"]["steps"] == 6
    assert_same_training(whole, trained(tmp_path / "killed again", data, HOW))


def test_ctrl_c_is_kept_until_the_step_is_done_and_then_leaves_a_checkpoint(
    data: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = itertools.count(1)
    train_step = training.SupernetTraining.train_step

    def interrupted_step(self: training.SupernetTraining, *batch: torch.Tensor) -> float | None:
        if next(steps) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return train_step(self, *batch)

    monkeypatch.setattr(training.SupernetTraining, "train_step", interrupted_step)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, data, HOW)
    assert signal.getsignal(signal.SIGINT) is before
    assert torch.load(tmp_path / CHECKPOINT, weights_only=True)["counts"]["steps"] == 3


def test_a_second_ctrl_c_gives_the_step_up_and_leaves_the_checkpoint_before_it(
    whole: Path, data: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of the third step, when weights are changed but not counted, which no checkpoint may hold."""
    times = itertools.count(1)
    step = SupernetStep.__call__

    def interrupted_step(self: SupernetStep, *arguments: Any) -> float | None:
        loss = step(self, *arguments)
        if next(times) == 3:
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
        return loss

    with monkeypatch.context() as patch:
        patch.setattr(training, "CHECKPOINT_SECONDS", -1.0)  # every step leaves one
        patch.setattr(SupernetStep, "__call__", interrupted_step)
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        handlers = [signal.getsignal(number) for number in numbers]
        handle_interruptions()
        with pytest.raises(StepAborted):
            trained(tmp_path / "stopped", data, HOW)
        signal.alarm(0)  # or the system would end the tests
        for number, handler in zip(numbers, handlers, strict=True):
            signal.signal(number, handler)
    assert torch.load(tmp_path / "stopped" / CHECKPOINT, weights_only=True)["counts"]["steps"] == 2
    assert_same_weights(whole, trained(tmp_path / "stopped", data, HOW))


def test_it_learns_and_says_what_it_did(data: PreparedData, tmp_path: Path) -> None:
    """With ten classes, guessing has a cross-entropy of log 10 = 2.30."""
    how = config(images=40 * 32, learning_rate=8e-3, random_networks=1, depth_schedule="random")
    supernet, record = Supernet.load(trained(tmp_path, data, how))
    for end in ("cheapest", "most_expensive"):
        arch = proxy_arch(extreme(SPACE, Budget(), end), proxy(), channels=data.channels, classes=10)
        assert score(extract_for_eval(supernet, arch, data, 32), data.val, 32).cross_entropy < 2.2
    assert (record["steps"], record["images"], record["skipped"]) == (40, 40 * 32, 0)
    assert SupernetConfig.model_validate(record["config"]) == how
    assert ProxyConfig.model_validate(record["proxy"]) == proxy()
    assert record["space"] == SPACE.to_dict()
    assert record["data_digest"] == data.digest
    assert record["seconds"] > 0
    updates = record["updates"]
    assert updates["stage 1 block 1"] == updates["stage 2 block 1"] == 40
    assert updates["stage 1 block 2"] == 40  # the largest has it
    assert updates["stage 1 block 1 NLL 3"] == 40
    assert list((tmp_path / "tensorboard").iterdir()) != []


def test_the_same_again_and_other_seeds(data: PreparedData, tmp_path: Path) -> None:
    how = config(images=3 * 32)
    paths = [trained(tmp_path / str(at), data, how, seed=seed) for at, seed in enumerate((0, 0, 1))]
    assert_same_weights(*paths[:2])
    assert not torch.equal(weights(paths[0])["head.weight"], weights(paths[2])["head.weight"])


def test_a_finished_training_is_not_run_again(data: PreparedData, tmp_path: Path) -> None:
    path = trained(tmp_path, data, config(images=64))
    before = (path.stat().st_mtime_ns, path.stat().st_ino)
    (tmp_path / CHECKPOINT).unlink()
    assert trained(tmp_path, data, config(images=64)) == path
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before


OTHER: list[tuple[dict[str, Any], str]] = [
    ({"how": config(images=96)}, "another config.training.images: it was 64, got 96"),
    ({"how": config(images=64, step_rule="single")}, "another config.step_rule: it was sandwich, got single"),
    ({"seed": 1}, "another seed: it was 0, got 1"),
    ({"budget": Budget(flops_max=10**9)}, "another budget.flops_max: it was None, got 1000000000"),
    ({"how_small": proxy(width_scale=0.5)}, "another proxy.width_scale: it was 1.0, got 0.5"),
]


@pytest.mark.parametrize("is_finished", [True, False])
def test_another_training_in_the_same_directory_is_refused(
    data: PreparedData, tmp_path: Path, is_finished: bool
) -> None:
    path = trained(tmp_path, data, config(images=64))
    if not is_finished:
        path.unlink()
    for change, message in OTHER:
        arguments: dict[str, Any] = {"how": config(images=64), **change}
        with pytest.raises(UserError, match=re.escape(message)):
            trained(tmp_path, data, **arguments)
    same = ProxyConfig(image_size=16, training=TrainingConfig(images=9))  # how trials train is not the supernet's
    trained(tmp_path, data, config(images=64), how_small=same)


def test_a_training_recorded_under_old_names_of_its_configuration_is_the_same() -> None:
    asked = {"config": config(gradient_accumulation=2).model_dump(mode="json"), "seed": 1}
    names = {"step_rule": "rule", "subnet_sampling": "draws", "gradient_accumulation": "accumulate"}
    old = {names.get(name, name): value for name, value in asked["config"].items()}
    assert old.keys() >= {"rule", "draws", "accumulate"}
    require_same_supernet(asked, {**asked, "config": old}, Path("s"))
    retired = {"ema": None, "alpha_divergence": False, "scale_shared": False}
    require_same_supernet(asked, {**asked, "config": {**old, **retired}}, Path("s"))
    assert SupernetConfig.model_validate({**old, **retired}) == config(gradient_accumulation=2)
    with pytest.raises(ValidationError, match="ema"):
        SupernetConfig.model_validate({**old, **retired, "ema": 0.99})
    with pytest.raises(UserError, match=r"another config\.step_rule: it was single, got sandwich"):
        require_same_supernet(asked, {**asked, "config": {**old, "rule": "single"}}, Path("s"))


def test_a_damaged_checkpoint_is_refused(data: PreparedData, tmp_path: Path) -> None:
    trained(tmp_path, data, config(images=64)).unlink()
    checkpoint = tmp_path / CHECKPOINT
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot be read as a checkpoint"):
        trained(tmp_path, data, config(images=64))


def test_a_budget_that_nothing_meets_is_refused_before_anything_is_written(data: PreparedData, tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="the nearest"):
        trained(tmp_path / "run", data, config(), budget=Budget(flops_max=10))
    assert not (tmp_path / "run").exists()


def test_steps_without_a_finite_loss_change_nothing_and_too_many_end_the_training(
    data: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The 3rd and 4th steps see images that are not finite, and are skipped. Later all steps do."""
    whole = Supernet.forward
    seen = itertools.count()

    def broken(self: Supernet, images: torch.Tensor, arch: Any) -> torch.Tensor:
        return whole(self, images, arch) * (float("nan") if next(seen) in (2, 3) else 1.0)

    monkeypatch.setattr(Supernet, "forward", broken)
    # no monitor: the passes counted are the steps' own
    how = config(images=8 * 32, step_rule="single")
    record = Supernet.load(trained(tmp_path / "two", data, how))[1]
    assert (record["steps"], record["skipped"], record["skipped_in_a_row"]) == (8, 2, 0)
    assert record["updates"]["stage 1 block 1"] == 6

    monkeypatch.setattr(Supernet, "forward", lambda self, images, arch: whole(self, images, arch) * float("inf"))
    with pytest.raises(DivergedError, match=r"not finite in 10 steps in a row, up to step 10 of 20, .*lower the rate"):
        trained(tmp_path / "all", data, config(images=20 * 32, step_rule="single"))


def test_two_processes_train_as_one_that_runs_both_shares(
    data: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BatchNorm sees a share, so one process must see the same, by accumulation; and without slices, of which every
    pass would draw its own permutation, nothing else differs."""
    plain = SPACE.to_dict()
    for stage in plain["stages"]:
        stage["groups"] = [[1]]
    monkeypatch.setattr(tiny_supernet, "SPACE", SearchSpace.from_dict(plain))
    run_in_two_ranks(lambda: trained(tmp_path / "two", data, config(images=3 * 32)), tmp_path / "store")
    one = weights(trained(tmp_path / "one", data, config(images=3 * 32, gradient_accumulation=2)))
    two = weights(tmp_path / "two" / training.SUPERNET)
    assert one.keys() == two.keys()
    for name, weight in one.items():
        if name.startswith("stem.convs") and name.endswith("bias"):
            continue  # BatchNorm takes biases away, so their gradients are rounding alone, which Adam makes into steps
        # Adam divides by the gradient's size, so rounding in small ones grows; a step is up to the rate, 2e-3
        torch.testing.assert_close(weight, two[name], rtol=0, atol=2e-5, msg=name)


def test_batches_that_processes_cannot_share() -> None:
    with pytest.raises(UserError, match="must be a multiple of the 3 processes, got 32 images a batch"):
        training.check_shards(32, config(), 3)
    with pytest.raises(UserError, match="at least 2 images at a time"):
        training.check_shards(6, config(gradient_accumulation=2), 3)


def test_a_wrong_configuration_is_explained() -> None:
    from sret_nas.files import validate

    plain = json.loads(config().model_dump_json())
    for change, message in (
        ({"gradient_accumulation": 17}, "got 17 parts of a batch of 32"),
        ({"random_networks": 0}, "random_networks: must be greater than or equal to 1, got 0"),
    ):
        with pytest.raises(UserError, match=re.escape(message)):
            validate(SupernetConfig, {**plain, **change}, "supernet")
