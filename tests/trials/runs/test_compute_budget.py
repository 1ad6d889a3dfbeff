"""What a search has spent, from the events of its records, and what it may still spend."""

from __future__ import annotations

import time
from typing import Any

import pytest

from sret_nas import PRESETS
from trials.report.progress import describe_usage
from trials.runs.compute_budget import ComputeBudget, ComputeUsage
from trials.runs.events import Event, parse_event
from trials.runs.records import HEADER_KEYS


def usage_of(*events: Event) -> ComputeUsage:
    usage = ComputeUsage()
    for event in events:
        usage.apply(event)
    return usage


ARCH = PRESETS["sret_t"].to_dict()
COST = {"flops": 1, "params": 1, "image_size": 224, "classes": 1000}
RESULT = {
    "error": 0.5, "cross_entropy": 1.0, "error_by_depth": [0.5], "train_loss": None, "train_steps": 0,
    "train_images": 0, "train_seconds": 0.0, "seconds": 0.0, "target": COST, "proxy": COST, "proxy_arch": ARCH,
    "device": "cpu", "peak_memory_mb": 1.0,
}  # fmt: skip
FAILURE = {"cause": "worker died", "message": "SIGKILL"}
FINAL = {
    "arch": ARCH, "flops": 1, "params": 1, "inherited_error": None, "inherited_cross_entropy": None, "error": 0.5,
    "cross_entropy": 1.0, "test_error": 0.5, "test_cross_entropy": 1.0, "num_val_images": 1, "num_test_images": 1,
    "train_images": 1, "seconds": 0.0,
}  # fmt: skip
REST: dict[str, dict[str, Any]] = {
    "header": {"format": 1, **{key: {} for key in HEADER_KEYS} | {"command": []}},
    "resumed": {"options": {}},
    "supernet": {"source": {"path": "supernet.safetensors", "digest": "0"}},
    "asked": {"arch_id": "0", "flops": 1, "params": 1, "depth_schedule": "full", "architecture": ARCH},
    "finished": {"result": RESULT},
    "rung": {"result": RESULT},
    "failed": {"failure": FAILURE},
    "retried": {"failure": FAILURE, "attempt": 1},
    "final": {"role": "control", "result": FINAL},
}
"""What else the events say, which does not matter here."""


def at(time: float, event: str, **more: Any) -> Event:
    return parse_event({"event": event, "time": time, "number": 0, **REST.get(event, {}), **more})


HEADER = at(1000, "header")


def test_a_session_lasts_from_its_first_event_to_its_last_or_until_now() -> None:
    usage = usage_of(HEADER, at(1010, "asked"), at(1030, "finished", seconds=20))
    assert usage.wall_seconds() == 30
    assert usage.wall_seconds(now=1050) == 50
    assert usage_of(HEADER).wall_seconds() == 0


def test_the_time_between_sessions_is_not_spent() -> None:
    usage = usage_of(HEADER, at(1030, "interrupted"), at(9000, "resumed"), at(9005, "asked"))
    assert usage.wall_seconds() == 35
    assert usage.wall_seconds(now=9100) == 130


def test_a_clock_that_is_set_back_costs_nothing_and_gives_nothing_back() -> None:
    usage = usage_of(HEADER, at(1030, "asked"), at(500, "asked"))
    assert usage.wall_seconds() == usage.wall_seconds(now=10) == 30
    usage.apply(at(400, "resumed"))
    assert usage.wall_seconds(now=401) == 31


def test_a_supernet_s_training_counts_also_where_it_was_killed() -> None:
    """The first session trained for 1900 s and was killed without a trace; the second for another 100 s."""
    events = [HEADER, at(5000, "resumed"), at(5100, "supernet", seconds=2000)]
    assert usage_of(*events).wall_seconds() == 2000
    assert usage_of(HEADER, at(3010, "supernet", seconds=2000)).wall_seconds() == 2010
    assert usage_of(*events, at(5160, "asked")).wall_seconds() == 2060
    known = at(1030, "interrupted"), at(5000, "resumed"), at(5100, "supernet", seconds=2000)
    assert usage_of(HEADER, *known).wall_seconds() == 2000


def test_the_mean_is_of_finished_trials_and_gpu_time_of_everything() -> None:
    usage = usage_of(
        HEADER,
        at(1005, "supernet", seconds=5),
        at(1015, "finished", seconds=10),
        at(1016, "retried", seconds=1),
        at(1018, "failed", seconds=2),
        at(1038, "finished", seconds=20),
        at(1138, "final", result={**FINAL, "seconds": 100.0}),
    )
    assert usage.mean_trial_seconds == 15
    assert (usage.supernet_seconds, usage.job_seconds) == (5, 133)
    assert usage_of(HEADER).mean_trial_seconds is None


def test_older_records_tell_by_the_result_how_long_a_trial_was() -> None:
    usage = usage_of(
        HEADER, at(1005, "supernet"), at(1010, "finished", result={**RESULT, "seconds": 4.0}), at(1011, "failed")
    )
    assert (usage.job_seconds, usage.mean_trial_seconds) == (4.0, 4.0)


def compute_budget(usage: ComputeUsage, **bounds: Any) -> ComputeBudget:
    return ComputeBudget(
        usage, **{"expected": 10.0, "time_budget": None, "gpu_hours": None, "gpus_per_trial": 1, **bounds}
    )


@pytest.mark.parametrize(("now", "allowed"), [(1089.9, True), (1090, True), (1090.1, False)])
def test_a_trial_starts_only_if_it_would_end_in_time(now: float, allowed: bool) -> None:
    """As planned, it takes 10 s."""
    bounded = compute_budget(usage_of(HEADER), time_budget=100.0)
    assert bounded.has_room_for(now, []) is allowed
    assert bounded.exhausted_by == (None if allowed else "time_budget")


def test_the_mean_so_far_is_believed_more_than_the_plan_and_no_is_no() -> None:
    usage = usage_of(HEADER, at(1030, "finished", seconds=30))
    bounded = compute_budget(usage, time_budget=100.0)
    assert bounded.has_room_for(1070, [])
    assert not bounded.has_room_for(1071, [])
    usage.apply(at(1071, "finished", seconds=0.1))
    assert not bounded.has_room_for(1071, [])


@pytest.mark.parametrize(
    ("running", "allowed"),
    [([], True), ([0.0], True), ([0.0, 9.0], True), ([0.0, 9.0, 9.0], False), ([25.0], False), ([15.0], True)],
)
def test_gpu_time_of_running_trials_is_promised(running: list[float], allowed: bool) -> None:
    """Of 36 + 60 = 96 GPU-seconds, 36 are spent by 2 GPUs in 18 s; each trial takes 10 s, on 2 GPUs."""
    usage = usage_of(HEADER, at(1008, "failed", seconds=8), at(1018, "finished", seconds=10))
    bounded = compute_budget(usage, gpu_hours=96 / 3600, gpus_per_trial=2)
    assert bounded.has_room_for(2000, [(seconds, 1.0) for seconds in running]) is allowed
    assert bounded.exhausted_by == (None if allowed else "gpu_hours")


def test_parts_of_trials_count_as_such() -> None:
    """A ninth took 2 s and the two ninths after it 4 s, so that a trial takes 18 s and a part of two ninths 4 s."""
    parts = at(1002, "rung", seconds=2, part=1 / 9), at(1006, "finished", seconds=4, part=2 / 9)
    usage = usage_of(HEADER, *parts)
    assert usage.mean_trial_seconds == pytest.approx(18)
    assert usage.job_seconds == 6
    bounded = compute_budget(usage, time_budget=10.0)
    assert not compute_budget(usage, time_budget=10.0).has_room_for(1006.1, [], fraction=2 / 9)
    assert bounded.has_room_for(1005.9, [], fraction=2 / 9)
    running = [(1.0, 1 / 9), (5.0, 2 / 9)]  # promised: 2, 5 and 4
    assert compute_budget(usage, gpu_hours=17.1 / 3600).has_room_for(1006, running, fraction=2 / 9)
    assert not compute_budget(usage, gpu_hours=16.9 / 3600).has_room_for(1006, running, fraction=2 / 9)


@pytest.mark.parametrize(
    ("supernet", "processes"), [({"processes": 4}, 4), ({"processes": None}, 1), ({}, 1), (None, 1)]
)
def test_every_process_of_a_supernet_s_training_has_a_gpu(supernet: dict[str, Any] | None, processes: int) -> None:
    usage = usage_of(at(1000, "header", supernet=supernet), at(1005, "supernet", seconds=5.0))
    assert compute_budget(usage, gpus_per_trial=2).gpu_seconds == 5.0 * processes


def test_nothing_bounds_by_default() -> None:
    free = compute_budget(usage_of(HEADER))
    assert free.has_room_for(1e12, [(1e12, 1.0)])
    assert not free.is_bounded
    assert free.clock is time.time  # as the records tell it
    assert describe_usage(free) == ""


def test_what_is_spent_and_left_is_told() -> None:
    usage = usage_of(HEADER, at(1005, "supernet", seconds=600.0), at(1010, "finished", seconds=1200.0))
    both = compute_budget(usage, time_budget=7200.0, gpu_hours=64.0, gpus_per_trial=2)
    assert describe_usage(both, now=1000 + 725) == (
        "22 min 0 s of 2 h 0 min spent, 1 h 38 min left; 0.833 of 64 GPU-hours spent, 63.2 left"
    )
    assert describe_usage(compute_budget(usage, time_budget=60.0), now=5000).endswith("of 1 min 0 s spent, 0 s left")
