"""Evaluation of an architecture: training learns, schedules train their depths, and jobs repeat bit for bit."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch

from sret_nas import ArchConfig, Budget, BudgetError, StageConfig, UserError, cost_of
from sret_nas.feasible.feasible_set import FeasibleSet
from sret_nas.nn.network import SReT
from sret_nas.space.search_space import DepthSchedule, SearchSpace
from trials.data import DataConfig, PreparedData, prepare
from trials.engines.jobs import FrontTestJob, ScratchTrialJob, SpeedJob, SupernetSpeedJob, trial_seed
from trials.engines.results import SupernetSpeedResult, TrialResult
from trials.training.recipe import DivergedError, ProxyConfig, TrainingConfig, proxy_arch
from trials.training.train import (
    first_images,
    learning_rate_factor,
    parameter_groups,
    recalibrate_batch_norm,
    score,
    train,
)
from trials.worker.context import WorkerContext
from trials.worker.entry import JobRunner
from trials.worker.evaluate import evaluate
from trials.worker.retrain import run_front_test
from trials.worker.timing import measure_training_speed

pytestmark = pytest.mark.slow

ARCH = ArchConfig(
    stages=(
        StageConfig(width=16, heads=2, blocks=1, recursions=2, groups=(4, 2), mlp_ratio=2.0),
        StageConfig(width=32, heads=4, blocks=1, recursions=3, groups=(1, 1, 1), mlp_ratio=2.0),
    )
)
PROXY = ProxyConfig(image_size=32, training=TrainingConfig(images=256, batch_size=16))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    torch.set_num_threads(1)
    return prepare(DataConfig(image_size=32, max_train=256, max_val=100), tmp_path_factory.mktemp("data"), None)


@pytest.fixture(scope="module")
def data_dir(data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("data-again")
    prepare(DataConfig(image_size=32, max_train=256, max_val=100), directory, None)
    return str(directory)


def proxy_network(data: PreparedData) -> SReT:
    torch.manual_seed(0)
    changes = {"image_size": 32, "channels": data.channels, "classes": data.num_classes}
    return SReT(ARCH.model_copy(update=changes))


def evaluated(job: ScratchTrialJob) -> TrialResult:
    """Evaluates a job in a new worker."""
    return evaluate(job, WorkerContext())


def digest_in(data_dir: str) -> str:
    return PreparedData.open(Path(data_dir)).digest


def trial(data_dir: str, schedule: DepthSchedule = "full", weights_path: str | None = None) -> ScratchTrialJob:
    return ScratchTrialJob(
        arch=ARCH,
        proxy=PROXY,
        data_dir=data_dir,
        data_digest=digest_in(data_dir),
        device="cpu",
        depth_schedule=schedule,
        seed=3,
        weights_path=weights_path,
    )


def test_training_lowers_error_and_cross_entropy(data: PreparedData) -> None:
    network = proxy_network(data)
    before = score(network, data.val, 64)
    report = train(network, data, TrainingConfig(images=1024, batch_size=16), "full", seed=0)
    after = score(network, data.val, 64)
    assert (report.steps, report.images) == (64, 1024)
    assert after.error < before.error - 0.2
    assert after.cross_entropy < before.cross_entropy


def test_score_is_the_share_of_wrong_answers_and_the_mean_entropy(data: PreparedData) -> None:
    """Compares with one pass over all images at once."""
    network = proxy_network(data).eval()
    from trials.data import batches

    images, labels = next(iter(batches(data.val, batch_size=len(data.val))))
    with torch.no_grad():
        logits = network(images)
    expected = (logits.argmax(1) != labels).double().mean().item()
    result = score(network, data.val, batch_size=7)
    assert result.error == pytest.approx(expected, abs=1e-12)
    assert result.cross_entropy == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item(), rel=1e-5)


@pytest.mark.parametrize(
    ("schedule", "trained"),
    [("full", {3}), ("joint", {1, 2, 3}), ("sandwich", {1, 2, 3}), ("random", {1, 2, 3}), ("growing", {1, 2, 3})],
)
def test_a_schedule_really_runs_its_depths(data: PreparedData, schedule: DepthSchedule, trained: set[int]) -> None:
    network = proxy_network(data)
    depths = []
    network.register_forward_pre_hook(lambda _, args, kwargs: depths.append(kwargs["max_recursions"]), with_kwargs=True)
    train(network, data, PROXY.training, schedule, seed=0)
    assert set(depths) == trained
    passes = {"joint": 3, "sandwich": 3}.get(schedule, 1)
    assert len(depths) == 16 * passes


def test_joint_training_makes_the_shallow_network_useful(data: PreparedData) -> None:
    errors = {}
    for schedule in ("full", "joint"):
        network = proxy_network(data)
        train(network, data, TrainingConfig(images=1024, batch_size=16), schedule, seed=0)  # type: ignore[arg-type]
        errors[schedule] = score(network, data.val, 64, max_recursions=1).error
    assert errors["joint"] < errors["full"]


def test_a_diverging_run_is_stopped(data: PreparedData) -> None:
    network = proxy_network(data)
    with torch.no_grad():
        network.head.bias.fill_(math.inf)
    with pytest.raises(DivergedError, match="training loss became nan"):
        train(network, data, PROXY.training, "full", seed=0)


@pytest.mark.parametrize(("step", "factor"), [(0, 0.1), (9, 1.0), (10, 1.0), (55, 0.5), (100, 0.0)])
def test_the_learning_rate_warms_up_and_decays_to_zero(step: int, factor: float) -> None:
    assert learning_rate_factor(step, 100, 0.1) == pytest.approx(factor, abs=1e-12)


def test_only_matrices_decay(data: PreparedData) -> None:
    network = proxy_network(data)
    decayed, free = parameter_groups(network, 0.05)
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.05, 0.0)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    assert {names[id(p)].split(".")[-1] for p in decayed["params"]} == {"weight"}  # type: ignore[attr-defined]
    assert all(p.ndim >= 2 for p in decayed["params"])  # type: ignore[attr-defined]
    assert len(decayed["params"]) + len(free["params"]) == len(names)  # type: ignore[arg-type]


def test_a_trial_repeats_bit_for_bit_and_says_both_costs(data_dir: str) -> None:
    first, again = evaluated(trial(data_dir, "random")), evaluated(trial(data_dir, "random"))
    same = ("error", "cross_entropy", "error_by_depth", "train_loss", "target", "proxy", "proxy_arch")
    assert [getattr(first, name) for name in same] == [getattr(again, name) for name in same]
    target, proxy = cost_of(ARCH), cost_of(first.proxy_arch)
    assert (first.target.flops, first.target.params, first.target.image_size) == (target.flops, target.params, 224)
    assert (first.proxy.flops, first.proxy.params, first.proxy.image_size) == (proxy.flops, proxy.params, 32)
    assert (first.train_steps, first.train_images) == (16, 256)
    assert len(first.error_by_depth) == 3
    assert first.error_by_depth[-1] == first.error


@pytest.mark.parametrize("schedule", ["full", "random", "growing"])
def test_a_trial_in_pieces_ends_as_one_in_one_go(data_dir: str, tmp_path: Path, schedule: DepthSchedule) -> None:
    whole = trial(data_dir, schedule, weights_path=str(tmp_path / "whole.safetensors"))
    expected = evaluated(whole)
    path, pieces = str(tmp_path / "checkpoint.pt"), []
    for fraction, before in ((0.2, None), (0.7, path), (1.0, path)):
        torch.manual_seed(99)  # what a worker did in between
        job = whole.model_copy(update={
            "fraction": fraction, "checkpoint_from": before, "checkpoint_to": path if fraction < 1 else None,
            "weights_path": str(tmp_path / "pieces.safetensors") if fraction == 1 else None,
        })  # fmt: skip
        pieces.append(evaluated(job))
    assert [piece.fraction for piece in pieces] == [0.2, 0.7, 1.0]
    assert [piece.train_steps for piece in pieces] == [3, 11, 16]
    assert [piece.train_images for piece in pieces] == [48, 176, 256]
    assert [len(piece.error_by_depth) for piece in pieces] == [1, 1, 3]
    assert pieces[0].cross_entropy > pieces[1].cross_entropy > pieces[2].cross_entropy
    same = ("error", "cross_entropy", "error_by_depth", "train_loss", "train_steps", "val_images")
    assert [getattr(pieces[-1], name) for name in same] == [getattr(expected, name) for name in same]
    weights = [SReT.load(tmp_path / f"{name}.safetensors").state_dict() for name in ("whole", "pieces")]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


def test_a_checkpoint_that_is_no_use_costs_time_alone(data_dir: str, tmp_path: Path) -> None:
    """A checkpoint beyond the rung, as a killed search may leave; one of another training; and none."""
    expected = evaluated(trial(data_dir).model_copy(update={"fraction": 0.5}))
    beyond, other = tmp_path / "beyond.pt", tmp_path / "other.pt"
    evaluated(trial(data_dir).model_copy(update={"fraction": 0.8, "checkpoint_to": str(beyond)}))
    evaluated(trial(data_dir, "joint").model_copy(update={"fraction": 0.2, "checkpoint_to": str(other)}))
    for path in (beyond, other, tmp_path / "none.pt"):
        found = evaluated(trial(data_dir).model_copy(update={"fraction": 0.5, "checkpoint_from": str(path)}))
        assert found.cross_entropy == expected.cross_entropy
        assert found.train_seconds > 0


def test_a_checkpoint_at_the_very_place_is_only_scored(data_dir: str, tmp_path: Path) -> None:
    """As after a search that was killed between a worker's checkpoint and its own record."""
    path = tmp_path / "there.pt"
    job = trial(data_dir).model_copy(update={"fraction": 0.5, "checkpoint_to": str(path)})
    expected = evaluated(job)
    again = evaluated(job.model_copy(update={"checkpoint_from": str(path)}))
    assert again.cross_entropy == expected.cross_entropy
    assert again.train_loss == expected.train_loss
    assert again.train_seconds < expected.train_seconds + 0.01


def test_trained_weights_are_saved_and_tested(data_dir: str, tmp_path: Path) -> None:
    weights = tmp_path / "weights" / "w.safetensors"
    result = evaluated(trial(data_dir, weights_path=str(weights)))
    test = run_front_test(
        FrontTestJob(
            arch=ARCH,
            proxy=PROXY,
            data_dir=data_dir,
            data_digest=digest_in(data_dir),
            device="cpu",
            weights_path=str(weights),
        ),
        WorkerContext(),
    )
    opened = PreparedData.open(Path(data_dir))
    assert test.num_images == len(opened.test)
    network = SReT.load(weights)
    assert network.arch == result.proxy_arch
    assert score(network, opened.val, 32).error == result.error
    assert score(network, opened.test, 32).error == test.error


def test_a_network_outside_the_budget_is_not_trained(data_dir: str) -> None:
    job = trial(data_dir).model_copy(update={"budget": Budget(params_max=1000), "data_dir": "nowhere"})
    with pytest.raises(BudgetError, match=ARCH.arch_id):
        evaluated(job)


def test_jobs_travel_as_json(data_dir: str) -> None:
    import json

    job = trial(data_dir)
    result = JobRunner()(json.loads(json.dumps(job.model_dump(mode="json"))))
    assert json.loads(json.dumps(result)) == result
    assert result["error"] == evaluated(job).error
    assert torch.get_num_threads() == 1


def test_speed_is_measured_on_real_steps(data_dir: str) -> None:
    speed = measure_training_speed(
        SpeedJob(
            arch=ARCH,
            proxy=PROXY,
            data_dir=data_dir,
            data_digest=digest_in(data_dir),
            device="cpu",
        ),
        WorkerContext(),
    )
    assert speed.images_per_second > 0
    assert 0 < speed.start_seconds < 60
    assert (speed.channels, speed.classes) == (1, 10)
    data = PreparedData.open(Path(data_dir))
    assert (speed.num_val_images, speed.num_test_images) == (len(data.val), len(data.test))
    proxy = proxy_arch(ARCH, PROXY, channels=1, classes=10)
    assert speed.proxy_flops == cost_of(proxy).flops


@pytest.mark.parametrize("training_threads", [1, None])
def test_a_supernet_is_measured_on_real_steps_and_scores(data_dir: str, training_threads: int | None) -> None:
    space = SearchSpace.load("smoke")
    few, many = FeasibleSet(space, Budget()).cheapest().arch, FeasibleSet(space, Budget()).most_expensive().arch
    job = SupernetSpeedJob(
        proxy=PROXY, data_dir=data_dir, data_digest=digest_in(data_dir), device="cpu", space=space, budget=Budget(),
        training=PROXY.training, seed=0, steps=3, training_threads=training_threads, scored=(few, many),
    )  # fmt: skip
    speed = SupernetSpeedResult.model_validate(JobRunner()(job.model_dump(mode="json")))
    assert (speed.start_seconds is None) == (speed.step_seconds is None) == (training_threads is None)
    assert training_threads is None or min(speed.start_seconds or 0, speed.step_seconds or 0) > 0
    assert speed.first_images == min(PROXY.training.batch_size, len(PreparedData.open(Path(data_dir)).val))
    assert speed.first_batch_seconds > 0
    assert 0 < speed.seconds_per_flop < 1e-6


def test_a_trial_s_seed_is_its_proxy_s() -> None:
    seeds = {trial_seed(s, a, d) for s in (0, 1) for a in ("a", "b") for d in ("full", "joint")}
    assert len(seeds) == 8
    assert trial_seed(0, "7f7dd55b68f4", "full") == trial_seed(0, "7f7dd55b68f4", "full")


def test_targets_that_the_proxy_cannot_tell_apart_tie(data_dir: str) -> None:
    """At 32 px the second stage has 4 tokens, so 8 groups and 4 groups give the same network."""
    first, last = ARCH.stages
    others = [last.model_copy(update={"groups": (groups, 1, 1)}) for groups in (8, 4)]
    targets = [ARCH.model_copy(update={"stages": (first, other)}) for other in others]
    assert targets[0].arch_id != targets[1].arch_id
    results = [evaluated(trial(data_dir).model_copy(update={"arch": target})) for target in targets]
    assert results[0].cross_entropy == results[1].cross_entropy


def test_recalibration_replaces_the_stem_s_statistics_by_those_of_the_images(data: PreparedData) -> None:
    from trials.data import batches

    network = proxy_network(data)
    weights = {name: tensor.clone() for name, tensor in network.named_parameters()}
    recalibrate_batch_norm(network, data.train, batch_size=64, max_images=128)
    images = torch.cat([images for images, _ in batches(first_images(data.train, 128), batch_size=64)])
    with torch.no_grad():
        features = network.stem.convs[0](images)
    norm = network.stem.norms[0]
    torch.testing.assert_close(norm.running_mean, features.mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert norm.momentum == 0.1
    assert all(torch.equal(weights[name], tensor) for name, tensor in network.named_parameters())
    assert not any(module.training for module in network.stem.modules())


def test_scoring_leaves_the_network_as_it_was(data: PreparedData) -> None:
    """A network in training mode is scored in evaluation mode, with its statistics unchanged."""
    network = proxy_network(data)
    expected = score(network.eval(), data.val, 50)
    network.train()
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    assert score(network, data.val, 50) == expected
    assert all(torch.equal(before[name], buffer) for name, buffer in network.named_buffers())


def test_training_is_the_loop_it_says_it_is(data: PreparedData) -> None:
    """Compares three steps with a plain loop: joint depths, label smoothing, clipping, decay, warm-up, cosine."""
    from trials.data import training_batches

    config = TrainingConfig(images=96, batch_size=32, learning_rate=0.01, weight_decay=0.3, clip_norm=0.5)
    network, reference = proxy_network(data), proxy_network(data)
    network.fresh_permutations = reference.fresh_permutations = False
    report = train(network, data, config, "joint", seed=4)

    reference.train()
    decayed = [p for n, p in reference.named_parameters() if p.ndim >= 2 and n != "pos_embed"]
    free = [p for n, p in reference.named_parameters() if p.ndim < 2 or n == "pos_embed"]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.3}, {"params": free, "weight_decay": 0.0}])
    epoch = training_batches(data.train, batch_size=32, seed=4, epoch=0)
    # warm-up is round(0.1 * 3) = 0 steps; then half a cosine over 3
    for factor, (images, labels) in zip((1.0, 0.75, 0.25), epoch, strict=False):
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * factor
        optimizer.zero_grad()
        losses = [
            torch.nn.functional.cross_entropy(reference(images, max_recursions=depth), labels, label_smoothing=0.1)
            for depth in (1, 2, 3)
        ]
        (sum(losses) / 3).backward()
        torch.nn.utils.clip_grad_norm_(reference.parameters(), 0.5)
        optimizer.step()
    assert report.loss == pytest.approx(sum(loss.item() for loss in losses) / 3, rel=1e-4)
    ours, theirs = network.state_dict(), reference.state_dict()
    # What has no gradient but rounding errors, which Adam blows up: biases before BatchNorm (so its means) and of keys.
    without_gradient = [name for name in ours if re.search(r"stem\.convs\.\d+\.bias|running_mean|qkv\.bias", name)]
    for name in ours.keys() - set(without_gradient):
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


def test_a_job_sets_its_threads(data_dir: str) -> None:
    """One that is refused afterwards: two threads that compute take long where cores are busy."""
    job = SpeedJob(
        arch=ARCH,
        proxy=PROXY,
        data_dir=data_dir,
        data_digest="other",
        device="cpu",
        threads=2,
    )
    try:
        with pytest.raises(UserError, match="are not those that the search was begun with"):
            JobRunner()(job.model_dump(mode="json"))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_other_images_than_the_search_s_are_refused(data_dir: str) -> None:
    with pytest.raises(UserError, match="are not those that the search was begun with"):
        evaluated(trial(data_dir).model_copy(update={"data_digest": "other"}))
