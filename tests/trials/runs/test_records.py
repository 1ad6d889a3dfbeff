"""The append-only record: what is on disk after every event, and after a crash at any byte."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sret_nas import PRESETS, UserError, cost_of
from tests.full_disk import largest_file
from tests.trials.scripted_engine import Clock
from trials.engines.jobs import SupernetSource
from trials.engines.results import Failure, FrontTestResult, RetrainResult, TargetCost, TrialResult
from trials.lost_directory import LostDirectoryError
from trials.runs.checksums import CHECKSUM
from trials.runs.directory import RECORDS_FILE
from trials.runs.full_disk import StorageError
from trials.runs.history import History, read_history
from trials.runs.records import HEADER_KEYS, Records
from trials.strategies.strategy import Candidate

CANDIDATES = [
    Candidate(PRESETS["sret_t"], "full"),
    Candidate(PRESETS["sret_lt"], "joint"),
    Candidate(PRESETS["sret_s"], "full"),
]
HEADER = {key: {"of": key} for key in HEADER_KEYS} | {"command": ["search"]}
FAILURE = Failure(cause="diverged", message="the loss became nan", traceback="...")
DEATH = Failure(cause="worker died", message="SIGKILL")
TEST_RESULT = FrontTestResult(error=0.25, cross_entropy=1.5, num_images=100)


def result_of(candidate: Candidate) -> TrialResult:
    cost = cost_of(candidate.arch)
    target = TargetCost(flops=cost.flops, params=cost.params, image_size=224, classes=1000)
    return TrialResult(
        error=0.125,
        cross_entropy=0.1 + 0.2,
        error_by_depth=[0.5, 0.125],
        train_loss=1.0,
        train_steps=10,
        train_images=640,
        train_seconds=1.5,
        seconds=2.0,
        target=target,
        proxy=target,
        proxy_arch=candidate.arch,
        device="cpu",
        peak_memory_mb=700.0,
    )


ORIGINS = ("design", "additive", "")


def write_run(run_dir: Path) -> None:
    """Writes a finished trial that was tested, one that failed twice, and one that never ended."""
    with Records(run_dir) as records:
        records.start(HEADER)
        for number, candidate in enumerate(CANDIDATES):
            cost = cost_of(candidate.arch)
            records.asked(number, candidate, cost.flops, cost.params, origin=ORIGINS[number])
        records.ended(0, result_of(CANDIDATES[0]), None, 2.5)
        records.retried(1, 1, DEATH, 4.0)
        records.ended(1, None, FAILURE, 1.5)
        records.tested(0, TEST_RESULT)


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
        records.ended(1, None, FAILURE, 1.5)
        records.tested(0, TEST_RESULT)
        records.final(0, "fine-tuned", final)
        records.measured(0, 31.5)
        records.interrupted()
        records.resumed({"trials": 9}, {"torch": "3"})
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
        {"event": "failed", "number": 1, "seconds": 1.5, "failure": failure},
        {"event": "tested", "number": 0, "result": TEST_RESULT.model_dump(mode="json")},
        {"event": "final", "number": 0, "role": "fine-tuned", "result": tuned},
        {"event": "measured", "number": 0, "latency_us": 31.5},
        {"event": "interrupted"},
        {"event": "resumed", "options": {"trials": 9}, "versions": {"torch": "3"}},
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


def test_a_header_of_another_format_or_without_a_key_is_refused(tmp_path: Path) -> None:
    header = {"event": "header", "format": 1, "time": 1.0, **HEADER}
    without = {key: value for key, value in header.items() if key not in ("space", "device")}
    for wrong, told in (
        ({**header, "format": 2}, "format: not a record of this tool: must be 1, got 2"),
        ({**header, "event": "asked"}, "number: not a record of this tool: is missing .*"),
        (without, r"space: not a record of this tool: is missing \(and 1 more\)"),
    ):
        (tmp_path / RECORDS_FILE).write_text(json.dumps(wrong) + "\n")
        with pytest.raises(UserError, match=rf"line 1: {told}$"):
            read_history(tmp_path)


@pytest.mark.slow
def test_a_torn_line_is_cut_at_every_byte(tmp_path: Path) -> None:
    """Whatever byte a crash stops at, reopening keeps exactly the whole lines, and the next event is readable."""
    write_run(tmp_path / "whole")
    content = (tmp_path / "whole" / RECORDS_FILE).read_bytes()
    line_ends = [position + 1 for position, byte in enumerate(content) if byte == ord("\n")]
    last_start = line_ends[-2]
    for length in range(last_start, len(content) + 1):
        torn = tmp_path / "torn"
        torn.mkdir()
        (torn / RECORDS_FILE).write_bytes(content[:length])
        with Records(torn, must_exist=True) as records:
            before = records.reopen()
            records.ended(2, None, FAILURE, 0.0)
        after = read_history(torn)
        assert (before.trials[0].test is not None) == (length == len(content))
        assert after.trials[2].failure == FAILURE
        assert after.trials[0].result == result_of(CANDIDATES[0])
        shutil.rmtree(torn)


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    write_run(tmp_path)
    path = tmp_path / RECORDS_FILE
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b'{"event": "asked"\n', *lines[3:]]))
    with pytest.raises(UserError, match=r"records\.jsonl, line 3: not a record of this tool: it has no checksum"):
        read_history(tmp_path)


@pytest.mark.parametrize(
    "event", [{"event": "won", "number": 0}, {"number": 0}, [], {"event": "finished", "number": 9}]
)
def test_events_of_no_known_kind_are_refused(tmp_path: Path, event: object) -> None:
    write_run(tmp_path)
    with open(tmp_path / RECORDS_FILE, "a") as file:
        file.write(json.dumps(event) + "\n")
    with pytest.raises(UserError, match="line 9"):
        read_history(tmp_path)


def test_a_line_that_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / RECORDS_FILE).write_text('{"event": "header", \n')
    with pytest.raises(UserError, match=r"records\.jsonl, line 1: "):
        read_history(tmp_path)


def test_an_empty_file_and_a_missing_one_are_explained(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no run directory"):
        read_history(tmp_path)
    (tmp_path / RECORDS_FILE).write_bytes(b'{"event": "hea')
    with pytest.raises(UserError, match="ended before it began"):
        read_history(tmp_path)


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


def test_records_from_before_there_were_attempts_are_read(tmp_path: Path) -> None:
    """They lack the event `retried`, the seconds of attempts, and checksums."""
    write_run(tmp_path)
    path = tmp_path / RECORDS_FILE
    events = [json.loads(line) for line in path.read_text().splitlines()]
    older = [{**event} for event in events if event["event"] != "retried"]
    for event in older:
        event.pop("seconds", None)
        del event[CHECKSUM]
    path.write_text("".join(json.dumps(event) + "\n" for event in older))
    history = read_history(tmp_path)
    assert history.trials[0].result == result_of(CANDIDATES[0])
    assert history.trials[1].failure == FAILURE
    assert history.trials[1].retried == []
    assert history.usage.job_seconds == 2.0  # the result's own


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


@pytest.mark.slow
def test_a_flipped_byte_anywhere_in_a_line_is_noticed(tmp_path: Path) -> None:
    """In values, in keys and in the checksum itself; of a line in the middle, and with the digits 0 to 9 in mind."""
    write_run(tmp_path)
    path = tmp_path / RECORDS_FILE
    content = path.read_bytes()
    start = content.index(b'{"event": "finished"')
    end = content.index(b"\n", start)
    for position in range(start, end):
        flipped = bytearray(content)
        flipped[position] ^= 1
        path.write_bytes(flipped)
        with pytest.raises(UserError, match=r"records\.jsonl, line 5: not a record of this tool"):
            read_history(tmp_path)


def test_lines_without_a_checksum_are_an_earlier_versions(tmp_path: Path) -> None:
    """They come first, and what is added to them has one; a later line that has lost its own is no such line."""
    write_run(tmp_path)
    path = tmp_path / RECORDS_FILE
    events = [json.loads(line) for line in path.read_text().splitlines()]
    for event in events:
        del event[CHECKSUM]
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    with Records(tmp_path, must_exist=True) as records:
        records.reopen()
        records.ended(2, None, FAILURE, 1.0)
    assert read_history(tmp_path).trials[2].failure == FAILURE
    with path.open("a") as file:
        file.write(json.dumps(events[-1]) + "\n")
    with pytest.raises(UserError, match="line 10: not a record of this tool: it has no checksum"):
        read_history(tmp_path)


def deleted(run_dir: Path) -> None:
    shutil.rmtree(run_dir)


def moved(run_dir: Path) -> None:
    run_dir.rename(run_dir.with_name("elsewhere"))


def replaced(run_dir: Path) -> None:
    shutil.copytree(run_dir, run_dir.with_name("copy"))
    shutil.rmtree(run_dir)
    run_dir.with_name("copy").rename(run_dir)


def without_records(run_dir: Path) -> None:
    (run_dir / RECORDS_FILE).unlink()


@pytest.mark.parametrize("lose", [deleted, moved, replaced, without_records])
def test_records_of_a_lost_run_directory_are_kept_beside(tmp_path: Path, lose: Callable[[Path], None]) -> None:
    """Those from before it was lost, and the one that was about to be written; a search can be resumed from them."""
    run_dir = tmp_path / "run"
    write_run(run_dir)
    with Records(run_dir, must_exist=True) as records:
        records.reopen()
        lose(run_dir)
        with pytest.raises(
            LostDirectoryError, match=r"deleted, moved or replaced.*: sret-nas search --resume .*/run-rescued$"
        ):
            records.ended(2, result_of(CANDIDATES[2]), None, 1.0)
    history = read_history(tmp_path / "run-rescued")
    assert history.trials[0].test == TEST_RESULT
    assert history.trials[2].result == result_of(CANDIDATES[2])
    with Records(tmp_path / "run-rescued", must_exist=True) as records:
        assert records.reopen().trials.keys() == {0, 1, 2}


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


@pytest.mark.parametrize("lose", [deleted, moved, replaced])
def test_a_run_directory_that_is_lost_before_the_first_record(tmp_path: Path, lose: Callable[[Path], None]) -> None:
    run_dir = tmp_path / "run"
    with Records(run_dir) as records:
        lose(run_dir)
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(LostDirectoryError, match=r"run was deleted, moved or replaced.*start it again$"):
            records.start(HEADER)
        records.withdraw()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_trial_that_failed_when_the_directory_was_lost_is_left_to_be_run_again(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    (tmp_path / "run-rescued").mkdir()  # of an earlier loss: it is not written over
    with Records(tmp_path / "run", must_exist=True) as records:
        records.reopen()
        shutil.rmtree(tmp_path / "run")
        with pytest.raises(LostDirectoryError):
            records.ended(2, None, FAILURE, 1.0)
    assert not read_history(tmp_path / "run-rescued-2").trials[2].has_ended
    assert list((tmp_path / "run-rescued").iterdir()) == []


def test_records_that_cannot_be_kept_beside_are_said_to_be_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    write_run(tmp_path / "run")
    with Records(tmp_path / "run", must_exist=True) as records:
        records.reopen()
        shutil.rmtree(tmp_path / "run")
        monkeypatch.setattr("trials.runs.records.write_atomically", full)
        with pytest.raises(LostDirectoryError, match=r"cannot be kept in .*/run-rescued: No space left on device"):
            records.interrupted()


def test_records_that_something_else_wrote_to_are_noticed(tmp_path: Path) -> None:
    write_run(tmp_path)
    with Records(tmp_path, must_exist=True) as records:
        records.reopen()
        os.truncate(tmp_path / RECORDS_FILE, 100)
        with pytest.raises(LostDirectoryError, match=r"records\.jsonl was changed by something else"):
            records.interrupted()


@pytest.mark.parametrize("name", ["lock", RECORDS_FILE])
def test_a_file_of_somebody_else_is_never_taken_for_ours(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("my own")
    with pytest.raises(UserError, match=f"is not empty \\(it holds {name}\\)"):
        Records(tmp_path)
    assert (tmp_path / name).read_text() == "my own"
