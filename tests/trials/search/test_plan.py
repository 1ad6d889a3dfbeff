"""What a search says beforehand that it will take."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from statistics import fmean
from typing import Any

import pytest
from rich.console import Console

from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.space.search_space import SearchSpace
from tests.trials.scripted_engine import End, ScriptedEngine
from trials.engines.jobs import JobContext
from trials.runs.options import SearchOptions
from trials.search import plan as plan_module
from trials.search.announce import announce
from trials.search.plan import Plan
from trials.search.supernet import SupernetProvision
from trials.strategies.sret import SReTDomain
from trials.supernet.config import SupernetConfig
from trials.training.recipe import ProxyConfig, TrainingConfig, proxy_arch

PROXY = ProxyConfig(image_size=32, training=TrainingConfig(images=640))
CONTEXT = JobContext(proxy=PROXY, data_dir="data", data_digest="0", device="cpu", threads=1)


def measured(payload: dict[str, Any], attempt: int) -> End:
    """Returns 100 images/s of a network alone; a supernet's step takes 2 s with one thread and 1 s with two."""
    if payload["kind"] == "supernet speed":
        trains = payload["training_threads"] is not None
        return {
            "start_seconds": 5.0 if trains else None,
            "step_seconds": 2.0 / payload["training_threads"] if trains else None,
            "first_images": 40, "first_batch_seconds": 0.5, "seconds_per_flop": 1e-9,
        }  # fmt: skip
    return {
        "images_per_second": 100.0, "start_seconds": 3.0, "num_val_images": 100, "num_test_images": 200,
        "device": "cpu", "proxy_flops": 10**7, "classes": 10, "channels": 3,
    }  # fmt: skip


def measured_beside_other_work(payload: dict[str, Any], attempt: int) -> End:
    """Returns measurements in which two threads take 64 s for a step of a supernet: they wait for other work."""
    found = measured(payload, attempt)
    return {**found, "step_seconds": 64.0} if payload["kind"] == "supernet speed" else found  # type: ignore[dict-item]


def plan_of(
    threads: int = 1, processes: int | None = None, is_trained: bool = False, measured: Callable[..., End] = measured,
    space: str = "smoke", flops: int = 10**9, **given: Any,
) -> Plan:  # fmt: skip
    options = SearchOptions(space=space, flops_budget=flops, device="cpu", **given)
    provision = SupernetProvision(config=SupernetConfig(training=PROXY.training), threads=threads, processes=processes)
    if options.no_supernet:
        provision = None  # type: ignore[assignment]
    domain = SReTDomain(SearchSpace.load(space), Budget(flops_max=flops))
    return Plan(ScriptedEngine(measured), domain, options, CONTEXT, provision, is_trained=is_trained)


def forward(plan: Plan, archs: list[ArchConfig]) -> float:
    """Returns the mean FLOPs of the proxies of some targets."""
    return fmean(cost_of(proxy_arch(arch, PROXY, channels=3, classes=10)).flops for arch in archs)


def test_a_supernet_s_training_takes_what_was_measured_with_its_threads() -> None:
    steps = 640 / 64
    assert plan_of(threads=1).supernet_seconds == pytest.approx(5 + 2 * steps)
    assert plan_of(threads=2).supernet_seconds == pytest.approx(5 + 1 * steps)
    assert plan_of(threads=2, processes=4).supernet_seconds == pytest.approx(5 + steps / 4)
    assert plan_of(threads=2).trial_seconds == plan_of(threads=1).trial_seconds


def test_a_trial_with_inherited_weights_takes_what_scores_took() -> None:
    plan = plan_of()
    flops = forward(plan, plan.samples)
    assert plan.trial_seconds == pytest.approx(0.5 + 60 * flops * 1e-9)
    # fewer than the first batch has
    assert plan_of(val_images_per_trial=30).trial_seconds == pytest.approx(0.5)


def test_a_trial_from_scratch_takes_its_start_its_training_and_its_scores() -> None:
    plan = plan_of(no_supernet=True)
    per_flop = 1 / (100 * 10**7)
    archs = plan.samples
    shallow = fmean(
        sum(cost_of(proxy.with_max_recursions(depth)).flops for depth in range(1, proxy.max_recursions + 1))
        for proxy in (proxy_arch(arch, PROXY, channels=3, classes=10) for arch in archs)
    )
    trained = 640 * fmean(
        plan.flops_per_image([arch], schedule) for arch in archs for schedule in plan.space.effective_schedules(arch)
    )
    assert plan.trial_seconds == pytest.approx(3 + (trained + 100 * shallow / 3) * per_flop)


def test_finals_cost_what_networks_at_both_ends_of_the_budget_cost() -> None:
    plan = plan_of(finalists=2, controls=1, space="sret_tiny")
    ends = [plan.recommended[0], plan.recommended[-1]]
    costs, sampled = ([cost_of(arch).flops for arch in archs] for archs in (plan.recommended, plan.samples))
    assert costs == [max(cost for cost in sampled if cost <= share * 10**9) for share in (1, 0.75, 0.5, 0.25)]
    assert len(set(costs)) == 4
    flops, per_flop = forward(plan, ends), 1 / (100 * 10**7)
    scores = 300 * flops / 3 * per_flop
    whole, tuned = (3 + share * 640 * flops * per_flop + scores for share in (1, 1 / 3))
    inherited = 0.5 + 60 * flops * 1e-9
    assert plan.control_seconds == pytest.approx(whole)
    assert plan.finals_seconds == pytest.approx((2 * (tuned + inherited) + 2 * whole) / plan.at_once)


def test_recommended_networks_cost_shares_of_the_most_expensive_one_where_the_budget_is_out_of_reach() -> None:
    plan = plan_of(space="paper_ablations", flops=10**11)
    costs, sampled = ([cost_of(arch).flops for arch in archs] for archs in (plan.recommended, plan.samples))
    limits = [share * max(sampled) for share in (1, 0.75, 0.5, 0.25)]
    assert costs == [max([cost for cost in sampled if cost <= limit] or [min(sampled)]) for limit in limits]
    assert len(set(costs)) > 2


@pytest.mark.parametrize(("trials", "said"), [(11, "11 of its networks scored"), (12, "and up to 15 recommended ones")])
def test_recommended_networks_are_planned_where_there_are_trials_enough_to_recommend_any(
    trials: int, said: str
) -> None:
    plan, console = plan_of(trials=trials, space="sret_tiny"), Console(file=io.StringIO(), width=500)
    announce(plan, console, trials, 0.0)
    assert said in console.file.getvalue()  # type: ignore[attr-defined]
    by_proxy = plan_of(trials=trials, space="sret_tiny", best_by="proxy")
    assert (plan.all_trials_seconds(trials) > by_proxy.all_trials_seconds(trials)) is (trials == 12)
    assert (plan.control_seconds == by_proxy.control_seconds) is (trials == 11)


def test_the_search_s_own_process_takes_a_core_from_the_workers_if_none_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = plan_of()
    at_once = plan.at_once
    monkeypatch.setattr(plan_module, "num_cores", lambda: at_once)
    assert plan.wall_seconds(60, 6) == pytest.approx((60 + 6) / at_once)
    monkeypatch.setattr(plan_module, "num_cores", lambda: at_once + 1)
    assert plan.wall_seconds(60, 6) == pytest.approx(60 / at_once)
    assert plan.wall_seconds(1, 60) == 60  # workers wait for it


def whole_minutes(plan: Plan, spent: float) -> int:
    """Returns the minutes of the whole search, as the plan says them, rounded down."""
    console = Console(file=io.StringIO(), width=500)
    announce(plan, console, 200, spent)
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
    announce(plan_of(threads=2, measured=how), console, 200, 0.0)
    told = console.file.getvalue()  # type: ignore[attr-defined]
    assert (re.search(r"warning: 2 threads train at 1 images/s, and 1 at \d+: other work uses", told) is not None) == (
        is_warned
    )


@pytest.mark.parametrize(("share", "is_warned"), [(0.38, False), (0.15, True)])
def test_two_quiet_cores_are_not_called_busy(share: float, is_warned: bool) -> None:
    """A supernet's first steps are slower than one network's, with no other work: the first command measured 0.38."""
    speeds = plan_of(threads=2).images_per_second
    assert speeds is not None

    def at_that_share(payload: dict[str, Any], attempt: int) -> End:
        found = measured(payload, attempt)
        slow = {"step_seconds": 64 / (share * speeds[1])} if payload["kind"] == "supernet speed" else {}
        return {**found, **slow}  # type: ignore[dict-item]

    console = Console(file=io.StringIO(), width=500)
    announce(plan_of(threads=2, measured=at_that_share), console, 200, 0.0)
    assert ("other work uses" in console.file.getvalue()) == is_warned  # type: ignore[attr-defined]
