"""Jobs are consumed in the order in which a simulated machine would finish them."""

from __future__ import annotations

import pytest

from trials.search.completion_order import CompletionOrder


def test_jobs_of_equal_lengths_are_popped_in_the_order_of_pushing() -> None:
    order = CompletionOrder()
    seen = []
    for job in (5, 3, 9):
        order.push(job, 1.0)
    for job in (1, 7, 4):
        seen.append(order.pop())
        order.push(job, 1.0)
    assert seen + [order.pop() for _ in range(len(order))] == [5, 3, 9, 1, 7, 4]


def test_short_jobs_do_not_wait_for_a_long_one() -> None:
    """Three at once; job 0 takes 6, all others 1, so two others end at each of 1, 2, ... before it does at 6."""
    order = CompletionOrder()
    order.push(0, 6.0)
    order.push(1, 1.0)
    order.push(2, 1.0)
    seen = []
    for job in range(3, 16):
        seen.append(order.pop())
        order.push(job, 1.0)
    assert seen == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 11, 12]  # at 6 job 0, which was begun first, comes first
    assert len(order) == 3


def test_peeking_does_not_remove_the_next_job() -> None:
    order = CompletionOrder()
    order.push(7, 2.0)
    order.push(8, 1.0)
    assert order.peek() == order.peek() == order.pop() == 8
    assert order.peek() == 7


def test_an_empty_order_has_no_next_job() -> None:
    with pytest.raises(IndexError):
        CompletionOrder().peek()
    with pytest.raises(IndexError):
        CompletionOrder().pop()
