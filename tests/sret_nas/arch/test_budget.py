from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sret_nas.arch.budget import Budget
from sret_nas.errors import UserError
from sret_nas.quantities import format_quantity, parse_quantity


class TestParseQuantity:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [("1G", 10**9), ("4.8M", 4_800_000), ("600K", 600_000), ("600k", 600_000), ("1.1e9", 1_100_000_000),
         ("1100000000", 1_100_000_000), ("1.5 G", 1_500_000_000), (" 2T ", 2 * 10**12), ("1B", 10**9), ("1b", 10**9),
         (".5M", 500_000), ("5.M", 5_000_000), ("+3", 3), ("1", 1), ("1e3K", 10**6), ("1E9", 10**9), ("1e-3G", 10**6),
         ("4.755979M", 4_755_979), ("0.29M", 290_000), ("4611686018427387904", 2**62)],
    )  # fmt: skip
    def test_good(self, text: str, expected: int) -> None:
        assert parse_quantity(text) == expected

    @pytest.mark.parametrize(
        "text",
        ["", " ", "G", "1GG", "1 G B", "1,000", "1_000", "one", "nan", "inf", "infinity", "1e", "e9", "0x10", "1.2.3",
         "--1", "1Gi", "1GFLOPs", "1%", "1/2", "\u0661G", "1\nG2", "1P"],
    )  # fmt: skip
    def test_nonsense(self, text: str) -> None:
        expected = f"must be a number such as 1G, 4.8M, 600K, 1.1e9 or 1100000000, got {text!r}"
        with pytest.raises(UserError, match=f"^{re.escape(expected)}$"):
            parse_quantity(text)

    @pytest.mark.parametrize("text", ["0", "-1", "-1G", "0.1", "0G", "1e400", "1e300T", "5e18", "-0"])
    def test_out_of_range(self, text: str) -> None:
        with pytest.raises(UserError, match=f"^{re.escape(f'must lie between 1 and 4.6e18, got {text!r}')}$"):
            parse_quantity(text)

    @given(st.integers(1, 2**53))
    def test_whole_numbers_are_read_as_they_are(self, value: int) -> None:
        assert parse_quantity(str(value)) == value

    @pytest.mark.slow
    @given(st.text(max_size=12))
    def test_any_text_is_a_quantity_or_a_user_error(self, text: str) -> None:
        try:
            value = parse_quantity(text)
        except UserError:
            return
        assert 1 <= value <= 2**62


class TestFormatQuantity:
    @pytest.mark.parametrize(
        ("value", "digits", "expected"),
        [(0, 4, "0"), (1, 4, "1"), (999, 4, "999"), (1000, 4, "1K"), (1234, 4, "1.234K"), (999_949, 4, "999.9K"),
         (999_951, 4, "1M"), (4_755_979, 4, "4.756M"), (1_121_700_000, 4, "1.122G"), (1_121_700_000, 2, "1.1G"),
         (999_999_999, 4, "1G"), (12.5, 4, "12.5"), (-1500, 4, "-1.5K"), (999_950, 4, "1M"), (999_500, 3, "1M")],
    )  # fmt: skip
    def test_table(self, value: float, digits: int, expected: str) -> None:
        assert format_quantity(value, digits) == expected

    @given(st.integers(1, 10**12))
    def test_reads_back_to_its_digits(self, value: int) -> None:
        assert parse_quantity(format_quantity(value)) == pytest.approx(value, rel=0.5e-3, abs=0.5)


class TestBudget:
    def test_bounds_are_closed(self) -> None:
        budget = Budget(flops_min=10, flops_max=20, params_min=3, params_max=4)
        inside = {(f, p) for f in range(8, 23) for p in range(1, 7) if budget.allows(f, p)}
        assert inside == {(f, p) for f in range(10, 21) for p in (3, 4)}

    def test_no_bounds(self) -> None:
        assert Budget().allows(0, 0)
        assert Budget().allows(2**62, 2**62)

    def test_a_bound_is_at_least_one(self) -> None:
        assert Budget(flops_min=1, params_max=1).allows(1, 1)
        with pytest.raises(UserError, match=r"^a bound on FLOPs must be at least 1, got 0 and None$"):
            Budget(flops_min=0)
        with pytest.raises(UserError, match=r"^a bound on parameters must be at least 1, got None and -1$"):
            Budget(params_max=-1)

    @pytest.mark.parametrize("bound", [1e9, np.int64(10**9), np.float32(1e9)])
    def test_a_whole_number_of_any_type_is_a_plain_integer(self, bound: Any) -> None:
        budget = Budget(flops_max=bound)
        assert budget == Budget(flops_max=10**9)
        assert json.dumps(budget.to_dict()) == json.dumps(Budget(flops_max=10**9).to_dict())

    @pytest.mark.parametrize("bound", ["1G", float("nan"), float("inf"), 1.5, True, [10**9]])
    @pytest.mark.parametrize("name", ["flops_min", "flops_max", "params_min", "params_max", "shallowest_flops_max"])
    def test_what_is_no_whole_number_is_refused(self, name: str, bound: Any) -> None:
        expected = f"{name} must be a whole number, such as 10**9, or None for no bound, got {bound!r}; "
        with pytest.raises(UserError, match=f"^{re.escape(expected)}"):
            Budget(**{name: bound})

    def test_equal_bounds_are_a_window_of_one(self) -> None:
        assert [f for f in range(5) if Budget(flops_min=3, flops_max=3).allows(f, 0)] == [3]

    @pytest.mark.parametrize(
        ("budget", "flops", "params", "expected"),
        [(Budget(flops_max=100), 100, 0, 0.0), (Budget(flops_max=100), 110, 0, 110 / 100 - 1),
         (Budget(flops_max=100, params_max=10), 110, 30, 30 / 10 - 1), (Budget(flops_min=100), 80, 0, 100 / 80 - 1),
         (Budget(params_min=100), 0, 0, 99.0), (Budget(flops_max=100, params_min=10), 150, 8, 150 / 100 - 1),
         (Budget(), 5, 5, 0.0)],
    )  # fmt: skip
    def test_excess_is_the_worst_share(self, budget: Budget, flops: int, params: int, expected: float) -> None:
        assert budget.excess(flops, params) == expected
        assert budget.allows(flops, params) == (expected == 0.0)

    def test_bounds_are_called_by_their_costs(self) -> None:
        with pytest.raises(UserError, match=r"^a bound on FLOPs at the shallowest depth must be at least 1"):
            Budget(shallowest_flops_max=0)
        with pytest.raises(UserError, match=r"^a bound on parameters must be at least 1"):
            Budget(params_max=0)

    def test_flops_at_the_shallowest_depth_count_where_they_are_bounded(self) -> None:
        budget = Budget(flops_max=200, shallowest_flops_max=100)
        assert budget.excess(200, 1, 100) == 0.0
        assert budget.excess(210, 1, 120) == 120 / 100 - 1
        assert Budget(flops_max=200).excess(200, 1, 120) == 0.0

    def test_plain_data_have_the_shallowest_depth_only_where_it_is_bounded(self) -> None:
        bounds = {"flops_min": 1, "flops_max": 2, "params_min": None, "params_max": None}
        assert Budget(flops_min=1, flops_max=2).to_dict() == bounds
        assert Budget(flops_min=1, flops_max=2, shallowest_flops_max=3).to_dict() == {
            **bounds,
            "shallowest_flops_max": 3,
        }

    @pytest.mark.parametrize(
        ("bounds", "text"),
        [({"flops_min": 2 * 10**9, "flops_max": 10**9},
          "the minimum of FLOPs must not exceed their budget, got a minimum of 2G and a budget of 1G"),
         ({"params_min": 5_000_000, "params_max": 4_800_000},
          "the minimum of parameters must not exceed their budget, got a minimum of 5M and a budget of 4.8M")],
    )  # fmt: skip
    def test_a_minimum_above_the_budget(self, bounds: dict[str, int], text: str) -> None:
        with pytest.raises(UserError, match=f"^{re.escape(text)}$"):
            Budget(**bounds)

    @pytest.mark.parametrize(
        ("budget", "text"),
        [(Budget(), "no budget"), (Budget(flops_max=10**9), "FLOPs at most 1G"),
         (Budget(params_min=2_400_000), "parameters at least 2.4M"),
         (Budget(flops_max=10**9, params_min=2_400_000, params_max=2_500_000),
          "FLOPs at most 1G, parameters 2.4M to 2.5M"),
         (Budget(flops_max=1_234_567_894_321, params_min=1_234_567_894, params_max=9_876_543_214),
          "FLOPs at most 1.23456789T, parameters 1.23456789G to 9.87654321G"),
         (Budget(flops_min=1_234_567_894), "FLOPs at least 1.23456789G")],
    )  # fmt: skip
    def test_describe(self, budget: Budget, text: str) -> None:
        assert budget.describe() == text
