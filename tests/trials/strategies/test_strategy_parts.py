"""Ranks, crowding, ridge regression and tables of results: what strategies are made of, by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sret_nas import Budget, BudgetError, cost_of
from tests.counted_spaces import shipped
from trials.strategies.fronts import best_of, crowding_distances, front_ranks, most_spread
from trials.strategies.ridge import PENALTIES, Ridge, tamed
from trials.strategies.sret import SReTDomain
from trials.strategies.table import TableDomain

numbers = st.sampled_from([-1.0, 0.0, 1.0, 2.0, 3.0, float("inf")])


@pytest.mark.slow
@given(st.integers(1, 3).flatmap(lambda width: st.lists(st.tuples(*[numbers] * width), min_size=1, max_size=12)))
def test_a_front_rank_is_the_longest_chain_of_dominators(rows: list[tuple[float, ...]]) -> None:
    points = np.array(rows)

    def dominates(a: int, b: int) -> bool:
        return bool((points[a] <= points[b]).all() and (points[a] < points[b]).any())

    def longest(b: int) -> int:
        return max((1 + longest(a) for a in range(len(rows)) if dominates(a, b)), default=0)

    assert front_ranks(points).tolist() == [longest(position) for position in range(len(rows))]


def test_ranks_stop_once_there_are_enough() -> None:
    points = np.array([[3.0], [1.0], [2.0], [1.0], [5.0]])
    assert front_ranks(points).tolist() == [2, 0, 1, 0, 3]
    assert front_ranks(points, enough=3).tolist() == [2, 0, 1, 0, 2]
    assert front_ranks(points, enough=2).tolist() == [1, 0, 1, 0, 1]
    assert front_ranks(np.zeros((0, 2))).tolist() == []


def test_crowding_distances_are_shares_of_the_range() -> None:
    """Worked by hand: for (4, 3), (6 - 1) / 10 in the first objective and (9 - 1) / 10 in the second."""
    points = np.array([[0.0, 10.0], [1.0, 9.0], [4.0, 3.0], [6.0, 1.0], [10.0, 0.0]])
    expected = [np.inf, 0.4 + 0.7, 0.5 + 0.8, 0.6 + 0.3, np.inf]
    assert crowding_distances(points) == pytest.approx(expected)
    assert crowding_distances(points[::-1]) == pytest.approx(expected[::-1])
    assert crowding_distances(np.ones((4, 2))).tolist() == [0.0] * 4
    assert crowding_distances(np.zeros((0, 2))).tolist() == []


def test_the_most_spread_rows_keep_the_ends_and_thin_out_clusters() -> None:
    line = np.array([0.0, 1.0, 1.1, 1.2, 5.0, 5.1, 10.0])
    kept = most_spread(np.column_stack([line, -line]), 4)
    assert line[kept].tolist() == [0.0, 1.2, 5.1, 10.0]  # dropped in turn: 1.1, 1.0, 5.0 (gaps of 0.2, 1.2, 3.9)
    assert most_spread(np.column_stack([line, -line]), 9).tolist() == list(range(7))


def test_the_best_are_chosen_by_rank_and_then_by_crowding() -> None:
    points = np.array([[9.0, 9.0], [0.0, 4.0], [1.0, 3.0], [2.0, 2.9], [4.0, 0.0], [5.0, 5.0]])
    assert best_of(points, 3).tolist() == [1, 4, 3]  # of the front, 2 and 3 have neighbours; 3's are farther
    assert best_of(points, 5).tolist() == [1, 4, 3, 2, 5]
    assert best_of(points, 99).tolist() == [1, 4, 3, 2, 5, 0]


def data(rows: int, columns: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = np.column_stack([rng.integers(0, 2, (rows, columns - 1)), np.ones(rows)]).astype(float)
    return features, features[:, :3] @ [3.0, -2.0, 1.0] + rng.normal(0, 0.5, rows)


@pytest.mark.parametrize("shape", [(30, 6), (12, 40)], ids=["more rows", "more features"])
def test_ridge_solves_the_normal_equations_and_leaves_one_out(shape: tuple[int, int]) -> None:
    features, targets = data(*shape)
    scale = np.where(features.std(axis=0) > 0, features.std(axis=0), 1.0)
    standard = (features - features.mean(axis=0)) / scale

    def solved(rows: np.ndarray, penalty: float) -> tuple[np.ndarray, float]:
        """Returns weights and constant from the normal equations, with the constant as a column
        that is not penalised."""
        design = np.column_stack([standard[rows], np.ones(len(rows))])
        penalties = np.diag([*[penalty] * standard.shape[1], 0.0])
        solution = np.linalg.solve(design.T @ design + penalties, design.T @ targets[rows])
        return solution[:-1], float(solution[-1])

    def left_out_error(penalty: float) -> float:
        everyone, total = np.arange(len(targets)), 0.0
        for row in everyone:
            weights, constant = solved(np.delete(everyone, row), penalty)
            total += float(targets[row] - standard[row] @ weights - constant) ** 2
        return total

    fit = Ridge.fit(features, targets)
    errors = [left_out_error(penalty) for penalty in PENALTIES]
    assert fit.penalty == PENALTIES[int(np.argmin(errors))]
    assert PENALTIES[0] < fit.penalty < PENALTIES[-1]
    weights, constant = solved(np.arange(len(targets)), fit.penalty)
    assert fit.predict(features) == pytest.approx(standard @ weights + constant)


def test_ridge_of_one_row_or_of_equal_targets_is_their_mean() -> None:
    features, _ = data(5, 4)
    assert Ridge.fit(features[:1], np.array([7.0])).predict(features) == pytest.approx([7.0] * 5)
    assert Ridge.fit(features, np.full(5, 3.0)).predict(features) == pytest.approx([3.0] * 5)


def test_targets_keep_their_order_within_0_and_1() -> None:
    assert tamed(np.array([4.0, 2.0, 3.0])).tolist() == [1.0, 0.0, 0.5]
    assert tamed(np.array([2.0, 2.0])).tolist() == [0.0, 0.0]
    assert tamed(np.array([np.inf, np.inf])).tolist() == [0.0, 0.0]
    # median 3, deviations 2 1 0 1 inf: cut off at 3 + 20
    assert tamed(np.array([1.0, 2.0, 3.0, 4.0, np.inf])) == pytest.approx(np.array([0, 1, 2, 3, 22]) / 22)
    # more than half are equal: ranks
    assert tamed(np.array([5.0, 5.0, 5.0, 1e300, 1.0])).tolist() == [0.5, 0.5, 0.5, 1.0, 0.0]
    assert tamed(np.array([-np.inf, 0.0, np.inf])).tolist() == [0.0, 0.5, 1.0]


BASE = SReTDomain(shipped("sret_tiny"), Budget(flops_max=600_000_000))


@pytest.mark.slow
def test_a_table_holds_the_members_inside_the_budget_once() -> None:
    rng = np.random.default_rng(0)
    anywhere = SReTDomain(BASE.space, Budget())
    candidates = [anywhere.draw(rng) for _ in range(40)]
    inside = [candidate for candidate in candidates if cost_of(candidate.arch).flops <= 600_000_000]
    assert 0 < len(inside) < 40
    table = TableDomain(BASE, candidates + candidates[:5])
    assert [member.key for member in table.members] == [candidate.key for candidate in inside]
    assert list(table) == list(table.members)
    for candidate in candidates:
        is_member = candidate in inside
        assert (table.decode(BASE.encode(candidate)) == candidate) is is_member
        assert (table.excess(candidate) == 0) is is_member
    for member in inside:
        assert table.candidate(table.point(member)) == member
        assert table.costs(member) == BASE.costs(member)
    stranger = BASE.draw(rng)
    assert table.decode(BASE.encode(stranger)) is None
    assert table.excess(stranger) == float("inf")
    with pytest.raises(KeyError):
        table.candidate(BASE.point(stranger))


def test_a_table_without_a_member_in_the_budget_is_refused() -> None:
    narrow = SReTDomain(BASE.space, Budget(flops_max=60_000_000))
    with pytest.raises(BudgetError, match="none of the 3 candidates of the table lies inside the budget"):
        TableDomain(narrow, [BASE.draw(np.random.default_rng(0)) for _ in range(3)])


def test_draws_from_a_table_are_uniform_and_stratified_ones_uniform_in_their_stratum() -> None:
    """Chi-square of 4,000 draws; the limits are the 0.999 quantiles for 29 and for 15 degrees of freedom."""
    table = TableDomain(BASE, [BASE.draw(np.random.default_rng(seed)) for seed in range(30)])
    rng = np.random.default_rng(1)
    position = {member.key: number for number, member in enumerate(table.members)}

    def counts(drawn: list[object]) -> np.ndarray:
        return np.bincount(np.array(drawn), minlength=len(table.members))

    uniform = counts([position[table.draw(rng).key] for _ in range(4000)])
    assert ((uniform - 4000 / 30) ** 2 / (4000 / 30)).sum() < 58.3

    costs = np.log([cost_of(member.arch).flops for member in table.members])
    stratum = np.minimum((16 * (costs - costs.min()) / np.ptp(costs)).astype(int), 15)
    filled, sizes = np.unique(stratum, return_counts=True)
    share = {number: 1 / len(filled) / size for number, size in zip(filled.tolist(), sizes.tolist(), strict=True)}
    expected = 4000 * np.array([share[number] for number in stratum.tolist()])
    drawn = table.draw_stratified(rng, 4000, "flops")
    assert len(drawn) == 4000
    found = counts([position[candidate.key] for candidate in drawn])
    assert ((found - expected) ** 2 / expected).sum() < 58.3
    assert sorted(stratum[position[c.key]] for c in drawn[: len(filled)]) == filled.tolist()
    assert table.draw_stratified(rng, 0, "flops") == []
