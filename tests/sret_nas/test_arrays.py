"""Plain data in place of numpy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sret_nas.arrays import holds_numpy, without_numpy


@pytest.mark.parametrize(
    ("data", "plain"),
    [
        (np.int64(3), 3),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.array([1, 2]), [1, 2]),
        ({"a": [np.int8(1), (np.arange(2),)]}, {"a": [1, [[0, 1]]]}),
    ],
)
def test_numbers_and_arrays_become_pythons(data: Any, plain: Any) -> None:
    assert holds_numpy(data)
    assert repr(without_numpy(data)) == repr(plain)


@pytest.mark.parametrize("data", [3, "text", None, [1, {"a": (2.5, True)}], {}])
def test_what_is_plain_holds_none(data: Any) -> None:
    assert not holds_numpy(data)
