"""The made-up problems on which settings are chosen: their spaces, and what is known of them."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.search.development import FACTORIES, MANY, _Mixed, best_of, problem_of
from benchmarks.search.products import Choices, ProductDomain
from benchmarks.search.runs import run_search


def test_a_space_of_products_has_every_combination_once() -> None:
    domain = ProductDomain([[1, 2, 4], [10, 30]])
    networks = list(domain)
    assert len({network.key for network in networks}) == len(networks) == 6
    assert [network.levels for network in networks] == [tuple(levels) for levels in domain.every.tolist()]
    for network in networks:
        assert domain.decode(domain.encode(network)) == network == domain.candidate(domain.point(network))
        assert domain.costs(network) == (float(domain.chain.costs([domain.point(network)])[0, 0]),)
    assert domain.costs(Choices((2, 1))) == (34.0,)


@pytest.mark.parametrize("name", ["small", "nk-noisy"])
def test_a_problem_is_the_same_each_time_and_its_front_is_the_best_there_is(name: str) -> None:
    problem, again = problem_of(name), FACTORIES[name]()
    members = list(problem.domain.members or ())[:50]
    assert [problem.value(member) for member in members] == [again.value(member) for member in members]
    assert 0 < best_of(name) <= 1
    line = run_search(problem, "stratified", 0, 20)
    assert np.isfinite(line["values"]).all()
    assert ("told" in line) == (name == "nk-noisy")


def test_in_a_smooth_landscape_neighbouring_layers_are_alike() -> None:
    """The effects of two neighbours are correlated by 0.8, elsewhere not at all; each has a variance of one."""
    rough, smooth = _Mixed()._single, _Mixed(is_smooth=True)._single
    for effects, expected in ((rough, 0.0), (smooth, 0.8)):
        layers = effects.reshape(2, -1, 4)[:, :, 1:]
        before, after = layers[:, :-1].ravel(), layers[:, 1:].ravel()
        assert np.corrcoef(before, after)[0, 1] == pytest.approx(expected, abs=0.2)
        assert layers.std() == pytest.approx(1, abs=0.2)
    assert (smooth[:, 0] == 0).all()


@pytest.mark.parametrize("name", ["layered-0", "layered-1", "made-sret-0", "test-sets-0"])
def test_families_hold_different_tables_of_one_kind(name: str) -> None:
    """Each has its own values, equal every time, and bounds that reach just beyond its front."""
    problem, again = problem_of(name), MANY[name]()
    other = problem_of(name[:-1] + str(int(name[-1]) + 2))
    members = list(problem.domain.members or ())
    values = [problem.value(member) for member in members]
    assert len(members) in (60, 100)
    assert values == [again.value(member) for member in members]
    assert values != [other.value(member) for member in other.domain.members or ()]
    assert problem.bounds.value[0] == min(values)
    assert 0 < best_of(name) <= 1
