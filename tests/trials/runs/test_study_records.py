"""What the records of a study say of it, and which are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from sret_nas.errors import ConfigError, UserError
from tests.trials.studies.tiny_study import DEFINITION, write_study
from trials.runs.directory import RECORDS_FILE
from trials.runs.loaded_study import LoadedStudy
from trials.runs.record_file import RecordFile
from trials.runs.study_options import StudyOptions
from trials.runs.study_records import StudyEvent, StudyHistory, read_study_history

FAILURE = {"cause": "diverged", "message": "the loss is not finite"}


@pytest.fixture
def header(tmp_path: Path) -> dict[str, Any]:
    """Returns the first line of a study's records, as plain data."""
    path = write_study(tmp_path)
    options = StudyOptions.parse({"study": str(path), "workers": 1}, "study run")
    images = {"train_images": 48, "val_images": 20, "test_images": 40}
    return {
        "event": "study header", "time": 1.0, "command": ["study"], "options": options.model_dump(mode="json"),
        "study": LoadedStudy.load(str(path)).to_dict(), "versions": {},
        "data": {"name": "digits", "digest": "0", "classes": 10, "channels": 1, **images}, "device": "cpu",
        "processor": "", "expected_seconds": {"internal": 1.0, "external": 1.0}, "memory_mb": 1.0,
    }  # fmt: skip


def history_of(run_dir: Path, *events: dict[str, Any]) -> StudyHistory:
    """Writes records and reads them."""
    run_dir.mkdir()
    with RecordFile(run_dir / RECORDS_FILE) as records:
        for event in events:
            records.append(event)
    return read_study_history(run_dir)


def ended(event: str, variant: str = "external", seed: int = 0, **more: Any) -> dict[str, Any]:
    return {"event": event, "time": 2.0, "variant": variant, "seed": seed, "seconds": 3.0, **more}


def test_what_became_of_each_training_and_how_long_all_attempts_took(header: dict[str, Any], tmp_path: Path) -> None:
    retried, failed = ended("retried", failure=FAILURE), ended("failed", failure=FAILURE)
    interrupted = {"event": "interrupted", "time": 2.0}
    history = history_of(tmp_path / "run", header, retried, interrupted, retried, failed, {**retried, "seed": 1})
    assert {key: failure.cause for key, failure in history.failed.items()} == {("external", 0): "diverged"}
    assert {key: len(failures) for key, failures in history.retried.items()} == {("external", 0): 2, ("external", 1): 1}
    assert history.finished == {}
    assert history.seconds == 12.0
    assert [history.has_ended(("external", seed)) for seed in (0, 1)] == [True, False]


def test_events_are_written_as_what_they_are_read_as() -> None:
    kinds = get_args(get_args(StudyEvent)[0])
    assert len(kinds) == 6
    for kind in kinds:
        event = kind.model_fields["event"]
        assert get_args(event.annotation) == (event.default,)


def test_seeds_are_those_of_the_study_until_others_are_asked_for(header: dict[str, Any], tmp_path: Path) -> None:
    assert history_of(tmp_path / "one", header).seeds == range(DEFINITION["seeds"])
    header["options"]["seed"] = 5
    options = {**header["options"], "seeds": 4}
    resumed = {"event": "resumed", "time": 2.0, "options": options}
    assert history_of(tmp_path / "two", header, resumed).seeds == range(5, 9)


@pytest.mark.parametrize("is_limited", [True, False])
def test_a_cluster_is_used_whole_unless_the_records_say_that_workers_were_given(
    is_limited: bool, header: dict[str, Any], tmp_path: Path
) -> None:
    options = {**header["options"], "engine": "ray", "ray_address": "auto"}
    begun = {**header, "options": options, "limits_cluster": is_limited}
    resumed = {"event": "resumed", "time": 2.0, "options": options, "limits_cluster": not is_limited}
    for name, events, expected in (("one", [begun], is_limited), ("two", [begun, resumed], not is_limited)):
        history = history_of(tmp_path / name, *events)
        assert history.options.resumed_with({"seeds": 2}).limits_cluster is expected


def test_a_header_that_has_changed_is_named_with_line_and_key(header: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"run/records\.jsonl, line 1: memory_mb: must be greater than or equal to 0"):
        history_of(tmp_path / "run", {**header, "memory_mb": -1.0})
    with pytest.raises(ConfigError, match=r"other/records\.jsonl, line 1: options: --seeds: "):
        history_of(tmp_path / "other", {**header, "options": {**header["options"], "seeds": 0}})
    study = {**header["study"], "study": {**header["study"]["study"], "variants": []}}
    with pytest.raises(ConfigError, match=r"third/records\.jsonl, line 1: study: variants: "):
        history_of(tmp_path / "third", {**header, "study": study})


def test_a_line_that_has_changed_is_named_with_its_key(header: dict[str, Any], tmp_path: Path) -> None:
    unknown = "not a record of this tool: is not what it should be"
    wrong: list[tuple[dict[str, Any], str]] = [
        (header, "event: not a record of this tool: the header must come first, and once"),
        (ended("failed", "outer", failure=FAILURE), "variant: the study has no 'outer', but internal, external"),
        (ended("failed", failure={**FAILURE, "cause": "bad luck"}), rf"failed\.failure\.cause: {unknown}"),
        (ended("failed", seed=-1, failure=FAILURE), rf"failed\.seed: {unknown}"),
    ]
    for number, (event, message) in enumerate(wrong):
        with pytest.raises(ConfigError, match=rf"records\.jsonl, line 2: {message}"):
            history_of(tmp_path / str(number), header, event)


def test_what_is_no_study_is_refused(header: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no study: there is no records\.jsonl in it"):
        read_study_history(tmp_path)
    with pytest.raises(UserError, match=r"holds no study: records\.jsonl is of something else"):
        history_of(tmp_path / "search", {**header, "event": "header"})
    with pytest.raises(UserError, match=r"records\.jsonl is empty: the study ended before it began; start a new one"):
        history_of(tmp_path / "empty")
