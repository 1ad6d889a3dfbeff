"""The append-only record: what is on disk after every event, who may write it, and what no room on the disk changes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sret_nas import UserError
from tests.full_disk import largest_file
from tests.trials.runs.small_records import (
    CANDIDATES,
    DEATH,
    FAILURE,
    HEADER,
    ORIGINS,
    TEST_RESULT,
    result_of,
    write_run,
)
from tests.trials.scripted_engine import Clock
from trials.engines.jobs import SupernetSource
from trials.engines.results import RetrainResult
from trials.runs.checksums import CHECKSUM
from trials.runs.directory import RECORDS_FILE
from trials.runs.full_disk import StorageError
from trials.runs.history import History, read_history
from trials.runs.records import Records


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    write_run(tmp_path)
    history = read_history(tmp_path)
    assert {key: history.header[key] for key in HEADER} == HEADER
    assert [history.trials[number].candidate.key for number in range(3)] == [c.key for c in CANDIDATES]
    assert [history.trials[number].origin for number in range(3)] == list(ORIGINS)
    assert history.trials[0].result == result_of(CANDIDATES[0])
    assert history.trials[0].test == TEST_RESULT
    assert history.trials[1].failure == FAILURE
    assert [history.trials[number].retried for number in range(3)] == [[], [DEATH], []]
    assert [history.trials[number].has_ended for number in range(3)] == [True, True, False]


def test_the_end_of_a_search_is_open_until_it_is_recorded(tmp_path: Path) -> None:
    write_run(tmp_path)
    assert not read_history(tmp_path).are_finals_open
    with Records(tmp_path, must_exist=True) as records:
        records.reopen()
        records.finals()
        assert read_history(tmp_path).are_finals_open
        records.ended_search()
    assert not read_history(tmp_path).are_finals_open


def test_every_event_is_on_record_as_it_was_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under its own keys, which runs that are there have: what is written is a format."""
    monkeypatch.setattr("trials.runs.records.time", Clock())
    first, arch = CANDIDATES[0], CANDIDATES[0].arch
    result, source = result_of(first), SupernetSource(path="supernet.safetensors", digest="abc")
    final = RetrainResult(
        arch=arch, flops=5, params=4, inherited_error=0.5, inherited_cross_entropy=2.0, error=0.25, cross_entropy=1.0,
        test_error=0.3, test_cross_entropy=1.1, num_val_images=10, num_test_images=20, train_images=30, seconds=7.0,
    )  # fmt: skip
    with Records(tmp_path) as records:
        records.start(HEADER)
        records.supernet(source, 12.34567)
        records.asked(0, first, 5, 4, latency_us=30, origin="design")
        records.asked(1, CANDIDATES[1], 6, 5)
        records.rung(0, result, 1.23456, 0.25)
        records.ended(0, result, None, 2.34567, 0.75)
        records.rung(1, result, 1.0, 0.25)
        records.stopped(1)
        records.retried(1, 1, DEATH, 4.0)
        records.ended(1, None, FAILURE, 1.5, 0.5)
        records.tested(0, TEST_RESULT)
        records.final(0, "fine-tuned", final)
        records.measured(0, 31.5)
        records.interrupted()
        records.resumed({"trials": 9}, {"torch": "3"})
        records.resumed({"workers": 9}, {}, limits_cluster=True)
    assert read_history(tmp_path).header["limits_cluster"] is True
    events = [json.loads(line) for line in (tmp_path / RECORDS_FILE).read_text().splitlines()]
    assert all(isinstance(event.pop("time"), float) for event in events)
    assert all(len(event.pop(CHECKSUM)) == 8 for event in events)
    found, death, failure = (part.model_dump(mode="json") for part in (result, DEATH, FAILURE))
    assert found.pop("effective_images") is None  # keys that say nothing stay out of the lines, as they were before
    tuned = final.model_dump(mode="json")
    assert [tuned.pop(f"{part}error_by_depth") for part in ("", "test_")] == [[], []]
    assert [tuned.pop(f"{part}_deviation") for part in ("val", "test")] == [None, None]
    assert events == [
        {"event": "header", "format": 1, **HEADER, "supernet": None},
        {"event": "supernet", "seconds": 12.346, "source": {"path": "supernet.safetensors", "digest": "abc"}},
        {"event": "asked", "number": 0, "arch_id": arch.arch_id, "flops": 5, "params": 4, "latency_us": 30,
         "origin": "design", "depth_schedule": "full", "architecture": arch.to_dict()},
        {"event": "asked", "number": 1, "arch_id": CANDIDATES[1].arch.arch_id, "flops": 6, "params": 5,
         "depth_schedule": "joint", "architecture": CANDIDATES[1].arch.to_dict()},
        {"event": "rung", "number": 0, "seconds": 1.235, "part": 0.25, "result": found},
        {"event": "finished", "number": 0, "seconds": 2.346, "part": 0.75, "result": found},
        {"event": "rung", "number": 1, "seconds": 1.0, "part": 0.25, "result": found},
        {"event": "stopped", "number": 1},
        {"event": "retried", "number": 1, "attempt": 1, "seconds": 4.0, "failure": death},
        {"event": "failed", "number": 1, "seconds": 1.5, "part": 0.5, "failure": failure},
        {"event": "tested", "number": 0, "result": TEST_RESULT.model_dump(mode="json")},
        {"event": "final", "number": 0, "role": "fine-tuned", "result": tuned},
        {"event": "measured", "number": 0, "latency_us": 31.5},
        {"event": "interrupted"},
        {"event": "resumed", "options": {"trials": 9}, "versions": {"torch": "3"}},
        {"event": "resumed", "options": {"workers": 9}, "versions": {}, "limits_cluster": True},
    ]  # fmt: skip
    history = read_history(tmp_path)
    assert (history.supernet, history.usage.supernet_seconds) == (source, 12.346)
    trials = history.trials
    assert (trials[0].partial, trials[0].is_stopped, trials[0].finals) == ([result], False, {"fine-tuned": final})
    assert (trials[0].measured_us, trials[1].measured_us) == (31.5, None)
    assert (trials[1].partial, trials[1].is_stopped, trials[1].finals) == ([result], True, {})


def test_a_directory_that_holds_anything_else_takes_no_search(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(
        UserError, match=r"is not empty \(it holds notes\.txt\): name an --out that does not exist yet$"
    ):
        Records(tmp_path)
    (tmp_path / "notes.txt").unlink()
    (tmp_path / RECORDS_FILE).write_bytes(b'{"event": "hea')  # torn before its header was whole
    with Records(tmp_path) as records:
        records.start(HEADER)
    assert {key: read_history(tmp_path).header[key] for key in HEADER} == HEADER
    with pytest.raises(UserError, match=r"there is no records\.jsonl in it$"):
        Records(tmp_path / "none", must_exist=True)
    assert not (tmp_path / "none").exists()


def test_a_run_directory_takes_one_search(tmp_path: Path) -> None:
    write_run(tmp_path)
    with pytest.raises(UserError, match="--resume"):
        Records(tmp_path)


def test_a_search_that_never_began_leaves_no_trace(tmp_path: Path) -> None:
    with Records(tmp_path / "new" / "run") as records:
        records.withdraw()
    assert list(tmp_path.iterdir()) == []


def test_a_search_that_never_began_leaves_what_others_put_there(tmp_path: Path) -> None:
    with Records(tmp_path / "new" / "run") as records:
        (tmp_path / "new" / "notes.txt").touch()
        records.withdraw()
    assert list(tmp_path.rglob("*")) == [tmp_path / "new", tmp_path / "new" / "notes.txt"]


def test_what_a_resumed_search_changes_counts_from_then_on(tmp_path: Path) -> None:
    write_run(tmp_path)
    with Records(tmp_path, must_exist=True) as records:
        records.reopen()
        records.resumed({"trials": 9}, {"torch": "3"})
    assert read_history(tmp_path).header["options"] == {"trials": 9}


@pytest.mark.slow
def test_a_second_writer_is_turned_away_and_a_dead_one_is_not_waited_for(tmp_path: Path) -> None:
    script = (
        "import sys, os, signal; from pathlib import Path; from trials.runs.records import HEADER_KEYS, Records;"
        "records = Records(Path(sys.argv[1])); records.start({**dict.fromkeys(HEADER_KEYS, {}), 'command': []});"
        "print('locked', flush=True);"
        "sys.stdin.read(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == "locked\n"
    with pytest.raises(UserError, match=f"in use by another search \\(process {holder.pid} on "):
        Records(tmp_path, must_exist=True)
    holder.stdin.close()
    holder.wait()
    holder.stdout.close()
    with Records(tmp_path, must_exist=True) as records:
        assert isinstance(records.reopen(), History)


def test_a_directory_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        Records(tmp_path / "file" / "run")


def test_a_disk_that_is_full_at_any_byte_leaves_whole_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event that found no room is not there, and those before it are; with room again the same search goes on."""
    monkeypatch.setattr("trials.runs.records.time", Clock())  # so that a line is as long the next time
    write_run(tmp_path)
    content = (tmp_path / RECORDS_FILE).read_bytes()
    with Records(tmp_path, must_exist=True) as records:
        records.reopen()
        spent = records.usage.job_seconds
        records.ended(2, None, FAILURE, 7.0)
    line = (tmp_path / RECORDS_FILE).read_bytes()[len(content) :]
    (tmp_path / RECORDS_FILE).write_bytes(content)
    with Records(tmp_path, must_exist=True) as records:
        records.reopen()
        for room in range(len(line)):
            with largest_file(len(content) + room), pytest.raises(StorageError) as caught:
                records.ended(2, None, FAILURE, 7.0)
            assert (tmp_path / RECORDS_FILE).read_bytes() == content
        assert caught.value.filename == str(tmp_path / RECORDS_FILE)
        assert records.usage.job_seconds == spent
        records.ended(2, None, FAILURE, 7.0)
    history = read_history(tmp_path)
    assert history.trials[2].failure == FAILURE
    assert history.usage.job_seconds == records.usage.job_seconds == spent + 7


def test_a_disk_without_room_for_the_header_leaves_no_search(tmp_path: Path) -> None:
    with Records(tmp_path / "run") as records:
        with largest_file(50), pytest.raises(StorageError, match=RECORDS_FILE):
            records.start(HEADER)
        records.withdraw()
    assert list(tmp_path.iterdir()) == []


def test_what_was_spent_is_known_while_writing_and_after(tmp_path: Path) -> None:
    write_run(tmp_path)
    with Records(tmp_path, must_exist=True) as records:
        records.reopen()
        records.interrupted()
        records.resumed({}, {})
        kept = records.usage
    read = read_history(tmp_path).usage
    assert kept.job_seconds == read.job_seconds == 2.5 + 4.0 + 1.5
    assert kept.wall_seconds() == read.wall_seconds() > 0
    assert read.mean_trial_seconds == 2.5


def test_ctrl_c_while_writing_waits_for_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal comes between the line and its flush: the line is whole, and then the search ends."""
    write_run(tmp_path)
    flush = os.fsync

    def pressed(descriptor: int) -> None:
        signal.raise_signal(signal.SIGINT)
        flush(descriptor)

    with Records(tmp_path, must_exist=True) as records:
        records.reopen()
        monkeypatch.setattr(os, "fsync", pressed)
        with pytest.raises(KeyboardInterrupt):
            records.ended(2, None, FAILURE, 7.0)
        monkeypatch.undo()
        assert records.usage.job_seconds == 2.5 + 4.0 + 1.5 + 7.0
    assert read_history(tmp_path).trials[2].failure == FAILURE


def test_a_clock_that_is_set_changes_no_times_of_a_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Records(tmp_path / "run") as records:
        records.start(HEADER)
        began = records.began
        monkeypatch.setattr("time.time", lambda: began - 1e6)
        records.interrupted()
        monkeypatch.setattr("time.time", lambda: began + 1e6)
        records.interrupted()
        assert 0 <= records.usage.wall_seconds(records.now()) < 1000
    times = [json.loads(line)["time"] for line in (tmp_path / "run" / RECORDS_FILE).read_text().splitlines()]
    assert times == sorted(times)
    assert times[-1] - times[0] < 1000


@pytest.mark.parametrize("name", ["lock", RECORDS_FILE])
def test_a_file_of_somebody_else_is_never_taken_for_ours(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("my own")
    with pytest.raises(UserError, match=f"is not empty \\(it holds {name}\\)"):
        Records(tmp_path)
    assert (tmp_path / name).read_text() == "my own"
