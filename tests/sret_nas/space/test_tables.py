"""A space keeps what was computed of it, and nobody else does."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest

from sret_nas import Budget
from sret_nas.feasible.feasible_set import FeasibleSet
from sret_nas.space.chain import chain_of
from sret_nas.space.choice_costs import choice_costs_of
from sret_nas.space.search_space import SearchSpace


@pytest.fixture
def space() -> SearchSpace:
    return SearchSpace.load("smoke")


def test_what_was_computed_once_is_not_computed_again(space: SearchSpace) -> None:
    assert chain_of(space) is chain_of(space)
    assert choice_costs_of(space) is choice_costs_of(space)
    assert space.stage_tables is space.stage_tables


def test_tables_go_with_their_space() -> None:
    """Even if they were used to count and to draw."""
    space = SearchSpace.load("smoke")
    FeasibleSet(space, Budget(flops_max=10**9)).sample(np.random.default_rng(0))
    tables = [weakref.ref(chain_of(space)), weakref.ref(choice_costs_of(space)), weakref.ref(space.stage_tables[0])]
    assert all(table() is not None for table in tables)
    del space
    gc.collect()
    assert [table() for table in tables] == [None] * len(tables)


def test_a_changed_copy_has_tables_of_its_own(space: SearchSpace) -> None:
    before = FeasibleSet(space, Budget()).most_expensive().flops
    larger = space.model_copy(update={"image_size": 2 * space.image_size})
    assert FeasibleSet(larger, Budget()).most_expensive().flops > 2 * before
    assert FeasibleSet(space, Budget()).most_expensive().flops == before


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda space: pickle.loads(pickle.dumps(space))])  # noqa: S301
def test_copies_are_equal_and_take_no_table_along(space: SearchSpace, copied: object) -> None:
    size = len(pickle.dumps(space))
    chain_of(space)
    other = copied(space)  # type: ignore[operator]
    assert other == space
    assert hash(other) == hash(space)
    assert chain_of(other) is not chain_of(space)
    assert len(pickle.dumps(space)) == size
