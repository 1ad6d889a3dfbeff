from __future__ import annotations

from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest

from sret_nas.arch.cost import bounded_costs, cost_of
from sret_nas.errors import UserError
from sret_nas.space.chain import SHALLOWEST, Chain, ChainStage, chain_of, with_shallowest
from sret_nas.space.choice_costs import RESIDUAL_STEP, choice_costs_of
from sret_nas.space.choices import STAGE_DIMENSIONS
from sret_nas.space.search_space import SearchSpace
from tests.counted_spaces import HEADS, RESIDUALS, STEMS, EveryNetwork, shipped


def by_hand() -> Chain:
    """Returns two stages of two states each; 7 after 1 is no network."""
    first = ChainStage(np.array([3, 1, 3]), np.array([[1, 10], [2, 20], [3, 30]]), ("a",), np.array([[0], [1], [2]]))
    second = ChainStage(np.array([7, 5]), np.array([[100, 5], [200, 6]]), ("a", "b"), np.array([[0, 4], [1, 0]]))
    return Chain(("flops", "params"), (first, second), ({(3, 7): (1000, 1), (3, 5): (2000, 2), (1, 5): (3000, 3)},))


class TestByHand:
    def test_costs_add_choices_and_links(self) -> None:
        points = [(0, 0), (0, 1), (1, 1), (2, 0), (0, 0)]
        expected = [[1101, 16], [2201, 18], [3202, 29], [1103, 36], [1101, 16]]
        assert by_hand().costs(points).tolist() == expected

    def test_costs_are_exact_where_floats_are_not(self) -> None:
        stage = ChainStage(np.array([0]), np.array([[2**60 + 1]]), ("a",), np.array([[0]]))
        costs = Chain(("flops",), (stage, stage), ({(0, 0): (2**59 + 1,)},)).costs([(0, 0)])
        assert costs.tolist() == [[2**61 + 2**59 + 3]]

    def test_no_points_have_no_costs(self) -> None:
        assert by_hand().costs(np.zeros((0, 2), dtype=np.int64)).shape == (0, 2)

    def test_a_missing_link_is_no_network(self) -> None:
        with pytest.raises(KeyError, match="goes from stage 0 to the next by a link that does not exist"):
            by_hand().costs([(0, 0), (1, 0)])

    def test_states_and_levels(self) -> None:
        first, second = by_hand().stages
        assert (len(first), len(second)) == (3, 2)
        assert first.states.tolist() == [1, 3]
        assert first.state_position.tolist() == [1, 0, 1]
        assert (first.num_levels, second.num_levels) == ((3,), (2, 5))

    def test_link_costs_are_in_the_order_of_states(self) -> None:
        # Rows: states 1 and 3; columns: states 5 and 7.
        assert by_hand().link_costs[0].tolist() == [[[3000, 3], [0, 0]], [[2000, 2], [1000, 1]]]


@pytest.mark.parametrize("name", ["smoke", "sret_tiny", "sret_small", "paper_ablations"])
class TestOfSpaces:
    def test_costs_are_those_of_the_networks(self, name: str) -> None:
        space = shipped(name)
        chain, costs = chain_of(space), choice_costs_of(space)
        rng = np.random.default_rng(0)
        points = np.column_stack([rng.integers(len(stage), size=30) for stage in chain.stages])
        built = [cost_of(costs.network(space, tuple(point))) for point in points.tolist()]
        assert chain.costs(points).tolist() == [[cost.flops, cost.params] for cost in built]

    def test_every_pair_of_neighbours_is_linked(self, name: str) -> None:
        chain = chain_of(shipped(name))
        for links, (first, second) in zip(chain.links, pairwise(chain.stages), strict=True):
            assert set(links) == set(product(first.states.tolist(), second.states.tolist()))

    def test_points_are_as_many_as_networks(self, name: str) -> None:
        space = shipped(name)
        assert np.prod([len(stage) for stage in chain_of(space).stages]) == space.num_networks

    def test_levels_spell_choices(self, name: str) -> None:
        space = shipped(name)
        chain, costs = chain_of(space), choice_costs_of(space)
        for number, stage in enumerate(chain.stages):
            assert stage.attributes[: len(STAGE_DIMENSIONS)] == STAGE_DIMENSIONS
            assert len(np.unique(stage.levels, axis=0)) == len(stage)
            width = stage.levels[:, STAGE_DIMENSIONS.index("width")]
            listed = np.array(space.stages[number].width)
            assert (listed[width] == stage.state).all()
            assert (stage.state == costs.width[number]).all()


def test_the_stem_is_part_of_the_first_stage() -> None:
    data = SearchSpace.load("smoke").to_dict()
    data["stem"] = {**data.get("stem", {}), "width": [4, 6, 9]}
    space = SearchSpace.from_dict(data)
    chain, costs = chain_of(space), choice_costs_of(space)
    first = chain.stages[0]
    assert first.attributes == (*STAGE_DIMENSIONS, "stem width")
    points = np.array(list(product(*(range(len(stage)) for stage in chain.stages))))
    networks = [costs.network(space, tuple(point)) for point in points.tolist()]
    stems = [(4, 6, 9)[level] for level in first.levels[points[:, 0], -1].tolist()]
    assert stems == [network.stem.width for network in networks]
    assert set(stems) == {4, 6, 9}
    assert chain.costs(points).tolist() == [[cost_of(arch).flops, cost_of(arch).params] for arch in networks]


def test_kinds_and_norms_of_the_stem_are_attributes_of_the_first_stage() -> None:
    chain, costs = chain_of(STEMS), choice_costs_of(STEMS)
    first, listed = chain.stages[0], STEMS.stem
    assert first.attributes[-3:] == ("stem width", "stem kind", "stem norm")
    points = np.array(list(product(*(range(len(stage)) for stage in chain.stages))))
    networks = [costs.network(STEMS, tuple(point)) for point in points.tolist()]
    levels = first.levels[points[:, 0], -3:].tolist()
    for arch, (width, kind, norm) in zip(networks, levels, strict=True):
        spelled = (listed.width or ())[width], listed.kind[kind], listed.norm[norm]
        is_patch = arch.stem.kind == "patch"  # spelled with what is listed first
        assert spelled == ((4, "patch", "layer") if is_patch else (arch.stem.width, arch.stem.kind, arch.stem.norm))
    assert len(set(map(tuple, levels))) == 2 * 3 + 1
    assert chain.costs(points).tolist() == [[cost_of(arch).flops, cost_of(arch).params] for arch in networks]


def test_heads_are_attributes_of_the_last_stage() -> None:
    chain, costs, points = chain_of(HEADS), choice_costs_of(HEADS), EveryNetwork(HEADS).choices
    networks = [costs.network(HEADS, tuple(point)) for point in points.tolist()]
    assert len({arch.arch_id for arch in networks}) == len(networks) == HEADS.num_networks
    assert [costs.choices(HEADS, arch) for arch in networks] == list(map(tuple, points.tolist()))
    assert chain.costs(points).tolist() == [[cost.flops, cost.params] for cost in map(cost_of, networks)]
    assert chain.stages[-1].attributes[-1] == "head"
    assert "head" not in chain.stages[0].attributes
    assert all(len(np.unique(stage.levels, axis=0)) * 2 == len(stage) for stage in chain.stages[1:])  # two residuals
    levels = chain.stages[-1].levels[points[:, -1], -1].tolist()
    assert [HEADS.head[level] for level in levels] == [arch.head for arch in networks]


class TestResiduals:
    """Residual connections are those of all stages: states know them, and stage 1 has them as an attribute."""

    chain = chain_of(RESIDUALS)
    points = EveryNetwork(RESIDUALS).choices

    def test_points_are_the_networks(self) -> None:
        costs = choice_costs_of(RESIDUALS)
        networks = [costs.network(RESIDUALS, tuple(point)) for point in self.points.tolist()]
        assert len({arch.arch_id for arch in networks}) == len(networks) == RESIDUALS.num_networks
        assert self.chain.costs(self.points).tolist() == [
            [cost.flops, cost.params] for cost in map(cost_of, networks)
        ]  # fmt: skip
        assert [costs.choices(RESIDUALS, arch) for arch in networks] == list(map(tuple, self.points.tolist()))
        column = self.chain.stages[0].attributes.index("residual")
        levels = self.chain.stages[0].levels[self.points[:, 0], column].tolist()
        assert [RESIDUALS.residual[level] for level in levels] == [arch.residual for arch in networks]
        assert not any("residual" in stage.attributes for stage in self.chain.stages[1:])

    def test_links_join_equal_residuals(self) -> None:
        for links, (first, second) in zip(self.chain.links, pairwise(self.chain.stages), strict=True):
            pairs = product(first.states.tolist(), second.states.tolist())
            assert set(links) == {(a, b) for a, b in pairs if a // RESIDUAL_STEP == b // RESIDUAL_STEP}

    def test_states_are_a_width_and_residuals(self) -> None:
        # Two widths (one in the last stage) with each of three residuals.
        assert self.chain.levels_of_states(0).tolist() == [[0, 0], [1, 0], [0, 1], [1, 1], [0, 2], [1, 2]]
        assert self.chain.levels_of_states(2).tolist() == [[0, 0], [0, 1], [0, 2]]

    def test_they_are_turned_in_all_stages_at_once(self) -> None:
        common, costs = self.chain.common, choice_costs_of(RESIDUALS)
        assert common is not None
        assert common.name == "residual"
        for level, residual in enumerate(RESIDUALS.residual):
            turned = common.with_level(self.points, level)
            for before, after in zip(self.points[::7].tolist(), turned[::7].tolist(), strict=True):
                expected = costs.network(RESIDUALS, tuple(before)).model_copy(update={"residual": residual})
                assert costs.network(RESIDUALS, tuple(after)) == expected


@pytest.mark.parametrize("space", [RESIDUALS, HEADS], ids=["residuals", "heads"])
def test_the_flops_at_the_shallowest_depth_are_a_cost_beside_the_others(space: SearchSpace) -> None:
    chain, costs, points = with_shallowest(chain_of(space), space), choice_costs_of(space), EveryNetwork(space).choices
    assert chain.cost_names == ("flops", "params", SHALLOWEST)
    networks = [costs.network(space, tuple(point)) for point in points.tolist()]
    assert chain.costs(points).tolist() == [list(bounded_costs(arch)) for arch in networks]
    assert any(arch.max_recursions > 1 for arch in networks)


@pytest.mark.parametrize(
    "stem",
    [{}, {"width": [4, 6, 9]}, {"kind": ["conv", "patch"], "norm": ["batch", "layer"]}],
    ids=["paper's stem", "three stems", "two kinds, one with two norms"],
)
def test_choices_make_a_network_and_are_read_back(stem: dict[str, list[Any]]) -> None:
    data = SearchSpace.load("smoke").to_dict()
    space = SearchSpace.from_dict({**data, "stem": {**data["stem"], **stem}} if stem else data)
    costs = choice_costs_of(space)
    everything = list(product(*(range(len(flops)) for flops in costs.flops)))
    networks = [costs.network(space, choices) for choices in everything]
    assert len({arch.arch_id for arch in networks}) == len(everything) == 12 * (3 if stem else 1)
    assert [costs.choices(space, arch) for arch in networks] == everything
    stranger = networks[0].model_copy(update={"stages": networks[0].stages[:1]})
    with pytest.raises(UserError, match="is not in this search space"):
        costs.choices(space, stranger)
