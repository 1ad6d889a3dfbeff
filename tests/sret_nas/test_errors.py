"""Messages that quote what others wrote: one printable line of bounded length, at a bounded cost."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sret_nas.arch.config import ArchConfig
from sret_nas.errors import MAX_MESSAGE, BudgetError, ConfigError, UserError, describe, printable


@given(st.text(), st.text())
def test_a_message_is_one_printable_line(source: str, problem: str) -> None:
    text = str(ConfigError(source, "a\nerror: b", problem))
    assert text.isprintable()
    assert len(text) <= MAX_MESSAGE


def test_control_characters_are_shown() -> None:
    assert printable("a\nb\x1b[31m\u202e\ud800") == r"a\nb\x1b[31m\u202e\ud800"
    assert str(UserError("x\ny", "a\tb", "c")) == "x\\ny\n  a\\tb\n  c"


@pytest.mark.parametrize(
    "error", [UserError("a"), UserError("a", "b", "c"), BudgetError("a", "b"), ConfigError("net.yaml", "stages", "c")]
)
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])  # noqa: S301
def test_a_copy_is_the_same_error(error: UserError, copied: Callable[[UserError], UserError]) -> None:
    """Also in another process: what cannot be unpickled breaks a pool of workers."""
    other = copied(error)
    assert (type(other), str(other), vars(other)) == (type(error), str(error), vars(error))


def test_an_error_of_a_worker_comes_through_a_pool_of_processes() -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        future = pool.submit(ArchConfig.from_dict, {"stages": []})
        with pytest.raises(ConfigError, match=r"^architecture: stages: must have at least 1 item, got 0"):
            future.result()


@pytest.mark.parametrize("value", [1, "a", None, [1, "b"], (1,), (1, 2), {"a": [1.5], "b": {}}, []])
def test_a_small_value_is_described_as_python_writes_it(value: Any) -> None:
    assert describe(value) == repr(value)


def test_what_is_cut_off_is_never_written_out() -> None:
    value: list[Any] = ["lol"]
    for _ in range(200):  # 10 ** 200 words
        value = [value] * 10
    assert len(describe(value)) == 80
    wide: list[Any] = ["lol"] * 10
    for _ in range(100):
        wide = [wide, wide]
    assert describe(wide).endswith("...")
    assert describe(10**5000) == f"a whole number of {(10**5000).bit_length()} bits"
