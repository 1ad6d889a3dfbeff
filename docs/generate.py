"""Writes the generated parts of README.md and docs/*.md: commands from the parsers, figures from measured results.

    python -m docs.generate            rewrite what is out of date
    python -m docs.generate --check    change nothing; exit code 1 if anything is out of date

A generated part stands between `<!-- generated: NAME -->` and `<!-- /generated -->`, on lines of its own or inside a
sentence. Everything else is written by hand.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from docs.commands import command_reference
from docs.figures import FIGURES

REPOSITORY = Path(__file__).resolve().parent.parent

PARTS: dict[str, Callable[[], str]] = {"commands": command_reference, **FIGURES}

_PART = re.compile(r"(<!-- generated: ([a-z0-9-]+) -->)(.*?)(<!-- /generated -->)", re.DOTALL)
_MARKER = re.compile(r"<!-- /?generated.*?-->")


class MarkerError(ValueError):
    """A marker has no partner, or names a part that does not exist."""


def pages() -> list[Path]:
    """Returns the files that may have generated parts."""
    docs = REPOSITORY / "docs"
    return [REPOSITORY / "README.md", *sorted(docs.glob("*.md")), *docs.glob("studies/README.md")]


def fill(text: str, parts: Mapping[str, Callable[[], str]]) -> str:
    """Returns a page with every generated part as it should be. Raises `MarkerError`."""
    if len(_MARKER.findall(text)) != 2 * len(_PART.findall(text)):
        raise MarkerError("a marker has no partner: write <!-- generated: NAME --> and <!-- /generated -->")
    unknown = sorted({name for _, name, _, _ in _PART.findall(text)} - parts.keys())
    if unknown:
        raise MarkerError(f"no part is called {unknown[0]}; there are {', '.join(sorted(parts))}")

    for match in _PART.finditer(text):
        starts_line = match.start() == 0 or text[match.start() - 1] == "\n"
        if starts_line and "\n" not in parts[match[2]]():
            raise MarkerError(f"{match[2]} begins a line, where Markdown takes it for HTML: put it inside a sentence")

    def renewed(match: re.Match[str]) -> str:
        begin, name, _, end = match.groups()
        value = parts[name]()
        return f"{begin}\n\n{value}\n\n{end}" if "\n" in value else f"{begin}{value}{end}"

    return _PART.sub(renewed, text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 1 if `--check` found a page out of date, else 0."""
    parser = argparse.ArgumentParser(
        prog="python -m docs.generate", description="Write the generated parts of the docs."
    )
    parser.add_argument("--check", action="store_true", help="change nothing; fail if a page is out of date")
    check = parser.parse_args(arguments).check
    outdated = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        try:
            filled = fill(text, PARTS)
        except MarkerError as error:
            raise SystemExit(f"{page.relative_to(REPOSITORY)}: {error}") from None
        if filled != text:
            outdated.append(str(page.relative_to(REPOSITORY)))
            if not check:
                page.write_text(filled, encoding="utf-8")
    if not outdated:
        return 0
    if check:
        print(f"out of date: {', '.join(outdated)}; run python -m docs.generate", file=sys.stderr)
        return 1
    print(f"written: {', '.join(outdated)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
