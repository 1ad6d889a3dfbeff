"""Paired differences, their intervals, and the verdicts on claims."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from trials.report.paired import Interval, PairedDifference, judge_equality, judge_order


def difference(*values: float) -> PairedDifference:
    found = PairedDifference.of(dict(enumerate(values)), dict.fromkeys(range(len(values)), 0.0))
    assert found is not None
    return found


def test_interval_and_p_are_those_of_the_paired_t_test() -> None:
    first, second = [40.0, 42.0, 41.0, 44.0], [39.0, 40.5, 40.9, 41.0]
    found = PairedDifference.of(dict(enumerate(first)), dict(enumerate(second)))
    assert found is not None
    expected = stats.ttest_rel(first, second)
    assert found.p_value == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.9)
    assert (found.interval.low, found.interval.high) == pytest.approx((interval.low, interval.high))
    assert (found.positive, found.negative) == (4, 0)


def test_only_seeds_that_both_have_are_paired() -> None:
    found = PairedDifference.of({0: 5.0, 1: 7.0, 3: 100.0}, {1: 4.0, 0: 3.0, 2: 50.0})
    assert found is not None
    assert (found.interval.mean, found.interval.seeds) == (2.5, 2)
    assert PairedDifference.of({0: 1.0}, {1: 1.0}) is None


def test_one_seed_has_no_interval_and_tells_nothing() -> None:
    found = difference(3.0)
    assert (found.interval.low, found.interval.high, found.p_value) == (-math.inf, math.inf, None)
    assert judge_order(found) == "cannot tell"
    assert judge_equality(found, 100.0) == "cannot tell"


def test_verdicts() -> None:
    assert judge_order(difference(1.0, 1.1, 0.9)) == "holds"
    assert judge_order(difference(-1.0, -1.1, -0.9)) == "does not hold"
    assert judge_order(difference(1.0, -1.1, 0.9)) == "cannot tell"
    assert judge_order(None) == judge_equality(None, 1.0) == "not run"
    assert judge_equality(difference(0.1, -0.1, 0.0), 0.5) == "holds"
    assert judge_equality(difference(1.0, 1.1, 0.9), 0.5) == "does not hold"
    assert judge_equality(difference(-1.0, -1.1, -0.9), 0.5) == "does not hold"
    assert judge_equality(difference(0.4, 0.6, 0.5), 0.5) == "cannot tell"


def test_equal_differences_have_a_point_as_interval() -> None:
    assert difference(1.0, 1.0).interval == Interval(1.0, 1.0, 1.0, 2, 0.0)
    assert difference(1.0, 1.0).p_value is None


@pytest.mark.parametrize(("seeds", "verdict"), [(2, "cannot tell"), (4, "cannot tell"), (5, "holds")])
def test_few_equal_differences_tell_nothing(seeds: int, verdict: str) -> None:
    """Two seeds that differ by one of 50 images each say nothing of how much seeds scatter."""
    assert judge_order(difference(*[2.0] * seeds)) == verdict
    assert judge_order(difference(*[-2.0] * seeds)) == ("does not hold" if verdict == "holds" else verdict)
    assert judge_order(difference(*[0.0] * seeds)) == "cannot tell"


def test_differences_that_rounding_alone_tells_apart_are_equal() -> None:
    """Errors of 100 images: two differences of one image each."""
    found = PairedDifference.of({0: 0.29, 1: 0.57}, {0: 0.28, 1: 0.56})
    assert found is not None
    assert (found.p_value, found.interval.spread) == (None, 0.0)
