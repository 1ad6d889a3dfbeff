"""What `train`, `study run` and `supernet train` let change when they are resumed, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sret_nas.errors import UserError
from sret_nas.space.search_space import SearchSpace
from trials.runs import study_options, supernet_train_options, train_options
from trials.runs.study_options import StudyOptions
from trials.runs.supernet_train_options import SupernetTrainOptions
from trials.runs.timeline import Timeline, read_timeline
from trials.runs.train_options import TrainOptions
from trials.supernet.config import SupernetConfig
from trials.training.recipe import TrainingConfig
from trials.workflows.train_supernet import RecordedSupernetTraining


def trained(**given: Any) -> TrainOptions:
    return TrainOptions.parse({"architecture": "sret_t", **given}, "train")


def test_what_may_change_between_sessions() -> None:
    """Where things lie and what computes; never what is computed."""
    assert {"data", "data_root", "data_workers", "device", "threads"} == train_options.CHANGEABLE
    assert {"teacher", "teacher_checkpoint", "soft_labels"} == train_options.MOVABLE
    assert {"device", "threads", "data", "data_root", "soft_labels"} == supernet_train_options.CHANGEABLE
    computing = {"engine", "ray_address", "gpus_per_trial", "workers", "threads", "device", "trial_timeout"}
    assert computing | {"data", "data_root", "seeds"} == study_options.CHANGEABLE


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"study": "deep"}, "the study among them"),
        ({"epochs": 3}, "--epochs among them"),
        ({"epochs": 3, "study": "deep"}, "--epochs among them"),
    ],
)
def test_a_resumed_study_keeps_its_options(given: dict[str, Any], named: str) -> None:
    options = StudyOptions.parse({"study": "loops"}, "study run")
    with pytest.raises(UserError, match=f"a resumed study keeps its options, {named}: leave it out"):
        options.resumed_with(given)
    assert options.resumed_with({"seeds": 5, "workers": 1}).seeds == 5
    with pytest.raises(UserError, match=r"^study run: --seeds: must be "):
        options.resumed_with({"seeds": 0})


def test_images_of_a_supernet_are_named_as_they_are_typed() -> None:
    with pytest.raises(UserError, match="--images: must be"):
        SupernetTrainOptions.parse({"supernet_images": 0}, "supernet train")


CONFIG = SupernetConfig(training=TrainingConfig(images=100))
RECORDED_BEFORE = [
    "latency_budget", "latency_batch", "from_scratch", "supernet", "score_images", "fine_tune_images", "finalists",
    "rivals", "strategy", "objectives", "rungs", "eta", "trials", "population", "engine", "ray_address",
    "gpus_per_trial", "workers", "lookahead", "trial_timeout", "time_budget", "gpu_hours", "storage", "train_images",
    "epochs",
]  # fmt: skip
"""Options that the first versions wrote into the file of a supernet's training."""


def test_a_training_of_the_first_versions_is_read_and_another_option_is_not() -> None:
    space = SearchSpace.load("smoke").to_dict()
    options = SupernetTrainOptions.parse({}, "supernet train")
    known = {"options": options.model_dump(mode="json"), "config": CONFIG.model_dump(mode="json"), "space": space}
    old = {**known, "options": known["options"] | dict.fromkeys(RECORDED_BEFORE)}
    assert RecordedSupernetTraining.model_validate(old).options == options
    with pytest.raises(ValidationError, match="option_of_nobody"):
        RecordedSupernetTraining.model_validate({**known, "options": known["options"] | {"option_of_nobody": 1}})


def test_a_teachers_folder_is_found_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "teacher").mkdir()
    monkeypatch.chdir(tmp_path)
    assert trained(teacher="local-dir:teacher").teacher == f"local-dir:{tmp_path / 'teacher'}"
    assert trained(teacher="teacher").teacher == str(tmp_path / "teacher")
    assert trained(teacher="resnet18").teacher == "resnet18"
    assert trained(teacher=None, supernet=None, checkpoint=None).supernet is None


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"teacher": "resnet18", "soft_labels": "labels"}, "--teacher and --soft-labels exclude each other"),
        ({"temperature": 2.0}, "--temperature goes with --teacher"),
        ({"teacher_checkpoint": "weights"}, "--teacher-checkpoint goes with --teacher"),
    ],
)
def test_labels_come_from_one_place(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        trained(**given)
    assert trained(soft_labels="labels").teacher is None
    assert trained(teacher="resnet18", temperature=2.0).temperature == 2.0


def test_threads_count_as_given_only_if_they_were() -> None:
    assert trained().given_threads is None
    assert trained(threads=3).given_threads == 3


def test_work_is_told_by_kind_and_breaks_between_sessions_do_not_count(tmp_path: Path) -> None:
    events = [
        {"event": "header", "time": 100.0},
        {"event": "finished", "time": 110.0, "number": 0, "seconds": 4.0},
        {"event": "resumed", "time": 500.0},
        {"event": "unheard of", "time": 501.0, "seconds": 1.0},
        {"event": "final", "time": 505.0, "role": "rival", "result": {"seconds": 2.0}},
        {"event": "final", "time": 506.0, "role": "control", "result": {"seconds": 2.0}},
        {"event": "final", "time": 507.0, "role": "fine-tuned", "result": {"seconds": 3.0}},
        {"event": "finished", "time": 510.0, "number": 1, "seconds": 4.0},
    ]
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    timeline = read_timeline(tmp_path)
    assert timeline.work == {"trials": 8.0, "other": 1.0, "controls": 4.0, "fine-tuning": 3.0}
    assert (timeline.began, timeline.wall_seconds, timeline.ended) == (100.0, 20.0, {0: 10.0, 1: 20.0})


def test_before_anything_happened_no_time_has_passed(tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").touch()
    assert read_timeline(tmp_path) == Timeline(began=0.0, ended={}, wall_seconds=0.0, work={})
