"""The report in the browser."""

from __future__ import annotations

import io
import webbrowser
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from trials.report.browser import open_in_browser

PAGE = Path("runs/one/report.html")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Returns what a browser is asked to open, on a machine with a display."""
    asked: list[str] = []
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(webbrowser, "open", lambda address: asked.append(address) or True)
    return asked


def printed(*, terminal: bool = True) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=500)
    open_in_browser(PAGE, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_it_opens_with_a_terminal_and_a_display(opened: list[str]) -> None:
    assert printed() == ""
    assert opened == [PAGE.resolve().as_uri()]


def test_it_says_where_the_report_is_without_a_terminal(opened: list[str]) -> None:
    assert printed(terminal=False) == f"No browser was opened here; the report is {PAGE.resolve()}\n"
    assert opened == []


def test_it_says_where_the_report_is_without_a_display(opened: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY")
    assert str(PAGE.resolve()) in printed()
    assert opened == []


def failing(address: str) -> bool:
    raise webbrowser.Error("could not locate runnable browser")


@pytest.mark.parametrize("browser", [failing, lambda address: False])
def test_no_browser_is_no_error(
    opened: list[str], monkeypatch: pytest.MonkeyPatch, browser: Callable[[str], bool]
) -> None:
    monkeypatch.setattr(webbrowser, "open", browser)
    assert str(PAGE.resolve()) in printed()
