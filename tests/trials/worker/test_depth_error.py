"""Scores at every recursion depth of one file of weights, wherever a search takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.feasible.feasible_set import FeasibleSet
from sret_nas.files import digest_of_file
from sret_nas.nn.network import SReT
from sret_nas.nn.supernet import Supernet
from sret_nas.space.search_space import SearchSpace
from sret_nas.space.supernet_shape import bounding_shape
from trials.data import DataConfig, PreparedData, PreparedPart, prepare
from trials.engines.jobs import InheritedTrialJob, PartialScore, RetrainJob, ScratchTrialJob, SupernetSource
from trials.supernet.inherit import SubnetScorer, extract_for_eval
from trials.training.recipe import ProxyConfig, TrainingConfig
from trials.training.train import first_images, score
from trials.worker import evaluate as evaluation
from trials.worker.context import WorkerContext
from trials.worker.evaluate import evaluate
from trials.worker.retrain import retrain

SPACE = SearchSpace.load("smoke").model_copy(update={"image_size": 32, "channels": 1, "classes": 10})
PROXY = ProxyConfig(image_size=32, training=TrainingConfig(images=48, batch_size=16))
DEPTHS = (1, 2)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    directory = tmp_path_factory.mktemp("data")
    prepare(DataConfig(image_size=32, max_train=48, max_val=50, max_test=30), directory, None)
    return directory


@pytest.fixture(scope="module")
def data(data_dir: Path) -> PreparedData:
    return PreparedData.open(data_dir)


@pytest.fixture(scope="module")
def supernet() -> Supernet:
    torch.manual_seed(1)
    supernet = Supernet(bounding_shape(SPACE))
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return supernet


@pytest.fixture(scope="module")
def source(supernet: Supernet, tmp_path_factory: pytest.TempPathFactory) -> SupernetSource:
    path = tmp_path_factory.mktemp("supernet") / "supernet.safetensors"
    supernet.save(path, {})
    return SupernetSource(path=str(path), digest=digest_of_file(path))


@pytest.fixture(scope="module")
def arch() -> ArchConfig:
    """Returns a network whose two recursive stages both recur."""
    return next(arch for arch in FeasibleSet(SPACE, Budget()) if arch.stages[0].recursions == 2)


@pytest.fixture(scope="module")
def shared(data_dir: Path, data: PreparedData, arch: ArchConfig) -> dict[str, Any]:
    return {
        "arch": arch, "proxy": PROXY, "data_dir": str(data_dir), "data_digest": data.digest, "device": "cpu", "seed": 0,
    }  # fmt: skip


def errors(network: SReT, part: PreparedPart) -> list[float]:
    """Returns the error at each depth, from a pass of its own."""
    return [score(network, part, 16, depth).error for depth in DEPTHS]


def test_a_depth_is_the_network_with_that_many_recursions(
    data: PreparedData, supernet: Supernet, arch: ArchConfig
) -> None:
    """Features of one depth, which the scorer keeps, are not taken for those of another."""
    scorer, network = SubnetScorer(supernet, data, batch_size=16), extract_for_eval(supernet, arch, data, 16)
    scores = [scorer.score(arch, max_recursions=depth) for depth in (2, 1, 2, 1)]
    assert scores == [score(network, data.val, 16, depth) for depth in (2, 1, 2, 1)]
    assert scores[0] == scorer.score(arch)
    assert scores[0] != scores[1]


@pytest.mark.slow
def test_inherited_weights_are_scored_at_every_depth_also_in_parts(
    shared: dict[str, Any], source: SupernetSource, supernet: Supernet, arch: ArchConfig, data: PreparedData
) -> None:
    job: dict[str, Any] = {**shared, "supernet": source, "depth_schedule": "full", "scores_depths": True}
    context = WorkerContext()
    whole = evaluate(InheritedTrialJob(**job), context)
    assert whole.error_by_depth == errors(extract_for_eval(supernet, arch, data, 16), data.val)
    assert whole.error == whole.error_by_depth[1]
    if whole.error_by_depth[0] == whole.error:
        pytest.skip("both depths err on as many images with the weights of this torch, so the test would say nothing")
    assert evaluate(InheritedTrialJob(**{**job, "scores_depths": False}), context).error_by_depth == [whole.error]
    half = evaluate(InheritedTrialJob(**job, fraction=0.5), context)
    known = PartialScore(
        images=half.val_images, error=half.error, cross_entropy=half.cross_entropy,
        error_by_depth=tuple(half.error_by_depth),
    )  # fmt: skip
    assert half.error_by_depth != whole.error_by_depth, "or the test would say nothing"
    assert evaluate(InheritedTrialJob(**job, known=known), context).error_by_depth == whole.error_by_depth
    balanced = evaluate(InheritedTrialJob(**job, balanced_error=True), context)
    network = extract_for_eval(supernet, arch, data, 16)
    assert balanced.error_by_depth == pytest.approx(errors(network, data.val.balanced()))


@pytest.mark.slow
def test_trials_from_scratch_score_all_depths_on_the_same_images(
    shared: dict[str, Any], data: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "SHALLOW_IMAGES", 7)
    weights = str(tmp_path / "weights.safetensors")
    job = ScratchTrialJob(**shared, depth_schedule="joint", weights_path=weights)
    sampled = evaluate(job, WorkerContext())
    network = SReT.load(weights)
    assert sampled.error_by_depth == [errors(network, first_images(data.val, 7))[0], sampled.error]
    full = evaluate(job.model_copy(update={"scores_depths": True}), WorkerContext())
    assert full.error_by_depth == errors(network, data.val)
    rung = evaluate(
        job.model_copy(update={"scores_depths": True, "share": 0.34, "weights_path": None}), WorkerContext()
    )
    assert len(rung.error_by_depth) == len(DEPTHS)


@pytest.mark.slow
def test_finalists_train_and_score_every_depth(
    shared: dict[str, Any], source: SupernetSource, data: PreparedData, tmp_path: Path
) -> None:
    job: dict[str, Any] = {
        **shared, "supernet": source, "training": PROXY.training, "weights_path": str(tmp_path / "w.safetensors"),
    }  # fmt: skip
    final = retrain(RetrainJob(**job, depth_schedule="joint"), WorkerContext())
    network = SReT.load(job["weights_path"])
    assert final.error_by_depth == errors(network, data.val)
    assert final.test_error_by_depth == errors(network, data.test)
    assert (final.error, final.test_error) == (final.error_by_depth[-1], final.test_error_by_depth[-1])
    plain = retrain(RetrainJob(**job), WorkerContext())
    assert (plain.error_by_depth, plain.test_error_by_depth) == ([], [])
    assert plain.cross_entropy != final.cross_entropy
