"""Ends are taken in by lengths that are known beforehand."""

from __future__ import annotations

import pytest

from trials.search.completion_order import CompletionOrder


def taken(order: CompletionOrder) -> int:
    job = order.next
    order.take()
    return job


def test_jobs_of_equal_lengths_are_taken_in_as_they_were_begun() -> None:
    order = CompletionOrder()
    seen = []
    for job in (5, 3, 9):
        order.begin(job, 1.0)
    for job in (1, 7, 4):
        seen.append(taken(order))
        order.begin(job, 1.0)
    assert seen + [taken(order) for _ in range(len(order))] == [5, 3, 9, 1, 7, 4]


def test_a_long_job_holds_nobody_up() -> None:
    """Three places; job 0 takes 6, all others 1, so that two others end at each of 1, 2, ... before it does at 6."""
    order = CompletionOrder()
    order.begin(0, 6.0)
    order.begin(1, 1.0)
    order.begin(2, 1.0)
    seen = []
    for job in range(3, 16):
        seen.append(taken(order))
        order.begin(job, 1.0)
    assert seen == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 11, 12]  # at 6 job 0, which was begun first, comes first
    assert len(order) == 3


def test_there_must_be_a_next_one() -> None:
    with pytest.raises(IndexError):
        _ = CompletionOrder().next
