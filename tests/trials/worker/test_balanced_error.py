"""Errors that count every class alike, wherever a search scores networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.feasible.feasible_set import FeasibleSet
from sret_nas.files import digest_of_file
from sret_nas.nn.network import SReT
from sret_nas.nn.supernet import Supernet
from sret_nas.space.search_space import SearchSpace
from sret_nas.space.supernet_shape import bounding_shape
from trials.data import DataConfig, PreparedData, PreparedPart, prepare
from trials.engines.jobs import (
    FrontTestJob,
    InheritedTrialJob,
    PartialScore,
    RetrainJob,
    ScratchTrialJob,
    SupernetSource,
)
from trials.supernet.inherit import SubnetScorer
from trials.training.recipe import ProxyConfig, TrainingConfig
from trials.training.train import merge_scores, score_logits, slice_part
from trials.worker.context import WorkerContext
from trials.worker.evaluate import evaluate
from trials.worker.retrain import retrain, run_front_test

SPACE = SearchSpace.load("smoke").model_copy(update={"image_size": 32, "channels": 1, "classes": 2})
PROXY = ProxyConfig(image_size=32, training=TrainingConfig(images=32, batch_size=16))
COUNTS = {"many": 40, "few": 10}


def split(labels: list[int]) -> PreparedPart:
    images = np.zeros((len(labels), 1, 1, 1), np.uint8)
    return PreparedPart(images=images, labels=np.array(labels), mean=(0.0,), std=(1.0,), flip=False)


def answers(classes: list[int]) -> list[torch.Tensor]:
    """Returns logits of these predictions, in two batches."""
    logits = torch.nn.functional.one_hot(torch.tensor(classes), 4).float()
    return [logits[:3], logits[3:]]


def test_it_is_the_mean_over_classes_that_have_images() -> None:
    """Of class 0, 1 of 8 is wrong; of class 3, 1 of 2; the others have no images."""
    part = split([0, 0, 3, 0, 0, 0, 0, 0, 0, 3])
    predicted = [0, 0, 3, 0, 0, 2, 0, 0, 0, 1]
    assert score_logits(answers(predicted), part).error == 2 / 10
    balanced = score_logits(answers(predicted), part.balanced())
    assert balanced.error == pytest.approx((1 / 8 + 1 / 2) / 2)
    assert balanced.cross_entropy == score_logits(answers(predicted), part).cross_entropy


def test_classes_of_equal_size_change_nothing() -> None:
    part = split([0, 1, 2, 0, 1, 2])
    predicted = [0, 1, 1, 0, 2, 2]
    assert score_logits(answers(predicted), part.balanced()).error == pytest.approx(2 / 6)
    assert part.balanced().effective_images == pytest.approx(6)


def test_fewer_images_of_a_class_tell_its_error_less_exactly() -> None:
    """The variance of (e0 + e1) / 2 is that of a share of `effective_images` images: 4 / (1 / 8 + 1 / 2) = 6.4."""
    assert split([0] * 8 + [1] * 2).balanced().effective_images == pytest.approx(6.4)
    assert split([0] * 8 + [1] * 2).effective_images == 10


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns prepared images: two classes of grey noise, four times as many of the first."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for part in ("train", "val", "test"):
        for name, count in COUNTS.items():
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                noise = rng.integers(0, 256, (32, 32), dtype=np.uint8)
                Image.fromarray(noise).save(folder / part / name / f"{number}.png")
    prepared = tmp_path_factory.mktemp("prepared")
    prepare(DataConfig(source=str(folder), image_size=32), prepared, None)
    return prepared


@pytest.fixture(scope="module")
def data(data_dir: Path) -> PreparedData:
    torch.set_num_threads(1)
    return PreparedData.open(data_dir)


@pytest.fixture(scope="module")
def supernet(tmp_path_factory: pytest.TempPathFactory) -> SupernetSource:
    torch.manual_seed(1)
    supernet = Supernet(bounding_shape(SPACE))
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    path = tmp_path_factory.mktemp("supernet") / "supernet.safetensors"
    supernet.save(path, {})
    return SupernetSource(path=str(path), digest=digest_of_file(path))


@pytest.fixture(scope="module")
def arch() -> ArchConfig:
    return next(iter(FeasibleSet(SPACE, Budget())))


def expected_by_class(network: SReT, part: PreparedPart) -> list[float]:
    """Returns the errors of both classes."""
    with torch.no_grad():
        mean, std = torch.tensor(part.mean), torch.tensor(part.std)
        images = (torch.from_numpy(np.array(part.images)).float() / 255 - mean) / std
        wrong = network.eval()(images.permute(0, 3, 1, 2)).argmax(dim=1).numpy() != part.labels
    return [float(wrong[part.labels == label].mean()) for label in (0, 1)]


def expected(network: SReT, part: PreparedPart) -> tuple[float, float]:
    """Returns the plain error and the mean of both classes' errors."""
    errors = expected_by_class(network, part)
    return float(np.average(errors, weights=np.bincount(part.labels))), float(np.mean(errors))


@pytest.mark.slow
def test_trials_and_tests_count_classes_alike(
    data_dir: Path, data: PreparedData, arch: ArchConfig, tmp_path: Path
) -> None:
    shared = {
        "arch": arch, "proxy": PROXY, "data_dir": str(data_dir), "data_digest": data.digest, "device": "cpu",
        "balanced_error": True,
    }  # fmt: skip
    weights, context = str(tmp_path / "weights.safetensors"), WorkerContext()
    trial = evaluate(ScratchTrialJob(**shared, depth_schedule="full", seed=0, weights_path=weights), context)
    network = SReT.load(weights)
    plain, balanced = expected(network, data.val)
    assert plain != pytest.approx(balanced), "or the test would say nothing"
    assert trial.error == pytest.approx(balanced)
    assert trial.effective_images == pytest.approx(4 / (1 / 40 + 1 / 10))
    tested = run_front_test(FrontTestJob(**shared, weights_path=weights), context)
    assert tested.error == pytest.approx(expected(network, data.test)[1])
    plainly = run_front_test(FrontTestJob(**{**shared, "balanced_error": False}, weights_path=weights), context)
    assert plainly.error == pytest.approx(expected(network, data.test)[0])


@pytest.mark.slow
def test_inherited_scores_and_finals_count_classes_alike(
    data_dir: Path, data: PreparedData, arch: ArchConfig, supernet: SupernetSource, tmp_path: Path
) -> None:
    shared = {
        "arch": arch, "proxy": PROXY, "data_dir": str(data_dir), "data_digest": data.digest, "device": "cpu",
        "supernet": supernet, "seed": 0, "balanced_error": True,
    }  # fmt: skip
    context, weights = WorkerContext(), str(tmp_path / "weights.safetensors")
    whole = evaluate(InheritedTrialJob(**shared, depth_schedule="full"), context)
    half = evaluate(InheritedTrialJob(**shared, depth_schedule="full", fraction=0.5), context)
    known = PartialScore(images=half.val_images, error=half.error, cross_entropy=half.cross_entropy)
    rest = evaluate(InheritedTrialJob(**shared, depth_schedule="full", known=known), context)
    assert rest.error == pytest.approx(whole.error)
    final = retrain(RetrainJob(**shared, training=PROXY.training, weights_path=weights), context)
    assert final.inherited_error == pytest.approx(whole.error)
    network = SReT.load(weights)
    assert final.error == pytest.approx(expected(network, data.val)[1])
    assert final.test_error == pytest.approx(expected(network, data.test)[1])
    images = np.bincount(data.test.labels)
    rates = (np.array(expected_by_class(network, data.test)) * images + 0.5) / (images + 1)
    assert final.test_deviation == pytest.approx((rates * (1 - rates) / images).sum() ** 0.5 / 2)


@pytest.mark.slow
def test_a_network_from_scratch_is_scored_with_inherited_weights_and_trained_without_them(
    data_dir: Path, data: PreparedData, arch: ArchConfig, supernet: SupernetSource
) -> None:
    shared = {
        "arch": arch, "proxy": PROXY, "data_dir": str(data_dir), "data_digest": data.digest, "device": "cpu", "seed": 0,
        "training": PROXY.training,
    }  # fmt: skip
    context = WorkerContext()
    alone = retrain(RetrainJob(**shared), context)
    fine_tuned = retrain(RetrainJob(**shared, supernet=supernet), context)
    scored = retrain(RetrainJob(**shared, supernet=supernet, is_from_scratch=True), context)
    assert (scored.cross_entropy, scored.error) == (alone.cross_entropy, alone.error)
    assert (alone.inherited_error, scored.inherited_error) == (None, fine_tuned.inherited_error)
    assert fine_tuned.cross_entropy != alone.cross_entropy
    assert alone.test_deviation is None, "it follows from the number of images"


def test_errors_on_parts_of_the_images_add_up(data: PreparedData, arch: ArchConfig, supernet: SupernetSource) -> None:
    loaded, _ = Supernet.load(Path(supernet.path))
    scorer = SubnetScorer(loaded, data.with_balanced_errors(), batch_size=16)
    whole, parts = scorer.score(arch), [(0, 7), (7, 50)]
    first, second = (scorer.score(arch, *span) for span in parts)
    merged = merge_scores(first, scorer.part(*parts[0]), second, scorer.part(*parts[1]))
    assert merged.error == pytest.approx(whole.error)
    assert slice_part(data.val.balanced(), 0, 7).class_weights == data.val.balanced().class_weights
