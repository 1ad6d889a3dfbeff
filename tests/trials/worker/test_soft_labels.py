"""Every job that trains learns the stored soft labels that it names, and says so if they are not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sret_nas.arch.budget import Budget
from sret_nas.errors import UserError
from sret_nas.feasible.feasible_set import FeasibleSet
from sret_nas.files import digest_of_file
from tests.trials.supernet.tiny_supernet import SPACE, config, proxy, tiny_data, trained
from tests.trials.training.stored_labels import store_labels
from trials.data import PreparedData
from trials.engines.jobs import InheritedTrialJob, RetrainJob, ScratchTrialJob, SpeedJob, SupernetSource
from trials.training import train
from trials.training.losses import taught_cross_entropy
from trials.training.prepared_labels import SoftLabelSource
from trials.training.recipe import TrainingConfig
from trials.worker.context import WorkerContext
from trials.worker.dispatch import execute

pytestmark = pytest.mark.slow

TRAINING = TrainingConfig(images=3 * 32, batch_size=32)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return tiny_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def jobs(data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, int]]:
    """Returns jobs without soft labels, each with the steps that it trains."""
    folder = tmp_path_factory.mktemp("supernet")
    path = trained(folder, data, config(images=32, step_rule="single"))
    source = SupernetSource(path=str(path), digest=digest_of_file(path))
    how_small = proxy().model_copy(update={"training": TRAINING})
    shared: dict[str, Any] = {
        "arch": FeasibleSet(SPACE, Budget()).cheapest().arch, "proxy": how_small, "data_dir": str(data.directory),
        "data_digest": data.digest, "device": "cpu",
    }  # fmt: skip
    trial = {**shared, "seed": 3, "depth_schedule": "full"}
    final = {**shared, "seed": 3, "training": TRAINING, "supernet": source}
    return {
        "scratch": (ScratchTrialJob(**trial), 3),
        "fine-tuned trial": (InheritedTrialJob(**trial, supernet=source, fine_tuning=TRAINING), 3),
        "fine-tuned finalist": (RetrainJob(**final), 3),
        "control": (RetrainJob(**final, is_from_scratch=True), 3),
        "speed": (SpeedJob(**shared, steps=2), 4),
    }


@pytest.fixture(scope="module")
def labels(data: PreparedData, tmp_path_factory: pytest.TempPathFactory) -> SoftLabelSource:
    return store_labels(tmp_path_factory.mktemp("labels") / "labels.soft", data, epochs=1)


@pytest.mark.parametrize("name", ["scratch", "fine-tuned trial", "fine-tuned finalist", "control", "speed"])
def test_every_step_learns_them(
    name: str, jobs: dict[str, tuple[Any, int]], labels: SoftLabelSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    temperatures: list[float] = []

    def told(logits: Any, targets: Any, temperature: float) -> Any:
        temperatures.append(temperature)
        return taught_cross_entropy(logits, targets, temperature)

    monkeypatch.setattr(train, "taught_cross_entropy", told)
    job, steps = jobs[name]
    execute(job.model_dump(mode="json"), WorkerContext())
    assert temperatures == []
    execute(job.model_copy(update={"soft_labels": labels}).model_dump(mode="json"), WorkerContext())
    assert temperatures == [1.0] * steps


def test_a_worker_that_lacks_the_file_says_so(jobs: dict[str, tuple[Any, int]], labels: SoftLabelSource) -> None:
    gone = labels.model_copy(update={"path": str(Path(labels.path).with_name("gone.soft"))})
    for job, _ in jobs.values():
        with pytest.raises(UserError, match=r"gone\.soft: the soft labels of the training are not on this machine"):
            execute(job.model_copy(update={"soft_labels": gone}).model_dump(mode="json"), WorkerContext())
