"""What all pictures share: our own style of matplotlib, and that a picture never ends the work that it shows."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..console import Console, print_line
from ..lost_directory import LostDirectoryError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_REASON = 200
"""Most characters of an error in a warning."""


@contextmanager
def own_style() -> Iterator[None]:
    """Draws with matplotlib's defaults, and hides its warnings that nobody can act on.

    They are of an unwritable home, or of characters that its fonts lack, in whose place it draws a box. A user's own
    settings may need what is not there, e.g. LaTeX. They are as before afterwards. Also a decorator.
    """
    logger = logging.getLogger("matplotlib")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        import matplotlib

        with matplotlib.rc_context(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
            matplotlib.rcdefaults()
            yield
    finally:
        logger.setLevel(before)


def literal(text: str) -> str:
    """Returns text for matplotlib, in which a dollar sign would begin a formula."""
    return text.replace("$", r"\$")


def png_of(figure: Figure) -> bytes:
    """Returns a figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


@contextmanager
def warn_if_undrawn(console: Console, what: str, remedy: str) -> Iterator[None]:
    """Turns any error in drawing into one line, because results are worth more than their pictures.

    Args:
        what: The file or files that are drawn.
        remedy: What the user can do, as the end of the line.

    Raises `LostDirectoryError` all the same: without its directory, the work itself cannot go on.
    """
    try:
        yield
    except LostDirectoryError:
        raise
    except Exception as error:
        print_line(console, f"warning: {what} could not be drawn ({reason_of(error)}); {remedy}")


def reason_of(error: Exception) -> str:
    """Returns the cause of an error in a few words: what the system says, or the type with its first line."""
    if isinstance(error, OSError) and error.strerror is not None:
        return error.strerror
    first_line = str(error).strip().partition("\n")[0][:MAX_REASON]
    return f"{type(error).__name__}: {first_line}"
