"""Which directory a search is carried on in, if what is named is a copy."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sret_nas.errors import UserError
from trials.runs.directory import RECORDS_FILE
from trials.runs.remote_copy import COPY_MARK
from trials.search.resumed_directory import resumed_directory


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns a copy that was itself copied to where runs are, by hand."""
    monkeypatch.chdir(tmp_path)
    copy = Path("runs/r")
    copy.mkdir(parents=True)
    for name in (COPY_MARK, RECORDS_FILE):
        (copy / name).write_text("header\n")
    return copy


def quiet() -> Console:
    return Console(file=io.StringIO())


@pytest.mark.parametrize("out", [None, Path("runs/r"), Path("runs/other"), Path("../runs/r")])
def test_no_run_directory_is_its_own_copy(copy: Path, out: Path | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is fetched before that is known, and `--storage`, which nobody gave, is not named."""
    if out is not None and out.parts[0] == "..":
        (copy.parent / "below").mkdir()
        monkeypatch.chdir(copy.parent / "below")
        copy, out = Path("../r"), Path("../other")
    before = sorted(copy.parent.iterdir())
    with pytest.raises(UserError, match=r"is the copy of a run, .* name another --out, or .*, with --no-storage"):
        resumed_directory(copy, out, {}, quiet())
    assert sorted(copy.parent.iterdir()) == before


def test_it_is_carried_on_where_it_lies_without_a_copy(copy: Path) -> None:
    options: dict[str, Any] = {"storage": None}
    assert resumed_directory(copy, None, options, quiet()).resolve() == copy.resolve()
    assert options == {"storage": None}


def test_it_is_fetched_elsewhere_and_stays_the_copy(copy: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {}
    assert resumed_directory(copy, tmp_path / "else" / "r", options, quiet()) == tmp_path / "else" / "r"
    assert (tmp_path / "else" / "r" / RECORDS_FILE).is_file()
    assert options == {"storage": str(copy.parent.absolute())}
