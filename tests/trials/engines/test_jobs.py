"""Jobs as messages: each kind is parsed as itself, and senseless combinations are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from sret_nas import PRESETS, Budget
from sret_nas.space.search_space import SearchSpace
from trials.engines.jobs import (
    FrontTestJob,
    InheritedTrialJob,
    Job,
    JobContext,
    LatencyJob,
    PartialScore,
    RetrainJob,
    ScratchTrialJob,
    SpeedJob,
    SupernetSource,
    SupernetSpeedJob,
    parse_job,
)
from trials.training.prepared_labels import SoftLabelSource
from trials.training.recipe import ProxyConfig, TrainingConfig

TRAINING = TrainingConfig(images=64)
CONTEXT = JobContext(proxy=ProxyConfig(training=TRAINING), data_dir="data", data_digest="0", device="cpu", threads=2)
SOURCE = SupernetSource(path="supernet.safetensors", digest="0")
SHARED: dict[str, Any] = {**dict(CONTEXT), "arch": PRESETS["sret_t"]}
TRIAL: dict[str, Any] = {**SHARED, "depth_schedule": "joint", "seed": 3}
JOBS: list[Job] = [
    ScratchTrialJob(**TRIAL, fraction=0.5, checkpoint_to="checkpoint.pt"),
    InheritedTrialJob(**TRIAL, supernet=SOURCE, known=PartialScore(images=5, error=0.5, cross_entropy=1.0)),
    FrontTestJob(**SHARED, weights_path="weights.safetensors"),
    RetrainJob(**SHARED, training=TRAINING, seed=3),
    RetrainJob(**SHARED | {"soft_labels": SoftLabelSource(path="teacher.soft", digest="0")}, training=TRAINING, seed=3),
    SpeedJob(**SHARED),
    SupernetSpeedJob(
        **dict(CONTEXT),
        space=SearchSpace.load("smoke"),
        budget=Budget(flops_max=5),
        training=TRAINING,
        seed=3,
        training_threads=2,
        scored=(PRESETS["sret_t"],),
    ),
    LatencyJob(networks=(PRESETS["sret_t"],)),
]


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.kind)
def test_a_job_travels_as_json(job: Job) -> None:
    arrived = parse_job(json.loads(json.dumps(job.model_dump(mode="json"))))
    assert type(arrived) is type(job)
    assert arrived == job


def test_a_job_says_what_its_context_says() -> None:
    job = SpeedJob(**SHARED)
    assert {name: getattr(job, name) for name in JobContext.model_fields} == dict(CONTEXT)


@pytest.mark.parametrize("changes", [{"supernet": SOURCE}, {"val_images_per_trial": 5}, {"fine_tuning": TRAINING}])
def test_a_trial_from_scratch_knows_no_supernet(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        ScratchTrialJob(**TRIAL, **changes)


def test_a_trial_that_inherits_has_a_supernet_and_no_checkpoint() -> None:
    with pytest.raises(ValidationError, match=r"supernet\n  Field required"):
        InheritedTrialJob(**TRIAL)
    for name in ("checkpoint_from", "checkpoint_to", "weights_path"):
        with pytest.raises(ValidationError, match="Extra inputs"):
            InheritedTrialJob(**TRIAL, supernet=SOURCE, **{name: "file"})


@pytest.mark.parametrize("part", [{"fraction": 0.5}, {"known": PartialScore(images=5, error=0.5, cross_entropy=1.0)}])
def test_a_trial_that_is_fine_tuned_has_no_parts(part: dict[str, Any]) -> None:
    assert InheritedTrialJob(**TRIAL, supernet=SOURCE, fine_tuning=TRAINING).fraction == 1
    with pytest.raises(ValidationError, match="has no rungs"):
        InheritedTrialJob(**TRIAL, supernet=SOURCE, fine_tuning=TRAINING, **part)
