"""The best structure at a cost: found exactly where effects add, inside the window and the budget."""

from __future__ import annotations

import numpy as np
import pytest

from sret_nas.arch.budget import Budget
from sret_nas.arch.cost import cost_of
from sret_nas.space.chain import chain_of
from sret_nas.surrogate.features import EffectTerms
from sret_nas.surrogate.model import Surrogate
from tests.counted_spaces import FOUR_STAGES, shipped
from trials.strategies.sret import SReTDomain
from trials.strategies.strategy import Candidate
from trials.strategies.structure import WINDOWS, StructureModel, is_surely_less

FLOPS = 0


def planted(candidate: Candidate) -> float:
    """Returns an error in which effects of choices add up: recursion and NLLs help, the first width does not."""
    first, second, third, _ = candidate.arch.stages
    return (
        0.5 - 0.05 * first.recursions - 0.1 * (second.nll == "every") - 0.03 * third.recursions + 0.02 * first.mlp_ratio
    )


@pytest.fixture(scope="module")
def domain() -> SReTDomain:
    return SReTDomain(FOUR_STAGES, Budget())


@pytest.fixture(scope="module")
def everyone(domain: SReTDomain) -> list[Candidate]:
    return list(domain)


@pytest.fixture(scope="module")
def model(domain: SReTDomain, everyone: list[Candidate]) -> StructureModel:
    drawn = np.random.default_rng(0).choice(len(everyone), 60, replace=False)
    told = [everyone[position] for position in drawn]
    return StructureModel(domain, told, [planted(candidate) for candidate in told], FLOPS)


def flops(candidate: Candidate) -> int:
    return cost_of(candidate.arch).flops


@pytest.mark.parametrize("share", [1.0, 0.8, 0.6])
def test_it_is_the_best_of_all_networks_in_the_window(
    share: float, model: StructureModel, everyone: list[Candidate]
) -> None:
    limit = share * max(map(flops, everyone))
    found = model.best_within(limit)
    assert found is not None
    inside = [candidate for candidate in everyone if WINDOWS[0] * limit <= flops(candidate) <= limit]
    assert WINDOWS[0] * limit <= flops(found) <= limit
    assert planted(found) == pytest.approx(min(map(planted, inside)), abs=1e-9)


def test_an_empty_window_is_widened_and_nothing_is_found_below_the_cheapest(
    model: StructureModel, everyone: list[Candidate]
) -> None:
    costs = sorted(set(map(flops, everyone)))
    gap = max(range(1, len(costs)), key=lambda position: costs[position] / costs[position - 1])
    just_below = costs[gap] - 1
    found = model.best_within(just_below)
    assert found is not None
    assert flops(found) <= just_below
    assert model.best_within(costs[0] - 1) is None


def test_beyond_the_most_expensive_network_the_window_ends_at_that_one(
    model: StructureModel, everyone: list[Candidate]
) -> None:
    """Else the model would choose the size, which short proxies do not tell."""
    most = max(map(flops, everyone))
    found = model.best_within(10 * most)
    assert found is not None
    assert flops(found) >= WINDOWS[0] * most
    assert found == model.best_within(most)
    assert model.most_expensive(10 * most) == most
    assert model.most_expensive(min(map(flops, everyone)) - 1) is None


def test_another_bound_may_end_the_window(everyone: list[Candidate]) -> None:
    params = sorted(cost_of(candidate.arch).params for candidate in everyone)
    domain = SReTDomain(FOUR_STAGES, Budget(params_max=params[len(params) // 4]))
    inside = list(domain)
    model = StructureModel(domain, inside[::5], [planted(candidate) for candidate in inside[::5]], FLOPS)
    most = max(map(flops, inside))
    assert most < max(map(flops, everyone))
    found = model.best_within(10 * most)
    assert found is not None
    assert domain.excess(found) == 0
    assert WINDOWS[0] * most <= flops(found) <= most
    assert model.most_expensive(10 * most) == most


@pytest.mark.slow
def test_the_budget_s_other_bounds_hold(everyone: list[Candidate]) -> None:
    params = sorted(cost_of(candidate.arch).params for candidate in everyone)
    budget = Budget(params_max=params[len(params) // 2], flops_min=min(map(flops, everyone)) + 1)
    domain = SReTDomain(FOUR_STAGES, budget)
    inside = list(domain)
    model = StructureModel(domain, inside[::5], [planted(candidate) for candidate in inside[::5]], FLOPS)
    found = model.best_within(max(map(flops, everyone)))
    assert found is not None
    assert domain.excess(found) == 0
    assert model.best_within(min(map(flops, everyone))) is None


def _bend(everyone: list[Candidate], domain: SReTDomain, values: list[float]) -> Candidate | None:
    return StructureModel(domain, everyone[::7], values[::7], FLOPS).bend(max(map(flops, everyone)))


@pytest.mark.slow
def test_the_front_bends_where_more_cost_begins_to_save_less(domain: SReTDomain, everyone: list[Candidate]) -> None:
    recursion = [0.3 - 0.1 * (candidate.arch.stages[0].recursions - 1) for candidate in everyone]
    found = _bend(everyone, domain, recursion)
    assert found is not None
    assert found.arch.stages[0].recursions == max(candidate.arch.stages[0].recursions for candidate in everyone)
    cheapest = min(flops(c) for c in everyone if c.arch.stages[0].recursions == found.arch.stages[0].recursions)
    assert flops(found) == pytest.approx(cheapest, rel=0.01)


@pytest.mark.slow
def test_a_straight_front_and_one_of_noise_have_no_bend(domain: SReTDomain, everyone: list[Candidate]) -> None:
    straight = [0.5 - 0.05 * float(np.log2(flops(candidate))) for candidate in everyone]
    assert _bend(everyone, domain, straight) is None
    noise = np.random.default_rng(1).normal(0.3, 0.02, len(everyone)).tolist()
    assert _bend(everyone, domain, noise) is None
    model = StructureModel(domain, everyone[::7], straight[::7], FLOPS)
    assert model.bend(min(map(flops, everyone)) - 1) is None


def test_beliefs_are_right_and_less_sure_of_what_was_never_tried(domain: SReTDomain, everyone: list[Candidate]) -> None:
    told = [candidate for candidate in everyone if candidate.arch.stages[2].recursions == 1][:80]
    model = StructureModel(domain, told, [planted(candidate) for candidate in told], FLOPS)
    untried = next(candidate for candidate in everyone if candidate.arch.stages[2].recursions == 2)
    belief = model.belief([told[0], untried])
    assert belief.mean[0] == pytest.approx(planted(told[0]), abs=0.01)
    assert belief.deviation[1] > 2 * belief.deviation[0]
    difference, deviation = belief.difference(0, 1)
    assert difference == pytest.approx(belief.mean[0] - belief.mean[1])
    assert deviation > 0
    assert model.belief([told[0], untried]).deviation.tolist() == belief.deviation.tolist()


def test_one_model_is_surely_closer_only_beyond_chance() -> None:
    """Two standard errors: of 100 pairs with a deviation of 1 that is a mean of 0.2."""
    spread = np.tile([1.0, -1.0], 50)
    far = np.full(100, 5.0)
    assert not is_surely_less(far - 0.19 + spread, far)
    assert is_surely_less(far - 0.21 + spread, far)
    assert not is_surely_less(far, far)
    assert is_surely_less(far - 0.1, far)  # every one of them
    assert not is_surely_less(far + 0.1, far)


@pytest.mark.slow
def test_slopes_are_surely_closer_where_they_are_the_truth_and_not_on_noise() -> None:
    """A value that falls with MLP ratios, the more so the wider the stage before, and one of noise alone."""
    chain, rng = chain_of(shipped("sret_tiny")), np.random.default_rng(0)
    points = np.column_stack([rng.integers(len(stage), size=80) for stage in chain.stages])
    costs = chain.costs(points).astype(float)
    ratio, width = (chain.stages[0].attributes.index(name) for name in ("mlp_ratio", "width"))
    levels = np.array([stage.levels[points[:, at]] for at, stage in enumerate(chain.stages)])
    values = -(levels[1:, :, ratio] * (1.0 + levels[:-1, :, width])).sum(axis=0)
    for labels, expected in ((values, True), (rng.normal(size=80), False)):
        away = [
            (Surrogate(EffectTerms(chain, has_slopes=has), points, costs, labels, (0,)).loo_predictions - labels) ** 2
            for has in (True, False)
        ]
        assert is_surely_less(*away) is expected
