"""What a search says beforehand that it will take."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from sret_nas.arch.budget import Budget
from sret_nas.space.search_space import SearchSpace
from tests.trials.scripted_engine import End, ScriptedEngine
from trials.engines.jobs import JobContext
from trials.runs.options import SearchOptions
from trials.search.plan import Plan
from trials.search.supernet import SupernetSetting
from trials.strategies.sret import SReTDomain
from trials.supernet.config import SupernetConfig
from trials.training.recipe import ProxyConfig, TrainingConfig

PROXY = ProxyConfig(image_size=32, training=TrainingConfig(images=640))
CONTEXT = JobContext(proxy=PROXY, data_dir="data", data_digest="0", device="cpu", threads=1)


def measured(payload: dict[str, Any], attempt: int) -> End:
    """Returns two threads are half as fast again as one."""
    speed = 100.0 * (1 + payload["threads"]) / 2
    return {
        "images_per_second": speed, "num_val_images": 100, "device": "cpu", "proxy_flops": 10**7, "classes": 10,
        "channels": 3,
    }  # fmt: skip


def measured_beside_other_work(payload: dict[str, Any], attempt: int) -> End:
    """Returns two threads are a quarter as fast as one, which waits for no other."""
    return {**measured(payload, attempt), "images_per_second": 100.0 / payload["threads"] ** 2}  # type: ignore[dict-item]


def plan_of(
    threads: int, processes: int | None = None, is_trained: bool = False, measured: Callable[..., End] = measured
) -> Plan:
    options = SearchOptions(space="smoke", flops_budget=10**9, device="cpu")
    setting = SupernetSetting(config=SupernetConfig(training=PROXY.training), threads=threads, processes=processes)
    domain = SReTDomain(SearchSpace.load("smoke"), Budget(flops_max=10**9))
    return Plan(ScriptedEngine(measured), domain, options, CONTEXT, setting, is_trained=is_trained)


def test_a_supernet_s_training_is_as_fast_as_was_measured_with_its_threads() -> None:
    alone = plan_of(threads=1)
    assert plan_of(threads=2).supernet_seconds == pytest.approx(alone.supernet_seconds / 1.5)
    assert plan_of(threads=2).trial_seconds == alone.trial_seconds
    assert plan_of(threads=2, processes=4).supernet_seconds == pytest.approx(alone.supernet_seconds / 6)


def whole_minutes(plan: Plan, spent: float) -> int:
    """Returns the minutes of the whole search, as the plan says them, rounded down."""
    console = Console(file=io.StringIO(), width=500)
    plan.announce(console, 200, spent)
    found = re.search(r"about (?:(\d+) h )?(?:(\d+) min)?[^:]* in all", console.file.getvalue())  # type: ignore[attr-defined]
    assert found is not None
    return 60 * int(found[1] or 0) + int(found[2] or 0)


def test_the_whole_time_has_what_was_spent_and_only_what_is_left() -> None:
    plan, resumed = plan_of(threads=1), plan_of(threads=1, is_trained=True)
    assert whole_minutes(plan, 600) - whole_minutes(plan, 0) == 10
    assert resumed.supernet_seconds == 0
    assert whole_minutes(plan, 0) - whole_minutes(resumed, 0) == pytest.approx(plan.supernet_seconds / 60, abs=1)


@pytest.mark.parametrize(("how", "is_warned"), [(measured, False), (measured_beside_other_work, True)])
def test_threads_that_hinder_each_other_are_warned_of(how: Callable[..., End], is_warned: bool) -> None:
    console = Console(file=io.StringIO(), width=500)
    plan_of(threads=2, measured=how).announce(console, 200, 0.0)
    told = console.file.getvalue()  # type: ignore[attr-defined]
    assert ("warning: 2 threads train at 25 images/s, and 1 at 100: other work uses this machine" in told) == is_warned
