"""The bound on the costs of a space's networks."""

from __future__ import annotations

from typing import Any

import pytest

from sret_nas.arch.cost import cost_of
from sret_nas.errors import UserError
from sret_nas.feasible import overflow
from sret_nas.feasible.overflow import check_costs_fit
from sret_nas.space.choice_costs import choice_costs_of
from sret_nas.space.search_space import SearchSpace
from tests.counted_spaces import space_of

STEMS: list[dict[str, Any]] = [
    {"width": [4]}, {"width": [4], "norm": "none"}, {"width": [4], "norm": "layer"}, {"kind": "patch"}
]  # fmt: skip


def one_network(stem: dict[str, Any], **others: Any) -> SearchSpace:
    """Returns a space of one network, whose widths have no common divisor, so that its pools are full convolutions."""
    return space_of(*({"width": [width], "heads": [1], "nll": ["every"]} for width in (9, 16, 25)), stem=stem, **others)


@pytest.mark.parametrize("stem", STEMS)
def test_the_bound_of_a_single_network_is_its_cost(stem: dict[str, Any]) -> None:
    space = one_network(stem)
    assert space.num_networks == 1
    network = cost_of(choice_costs_of(space).network(space, (0, 0, 0)))
    parts = overflow._most_expensive_parts(space)
    assert (sum(part.flops for part in parts), sum(part.params for part in parts)) == (network.flops, network.params)


@pytest.mark.parametrize(("classes", "name"), [(10, "FLOPs"), (1_000_000, "parameters")])
def test_a_cost_that_does_not_fit_is_named(classes: int, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a million classes, the biases alone are more than the FLOPs of all other parts."""
    space = one_network(STEMS[0], classes=classes)
    network = cost_of(choice_costs_of(space).network(space, (0, 0, 0)))
    most = max(network.flops, network.params)
    monkeypatch.setattr(overflow, "MAX_COST", most - 1)
    with pytest.raises(
        UserError, match=rf"^test: networks must cost at most .* {name}, as costs are summed in 64 bits"
    ):
        check_costs_fit(space.model_copy())  # one that was not looked at yet
    monkeypatch.setattr(overflow, "MAX_COST", most)
    check_costs_fit(space.model_copy())
