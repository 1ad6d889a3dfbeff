"""Files of every kind, changed by chance: they are read, or refused in one printable line. Nothing else happens."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sret_nas.errors import MAX_MESSAGE, UserError
from tests.foreign_files import KINDS, mutated


@pytest.mark.parametrize("kind", KINDS)
def test_the_good_file_is_read(kind: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(KINDS[kind].good())
    KINDS[kind].read(tmp_path / "file")


SLOW = ("result", "supernet", "converted checkpoint", "class names", "teacher", "records of a finished search")
"""Kinds of which 20 cases take 0.7 s."""


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow) if kind in SLOW else kind for kind in KINDS]
)
@settings(max_examples=20, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_a_changed_file_is_read_or_refused_in_one_line(kind: str, seed: int, tmp_path: Path) -> None:
    good = KINDS[kind].good()
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
        path = Path(folder) / "file"
        path.write_bytes(mutated(good, random.Random(seed)))
        try:
            KINDS[kind].read(path)
        except UserError as error:
            text = str(error)
            assert text.isprintable(), f"seed {seed}"
            assert len(text) <= MAX_MESSAGE, f"seed {seed}"
            assert str(tmp_path) in text or "latency profile" in text, f"seed {seed}: {text}"
