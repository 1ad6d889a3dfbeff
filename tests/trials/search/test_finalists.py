"""Finalists' controls: random networks of equal FLOPs, where there are any."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from sret_nas import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.latency import fast_set
from sret_nas.latency.table import LatencyTable
from sret_nas.space.search_space import SearchSpace
from tests.counted_spaces import FOUR_STAGES
from tests.latency_profiles import pretended_profile
from trials.search import finalists
from trials.search.finalists import EQUAL_COST, control_of, train_finalists
from trials.strategies.sret import SReTDomain


def control(domain: SReTDomain, finalist: ArchConfig) -> ArchConfig | None:
    run: Any = SimpleNamespace(domain=domain, options=SimpleNamespace(budget=domain.budget, seed=0))
    trial: Any = SimpleNamespace(arch=finalist, arch_id=finalist.arch_id, number=3)
    return control_of(run, trial)


def test_a_control_costs_as_much_and_is_another_network() -> None:
    domain = SReTDomain(SearchSpace.load("sret_tiny"), Budget(flops_max=10**9))
    finalist = domain.draw(np.random.default_rng(0)).arch
    drawn = control(domain, finalist)
    assert drawn is not None
    assert drawn.arch_id != finalist.arch_id
    assert cost_of(drawn).flops == pytest.approx(cost_of(finalist).flops, rel=1.01 * EQUAL_COST)


def test_a_finalist_that_is_about_the_only_fast_one_of_its_cost_has_no_control(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where latency is bounded, a set that is hardly ever hit counts as empty, although the finalist is in it."""
    space = SearchSpace.load("sret_tiny")
    table = LatencyTable(space, pretended_profile(space))
    rng, unbounded = np.random.default_rng(0), SReTDomain(space, Budget())
    bound = min(table.latency(unbounded.draw(rng).arch) for _ in range(20))
    domain = SReTDomain(space, Budget(), table, bound)
    finalist = max((domain.draw(rng).arch for _ in range(60)), key=lambda arch: cost_of(arch).flops)
    assert control(domain, finalist) is not None
    monkeypatch.setattr(fast_set, "MAX_TRIES", {"fast": 8, "inside": 8})
    assert control(domain, finalist) is None


@pytest.mark.parametrize(("controls", "num_networks", "alone"), [(0, 2, []), (1, 4, []), (2, 4, [4])])
def test_a_control_that_was_planned_and_does_not_exist_is_told(
    controls: int, num_networks: int, alone: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of two finalists has a control; a search that asks for one pair has all that it asked for."""
    arch = FOUR_STAGES.network([0, 0, 0, 0])
    trials: list[Any] = [SimpleNamespace(number=number, arch=arch, finals={}) for number in (3, 4)]
    monkeypatch.setattr(finalists, "finalists", lambda run: trials)
    monkeypatch.setattr(finalists, "control_of", lambda run, trial: arch if trial.number == 3 else None)
    monkeypatch.setattr(finalists, "_job", lambda run, retraining: None)
    monkeypatch.setattr(finalists, "JobQueue", lambda engine: SimpleNamespace(add=lambda *_: None, is_empty=True))
    printed = io.StringIO()
    run: Any = SimpleNamespace(
        options=SimpleNamespace(controls=controls), console=Console(file=printed, width=120), final_time_limit=None
    )
    train_finalists(run, SimpleNamespace())  # type: ignore[arg-type]
    assert printed.getvalue().splitlines() == [
        f"Finals: training {num_networks} networks, to score on the test part",
        *(f"No control for trial {number}: no other network within 2 % of its FLOPs" for number in alone),
    ]
