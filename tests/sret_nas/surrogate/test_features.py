"""What the surrogate is linear in: against rows written by hand, and sums and kernels computed in another way."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from sret_nas.arrays import IntArray
from sret_nas.space.chain import Chain, ChainStage, chain_of
from sret_nas.surrogate import depth_effects
from sret_nas.surrogate.features import EffectTerms, Trend
from sret_nas.surrogate.model import Surrogate
from tests.counted_spaces import shipped


def two_attributes() -> Chain:
    """Returns a first stage of four states, each of two attributes, and a second one with two
    choices for every state."""
    states = np.arange(4)
    first = ChainStage(states, 10 * (1 + states[:, None]), ("a", "b"), np.column_stack([states // 2, states % 2]))
    every = np.arange(8)
    second = ChainStage(every // 2, 1 + every[:, None], ("c",), every[:, None] % 2)
    links = {(state, state): (0,) for state in range(4)}
    return Chain(("cost",), (first, second), (links,), ({state: (state // 2, state % 2) for state in range(4)},) * 2)


def steep() -> Chain:
    """Returns a first stage of three states, and a second one with four choices for every state."""
    states, every = np.arange(3), np.arange(12)
    first = ChainStage(states, 10 * (1 + states[:, None]), ("a",), states[:, None])
    second = ChainStage(every // 4, 1 + every[:, None], ("c",), every[:, None] % 4)
    return Chain(("cost",), (first, second), ({(state, state): (0,) for state in range(3)},))


def uneven() -> Chain:
    """Returns four stages with two choices for every of 2, 3, 2 and 4 states; the first two and the last have attribute
    c."""
    stages = []
    for attribute, number in (("c", 2), ("c", 3), ("b", 2), ("c", 4)):
        every = np.arange(2 * number)
        stages.append(ChainStage(every // 2, 1 + every[:, None], (attribute,), every[:, None] % 2))
    links = tuple(
        {(one, other): (0,) for one in before.states.tolist() for other in after.states.tolist()}
        for before, after in pairwise(stages)
    )
    return Chain(("cost",), tuple(stages), links)


def deep(number: int, *, also_without: bool = False) -> Chain:
    """Returns so many stages with attribute c, which has 2 levels and in the last stage 3. `also_without` adds a stage
    in front that has another attribute."""
    stages = []
    for attribute, levels in [("b", 2)] * also_without + [("c", 2)] * (number - 1) + [("c", 3)]:
        every = np.arange(levels)
        stages.append(ChainStage(0 * every, 1 + every[:, None], (attribute,), every[:, None]))
    return Chain(("cost",), tuple(stages), ({(0, 0): (0,)},) * (len(stages) - 1))


CHAINS = {
    "deep": deep(6, also_without=True),
    "two attributes": two_attributes(),
    "steep": steep(),
    "uneven": uneven(),
    "sret_tiny": chain_of(shipped("sret_tiny")),
}


def drawn(chain: Chain, number: int) -> IntArray:
    rng = np.random.default_rng(0)
    return np.column_stack([rng.integers(len(stage), size=number) for stage in chain.stages])


def test_a_row_has_a_one_for_every_effect_that_is_there() -> None:
    """The point has a = 1 and b = 0, and c = 1."""
    terms = EffectTerms(CHAINS["two attributes"])
    assert [(group.name, group.columns) for group in terms.groups] == [
        ("own a", slice(0, 2)), ("own b", slice(2, 4)), ("own c", slice(4, 6)), ("within", slice(6, 10)),
        ("across", slice(10, 18)),
    ]  # fmt: skip
    a, b, c, a_and_b = [0, 1], [1, 0], [0, 1], [0, 0, 1, 0]
    c_after_a, c_after_b = [0, 0, 0, 1], [0, 1, 0, 0]
    assert terms.matrix(np.array([[2, 5]])).tolist() == [[*a, *b, *c, *a_and_b, *c_after_a, *c_after_b]]
    assert terms.matrix(np.empty((0, 2), dtype=np.int64)).shape == (0, 18)


def test_stages_share_pairs_with_the_stage_before_where_that_has_the_same_states() -> None:
    """c comes after two states in the second and in the last stage, which alone can be shared."""
    columns = {kind.name: kind.columns for kind in EffectTerms(CHAINS["uneven"]).groups}
    assert list(columns) == ["shared c", "own c", "own b", "across", "shared across"]
    assert columns["across"].stop - columns["across"].start == 2 * 2 + 3 * 2 + 2 * 2
    assert columns["shared across"].stop - columns["shared across"].start == 2 * 2


def test_slopes_are_heights_of_levels_and_products_with_those_of_states() -> None:
    """Three levels have heights of -1.22, 0 and 1.22, four of -1.34, -0.45, 0.45 and 1.34: mean 0 and variance 1."""
    terms = EffectTerms(CHAINS["steep"], has_slopes=True)
    columns = {group.name: group.columns for group in terms.groups}
    assert list(columns) == ["own a", "own c", "slope a", "slope c", "slopes across", "across"]
    three, four = (3 / 2) ** 0.5, 1 / 5**0.5
    matrix = terms.matrix(np.array([[0, 3], [1, 4], [2, 10]]))  # c is at 3, 0 and 2
    assert matrix[:, columns["slope a"]][:, 0] == pytest.approx([-three, 0, three])
    assert matrix[:, columns["slope c"]][:, 0] == pytest.approx([3 * four, -3 * four, four])
    assert matrix[:, columns["slopes across"]][:, 0] == pytest.approx([-three * 3 * four, 0, three * four])


def test_a_slope_is_one_column_and_two_stages_share_one() -> None:
    every = np.arange(3)
    stage = ChainStage(every, 1 + every[:, None], ("a",), every[:, None])
    chain = Chain(("cost",), (stage, stage), ({(one, other): (0,) for one in range(3) for other in range(3)},))
    widths = {kind.name: kind.columns.stop - kind.columns.start for kind in EffectTerms(chain, has_slopes=True).groups}
    assert widths == {
        "shared a": 3, "own a": 6, "shared slope a": 1, "slope a": 2, "slopes across": 1, "across": 9
    }  # fmt: skip


def test_products_of_slopes_are_with_the_states_of_the_stage_before() -> None:
    """Two states have heights of -1 and 1, three levels or states of -1.22, 0 and 1.22; one state has no slope."""
    stages = []
    for name, number in (("a", 2), ("b", 3), ("c", 1), ("d", 1)):
        every = np.arange(3 * number)
        stages.append(ChainStage(every // 3, 1 + every[:, None], (name,), every[:, None] % 3))
    links = tuple(
        {(one, other): (0,) for one in before.states.tolist() for other in after.states.tolist()}
        for before, after in pairwise(stages)
    )
    terms = EffectTerms(Chain(("cost",), tuple(stages), links), has_slopes=True)
    columns = {kind.name: kind.columns for kind in terms.groups}
    (row,) = terms.matrix(np.array([[5, 8, 2, 2]]))  # the last of everything
    assert row[columns["slopes across"]] == pytest.approx([(3 / 2) ** 0.5, 3 / 2])
    assert row[columns["slope d"]] == pytest.approx([(3 / 2) ** 0.5])


def test_a_slope_that_stages_share_is_the_sum_of_their_own() -> None:
    chain = CHAINS["sret_tiny"]
    terms = EffectTerms(chain, has_slopes=True)
    columns = {group.name: group.columns for group in terms.groups}
    matrix = terms.matrix(drawn(chain, 40))
    assert matrix[:, columns["slope mlp_ratio"]].sum(axis=1) == pytest.approx(
        matrix[:, columns["shared slope mlp_ratio"]][:, 0]
    )
    assert "slope loop" not in columns  # it has two levels


def test_an_attribute_of_several_stages_has_effects_that_they_share() -> None:
    chain = CHAINS["sret_tiny"]
    terms, points = EffectTerms(chain), drawn(chain, 40)
    columns = {group.name: group.columns for group in terms.groups}
    matrix, counted = terms.matrix(points), np.zeros((40, 4))
    for number, stage in enumerate(chain.stages):
        column = stage.attributes.index("mlp_ratio")
        assert stage.num_levels[column] == 4
        counted[np.arange(40), stage.levels[points[:, number], column]] += 1
    assert matrix[:, columns["shared mlp_ratio"]].tolist() == counted.tolist()
    assert matrix[:, columns["own mlp_ratio"]].reshape(40, 3, 4).sum(axis=1).tolist() == counted.tolist()


@pytest.mark.parametrize(("number", "has_them"), [(4, False), (5, True)])
def test_effects_change_smoothly_with_depth_from_five_stages_on(number: int, has_them: bool) -> None:
    names = [group.name for group in EffectTerms(deep(number)).groups]
    assert names == ["shared c", *["by depth c"] * has_them, "own c"]


def test_effects_by_depth_are_cosines_over_the_stages_with_the_attribute() -> None:
    """At places 1/12, 3/12, ... of half a turn, of a whole one and of one and a half; the first stage has no c."""
    terms = EffectTerms(CHAINS["deep"])
    (columns,) = (group.columns for group in terms.groups if group.name == "by depth c")
    matrix = terms.matrix(np.array([[0, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 2], [0, 1, 0, 0, 0, 0, 2]]))[:, columns]
    first, last = np.cos(np.pi / 12 * np.array([[1, 2, 3], [11, 22, 33]])) / [1, 2, 3]
    zeros = [0.0] * 3
    assert matrix[0] == pytest.approx(np.zeros(9), abs=1e-12)  # over all stages a cosine sums to 0
    assert matrix[1] == pytest.approx(np.concatenate([zeros, -last, last]), abs=1e-12)
    assert matrix[2] == pytest.approx(np.concatenate([-first - last, first, last]), abs=1e-12)


def test_a_smooth_effect_is_learned_from_fewer_labels_than_one_of_every_stage() -> None:
    """Twelve stages whose effects fall from 1 to -1: what unseen networks are worth, after 16 labels."""
    chain, rng = deep(12), np.random.default_rng(0)
    points, unseen = drawn(chain, 16), rng.integers(2, size=(200, 12))
    worth = np.linspace(1, -1, 12)

    def error(terms: EffectTerms) -> float:
        costs = np.ones((16, 1))
        model = Surrogate(terms, points, costs, (points > 0) @ worth, ())
        found = model.predict(unseen, np.ones((200, 1)), model.mean_weights)[:, 0]
        return float(np.std(found - unseen @ worth))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(depth_effects, "MIN_STAGES", 13)
        without = EffectTerms(chain)
    assert not any(group.name.startswith("by depth") for group in without.groups)
    assert error(EffectTerms(chain)) < 0.5 * error(without)


@pytest.mark.parametrize("has_slopes", [False, True])
@pytest.mark.parametrize("name", CHAINS)
def test_scores_are_the_sums_that_the_matrix_gives(name: str, has_slopes: bool) -> None:
    chain = CHAINS[name]
    terms, points = EffectTerms(chain, has_slopes=has_slopes), drawn(chain, 200)
    weights = np.random.default_rng(1).normal(size=terms.num_columns)
    stages, pairs = terms.score(weights)
    total = sum(stages[number][points[:, number]] for number in range(len(chain.stages)))
    for number, table in enumerate(pairs):
        before = chain.stages[number]
        total = total + table[before.state_position[points[:, number]], points[:, number + 1]]
    assert terms.matrix(points) @ weights == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize("has_slopes", [False, True])
def test_without_pairs_single_attributes_are_left(has_slopes: bool) -> None:
    chain = CHAINS["sret_tiny"]
    single, both = (EffectTerms(chain, has_pairs=pairs, has_slopes=has_slopes) for pairs in (False, True))
    points = drawn(chain, 20)
    assert {group.name.split()[0] for group in single.groups} == {"shared", "own"} | (
        {"slope"} if has_slopes else set()
    )
    assert both.groups[: len(single.groups)] == single.groups
    assert single.matrix(points) == pytest.approx(both.matrix(points)[:, : single.num_columns])


COSTS = np.array([[1e6, 10.0, 7.0], [4e6, 30.0, 7.0], [2e6, 80.0, 7.0], [9e6, 20.0, 7.0]])


def test_the_trend_is_of_logarithms_of_axes_and_linear_in_other_costs() -> None:
    trend = Trend.of(COSTS, (0,))
    table = trend.standardised(COSTS)
    logs = np.log(COSTS[:, 0])
    assert table[:, 0] == pytest.approx((logs - logs.mean()) / logs.std())
    assert table[:, 1] == pytest.approx((COSTS[:, 1] - 35) / COSTS[:, 1].std())
    assert table[:, 2].tolist() == [0.0] * 4  # a cost that does not vary
    assert trend.matrix(COSTS) == pytest.approx(np.column_stack([np.ones(4), table, table[:, 0] ** 2]))


@pytest.mark.parametrize(("axes", "expected"), [((1,), [0, 0, -0.7, 0, 0]), ((), [0] * 4)])
def test_larger_is_better_on_the_first_axis(axes: tuple[int, ...], expected: list[float]) -> None:
    trend = Trend.of(COSTS, axes)
    assert trend.mean.tolist() == expected
    assert len(trend.deviation) == len(expected) == trend.matrix(COSTS).shape[1]


def test_what_adds_per_unit_is_all_that_other_costs_do() -> None:
    trend = Trend.of(COSTS, (0,))
    weights = np.array([0.3, -0.7, 2.0, 5.0, 0.1])
    per_unit = trend.per_unit(weights)
    assert per_unit.tolist() == [0.0, 2.0 / COSTS[:, 1].std(), 5.0]
    more = COSTS + np.array([0.0, 3.0, 11.0])
    rest = [trend.matrix(costs) @ weights - costs @ per_unit for costs in (COSTS, more)]
    assert rest[0] == pytest.approx(rest[1], abs=1e-9)
    assert np.ptp(rest[0]) > 0.1
