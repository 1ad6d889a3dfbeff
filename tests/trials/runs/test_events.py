"""What a line of the records says: read as its kind, and written as versions before wrote it."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from sret_nas import PRESETS, UserError
from sret_nas.errors import ConfigError
from trials.runs.events import (
    AskedEvent,
    Event,
    FinishedEvent,
    HeaderEvent,
    MeasuredEvent,
    RungEvent,
    SupernetEvent,
    check_header,
    parse_event,
)

ARCH = PRESETS["sret_t"]
ASKED: dict[str, Any] = {
    "event": "asked", "number": 3, "time": 17.5, "arch_id": ARCH.arch_id, "flops": 10, "params": 20,
    "depth_schedule": "joint", "architecture": ARCH.to_dict(),
}  # fmt: skip
COST = {"flops": 1, "params": 1, "image_size": 224, "classes": 1000, "latency_us": None}
RESULT: dict[str, Any] = {
    "share": 1.0, "error": 0.5, "cross_entropy": 1.0, "error_by_depth": [0.5], "val_images": 0, "train_loss": None,
    "train_steps": 0, "train_images": 0, "train_seconds": 0.0, "seconds": 7.0, "target": COST, "proxy": COST,
    "proxy_arch": ARCH.to_dict(), "device": "cpu", "peak_memory_mb": 1.0,
}  # fmt: skip
FAILURE = {"cause": "diverged", "message": "nan", "traceback": ""}
SOURCE = {"path": "supernet.safetensors", "digest": "0"}
FINAL: dict[str, Any] = {
    "arch": ARCH.to_dict(), "flops": 1, "params": 1, "inherited_error": None, "inherited_cross_entropy": None,
    "error": 0.5, "cross_entropy": 1.0, "test_error": 0.5, "test_cross_entropy": 1.0, "num_val_images": 1,
    "num_test_images": 1, "train_images": 1, "seconds": 0.0,
}  # fmt: skip
LINES: dict[str, dict[str, Any]] = {
    "recommended": {
        "event": "recommended", "time": 1.0,
        "recommended": {
            "num_trials": 12,
            "networks": [{"cost": "flops", "share": 0.5, "limit": 500_000_000, "number": 3, "predicted_error": 0.25,
                          "deviation": 0.01}],
            "size": None,
        },
    },
    "asked": ASKED,
    "finished": {"event": "finished", "result": RESULT, "number": 3, "time": 17.5, "seconds": 7.5},
    "failed": {"event": "failed", "failure": FAILURE, "number": 3, "time": 17.5, "seconds": 7.5},
    "rung": {"event": "rung", "number": 3, "time": 17.5, "seconds": 7.5, "part": 0.25, "result": RESULT},
    "stopped": {"event": "stopped", "number": 3, "time": 17.5},
    "retried": {"event": "retried", "number": 3, "attempt": 1, "failure": FAILURE, "time": 17.5, "seconds": 7.5},
    "tested": {
        "event": "tested", "number": 3, "time": 17.5,
        "result": {"error": 0.5, "cross_entropy": 1.0, "num_images": 9},
    },
    "final": {"event": "final", "number": 3, "role": "control", "time": 17.5, "result": FINAL},
    "measured": {"event": "measured", "number": 3, "time": 17.5, "latency_us": 812.5},
    "supernet": {"event": "supernet", "time": 17.5, "seconds": 60.5, "source": SOURCE},
    "resumed": {"event": "resumed", "time": 17.5, "options": {"trials": 9}, "versions": {"torch": "3"}},
    "interrupted": {"event": "interrupted", "time": 17.5},
    "finals": {"event": "finals", "time": 17.5},
    "ended": {"event": "ended", "time": 17.5},
}  # fmt: skip
"""As every version wrote them that had them."""


@pytest.mark.parametrize("kind", sorted(LINES))
def test_a_line_is_written_as_it_was_read(kind: str) -> None:
    """In the same order, too, so that a run that is carried on looks like one that was not."""
    written = parse_event(LINES[kind]).to_json()
    assert written == LINES[kind]
    assert list(written) == list(LINES[kind])


def test_there_is_a_line_of_every_kind() -> None:
    kinds = {kind.model_fields["event"].default for kind in get_args(Event)}
    assert kinds == {*LINES, "header"}


@pytest.mark.parametrize(
    ("kind", "more"), [("asked", {"latency_us": 812, "origin": "design"}), ("finished", {"part": 0.25})]
)
def test_what_most_lines_leave_out_is_kept_where_it_is_said(kind: str, more: dict[str, Any]) -> None:
    assert parse_event({**LINES[kind], **more}).to_json() == {**LINES[kind], **more}


def test_lines_from_before_there_were_attempts_are_read() -> None:
    older = {key: value for key, value in LINES["finished"].items() if key != "seconds"}
    finished = parse_event(older)
    assert isinstance(finished, FinishedEvent)
    assert (finished.seconds, finished.fraction) == (None, 1.0)
    supernet = parse_event({key: value for key, value in LINES["supernet"].items() if key != "seconds"})
    assert isinstance(supernet, SupernetEvent)
    assert supernet.seconds == 0


def test_a_control_that_was_recorded_as_rival_is_read_and_written_as_control() -> None:
    event = parse_event({**LINES["final"], "role": "rival"})
    assert event == parse_event(LINES["final"])
    assert event.to_json()["role"] == "control"


def test_keys_of_a_later_version_are_passed_over() -> None:
    assert parse_event({**ASKED, "crc32": "0"}) == parse_event(ASKED)


NOT_OURS = "not a record of this tool: "


@pytest.mark.parametrize(
    ("line", "key", "message"),
    [
        ([], "", "must be a mapping, got \\[\\]"),
        ({"event": []}, "event: ", "unknown event \\[\\]"),
        ({"event": "won", "number": 0}, "event: ", "unknown event 'won'"),
        ({"event": "measured", "number": 0, "time": 1.0}, "latency_us: ", "is missing"),
        ({**ASKED, "depth_schedule": "deep"}, "depth_schedule: ", "must be "),
        ({**ASKED, "number": -1}, "number: ", "must be .*got -1"),
        ({**LINES["rung"], "result": {**RESULT, "error": "low"}}, "result.error: ", "must be .*got 'low'"),
        ({"event": "header", "format": 2, "time": 1.0}, "format: ", "must be 1, got 2"),
    ],
)
def test_what_is_no_event_is_refused_in_one_line(line: object, key: str, message: str) -> None:
    with pytest.raises((ValueError, UserError), match=f"^event: {key}{NOT_OURS}{message}[^\\n]*$"):
        parse_event(line)


def test_events_are_of_their_kind() -> None:
    kinds = [type(parse_event(LINES[kind])) for kind in ("asked", "rung", "measured")]
    assert kinds == [AskedEvent, RungEvent, MeasuredEvent]


@pytest.mark.parametrize(
    ("supernet", "processes"), [(None, 1), ({"processes": None, "threads": 2}, 1), ({"processes": 4}, 4)]
)
def test_a_header_says_how_many_processes_train_the_supernet(supernet: dict[str, Any] | None, processes: int) -> None:
    keys = ("command", "options", "space", "space_digest", "proxy", "data", "device", "versions")
    content = {"event": "header", "format": 1, "time": 17.5, **{key: {} for key in keys}, "command": []}
    header = parse_event({**content, "supernet": supernet, "expected": {"trial_seconds": 1.0}})
    assert isinstance(header, HeaderEvent)
    assert header.supernet_processes == processes
    assert header.to_json() == {**content, "supernet": supernet, "expected": {"trial_seconds": 1.0}}


def test_a_header_that_cannot_be_resumed_is_named_with_its_file() -> None:
    with pytest.raises(ConfigError, match=r"^mine/records\.jsonl: command: is missing \(and 4 more\)$"):
        check_header({}, "mine/records.jsonl")
