"""What a search says beforehand that it will take."""

from __future__ import annotations

from typing import Any

import pytest

from sret_nas.arch.budget import Budget
from sret_nas.space.search_space import SearchSpace
from tests.trials.scripted_engine import End, ScriptedEngine
from trials.engines.messages import JobContext
from trials.runs.options import SearchOptions
from trials.search.plan import Plan
from trials.search.supernet import SupernetSetting
from trials.strategies.sret import SReTDomain
from trials.supernet.config import SupernetConfig
from trials.training.recipe import ProxyConfig, TrainingConfig

PROXY = ProxyConfig(image_size=32, training=TrainingConfig(images=640))
CONTEXT = JobContext(proxy=PROXY, data_dir="data", data_digest="0", device="cpu", threads=1)


def measured(payload: dict[str, Any], attempt: int) -> End:
    """Two threads are half as fast again as one."""
    speed = 100.0 * (1 + payload["threads"]) / 2
    return {
        "images_per_second": speed, "num_val_images": 100, "device": "cpu", "proxy_flops": 10**7, "classes": 10,
        "channels": 3,
    }  # fmt: skip


def plan_of(threads: int, processes: int | None = None) -> Plan:
    options = SearchOptions(space="smoke", flops_budget=10**9, device="cpu")
    setting = SupernetSetting(config=SupernetConfig(training=PROXY.training), threads=threads, processes=processes)
    domain = SReTDomain(SearchSpace.load("smoke"), Budget(flops_max=10**9))
    return Plan(ScriptedEngine(measured), domain, options, CONTEXT, setting)


def test_a_supernet_s_training_is_as_fast_as_was_measured_with_its_threads() -> None:
    alone = plan_of(threads=1)
    assert plan_of(threads=2).supernet_seconds == pytest.approx(alone.supernet_seconds / 1.5)
    assert plan_of(threads=2).trial_seconds == alone.trial_seconds
    assert plan_of(threads=2, processes=4).supernet_seconds == pytest.approx(alone.supernet_seconds / 6)
