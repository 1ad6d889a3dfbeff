"""Files of every kind, changed by chance: they are read, or refused in one printable line. Nothing else happens."""

from __future__ import annotations

import random
import re
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


SLOW = (
    "result",
    "supernet",
    "converted checkpoint",
    "class names",
    "teacher",
    "records of a finished search",
    "records of a study",
    "options of a search",
)
"""Kinds of which 20 cases take 0.7 s."""
AS_TYPED = ("search: ", "train: ")
"""How messages begin about options from a file that fit no run, as if they had been typed."""


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow) if kind in SLOW else kind for kind in KINDS]
)
@settings(max_examples=20, print_blob=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
            names_it = str(tmp_path) in text or text.startswith(AS_TYPED) or "latency profile" in text
            assert names_it, f"seed {seed}: {text}"


@pytest.mark.parametrize(
    ("kind", "before", "after", "problem"),
    [
        (
            "records of a finished search",
            rb'"target": \{"flops": \d+',
            b'"target": {"flops": 0',
            "result.target.flops: not a record",
        ),
        (
            "records of a finished search",
            rb'"params": \d+, "image_size": 64',
            b'"params": -1, "image_size": 64',
            "params",
        ),
        (
            "records of a finished search",
            rb'"test_error": 0.\d+',
            b'"test_error": 7.5',
            "result.test_error: not a record",
        ),
        ("records of a finished search", rb'"seconds": 0.5', b'"seconds": -0.5', "result.seconds: not a record"),
        (
            "records of a finished search",
            rb'"architecture": \{"stages": \[\{"width": 8',
            b'"architecture": {"stages": [{"width": 80',
            "is not in the search space that is recorded there",
        ),
        (
            "records of a finished search",
            rb'"depth_schedule": "full"',
            b'"depth_schedule": "growing"',
            "with the depth schedule growing, is not in the search space",
        ),
        ("records of a study", rb'"error": 0.5', b'"error": -0.5', "finished.result.error: not a record"),
        ("record of a landscape", rb'"error": 0.5', b'"error": 1e308', "result.error: must be less than"),
        ("record of a landscape", rb'"num_images": \{"plain"', b'"num_images": {"plane"', "num_images"),
    ],
)
def test_results_that_nothing_can_have_are_named_with_their_key(
    kind: str, before: bytes, after: bytes, problem: str, tmp_path: Path
) -> None:
    changed, count = re.subn(before, after, KINDS[kind].good())
    assert count > 0
    (tmp_path / "file").write_bytes(changed)
    with pytest.raises(UserError, match=re.escape(problem)) as error:
        KINDS[kind].read(tmp_path / "file")
    assert str(error.value).startswith(str(tmp_path))
