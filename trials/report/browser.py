"""Opens a page in the browser, where there is one to look at."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path

from ..console import Console, print_line


def open_in_browser(page: Path, console: Console) -> None:
    """Opens a file in the browser, or says where it lies if there is no terminal, no display or no browser."""
    if not (console.is_terminal and _has_display() and _opened(page)):
        print_line(console, f"No browser was opened here; the report is {page.resolve()}")


def _opened(page: Path) -> bool:
    try:
        return webbrowser.open(page.resolve().as_uri())
    except (webbrowser.Error, OSError):
        return False


def _has_display() -> bool:
    """Returns whether a window can be shown. Else `webbrowser` may start a browser that takes over the terminal."""
    if sys.platform in ("darwin", "win32"):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
