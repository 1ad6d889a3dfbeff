"""Pictures are drawn in our own style, show names as they are, and never end the work that they show."""

from __future__ import annotations

import errno
import io
import os
import warnings
from pathlib import Path

import matplotlib
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from trials.lost_directory import LostDirectoryError
from trials.report.drawing import literal, own_style, png_of, warn_if_undrawn


@own_style()
def picture(title: str) -> bytes:
    figure = Figure()
    figure.suptitle(literal(title))
    return png_of(figure)


def test_a_user_s_settings_neither_matter_nor_change(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = picture("title")
    for name, value in {"text.usetex": True, "figure.facecolor": "red", "savefig.dpi": 7}.items():
        monkeypatch.setitem(matplotlib.rcParams, name, value)
    assert picture("title") == expected
    assert matplotlib.rcParams["text.usetex"]


@pytest.mark.parametrize("name", ["$", "a$b", r"a$\frac$b", r"$$\$", "x_{1}^$2$"])
def test_names_are_no_formulas(name: str) -> None:
    assert picture(name).startswith(b"\x89PNG")


def test_characters_that_the_font_lacks_are_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert picture("日本 \U0001f996 \n").startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "front.png"), "No space left on device"),
        (ValueError("no font\nof that name"), "ValueError: no font"),
        (MemoryError(), "MemoryError: "),
    ],
)
def test_what_cannot_be_drawn_is_one_line(error: Exception, reason: str) -> None:
    console = Console(file=io.StringIO(), width=50)
    with warn_if_undrawn(console, "front.png", "the results are whole"):
        raise error
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == f"warning: front.png could not be drawn ({reason}); the results are whole\n"


def test_a_lost_directory_and_an_interruption_are_no_matter_of_drawing(tmp_path: Path) -> None:
    for error in (LostDirectoryError("gone"), KeyboardInterrupt()):
        with pytest.raises(type(error)), warn_if_undrawn(Console(quiet=True), "front.png", ""):
            raise error
