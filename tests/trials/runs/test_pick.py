"""The network that is picked from a recorded search: by FLOPs or by parameters, with the trial that tried it."""

from __future__ import annotations

from copy import copy
from dataclasses import replace

import pytest

from sret_nas.arch.budget import Budget
from sret_nas.arch.cost import cost_of
from sret_nas.errors import UserError
from tests.trials.planted_search import write_search
from trials.runs.pick import Picked, pick_network
from trials.runs.recorded_search import RecordedSearch


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> RecordedSearch:
    return write_search(tmp_path_factory.mktemp("runs") / "run", best_by="proxy")


def params_of(picked: Picked) -> int:
    return cost_of(picked.candidate.arch).params


def test_parameters_alone_bound_a_pick(search: RecordedSearch) -> None:
    costs = sorted(cost_of(trial.candidate.arch).params for trial in search.history.in_order)
    few, many = (pick_network(search, Budget(params_max=limit)) for limit in (costs[1], costs[-1]))
    assert params_of(few) <= costs[1] < params_of(many) <= costs[-1]
    with pytest.raises(UserError, match="a pick needs the most that the network may cost"):
        pick_network(search, Budget(params_min=costs[0]))


def test_the_trial_that_tried_the_network_is_told_and_no_other(search: RecordedSearch) -> None:
    tried = {trial.candidate.key: trial.number for trial in search.history.in_order if trial.result is not None}
    costs = [cost_of(trial.candidate.arch) for trial in search.history.in_order]
    budgets = [Budget(flops_max=cost.flops, params_max=cost.params) for cost in costs]
    picks = [pick_network(search, budget) for budget in budgets]
    found = [None if picked.trial is None else picked.trial.number for picked in picks]
    assert found == [tried.get(picked.candidate.key) for picked in picks]
    assert None in found
    assert any(number is not None for number in found)


def test_a_predicted_error_is_an_error_whatever_the_model_extrapolates(search: RecordedSearch) -> None:
    """One trial in eight errs by 2 %, and all others by nothing."""
    trials = {number: copy(trial) for number, trial in search.history.trials.items() if trial.result is not None}
    for number, trial in trials.items():
        assert trial.result is not None
        trial.result = trial.result.model_copy(update={"error": 0.02 if number % 8 == 0 else 0.0})
    easy = replace(search, history=replace(search.history, trials=trials))
    costs = sorted(cost_of(trial.candidate.arch).flops for trial in trials.values())
    predicted = [pick_network(easy, Budget(flops_max=cost)).predicted_error for cost in costs[:: len(costs) // 8]]
    assert min(predicted) == 0
