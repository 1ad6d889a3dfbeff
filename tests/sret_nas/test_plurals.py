"""Numbers and their nouns."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from sret_nas.plurals import counted


@pytest.mark.parametrize(
    ("number", "nouns", "text"),
    [
        (0, ("image",), "0 images"),
        (1, ("image",), "1 image"),
        (1200, ("image",), "1,200 images"),
        (1, ("class", "classes"), "1 class"),
        (2, ("class", "classes"), "2 classes"),
    ],
)
def test_the_noun_agrees_with_the_number(number: int, nouns: tuple[str, ...], text: str) -> None:
    assert counted(number, *nouns) == text


def test_no_message_leaves_the_number_open() -> None:
    """Looks for texts such as `epoch(s)` in all strings of both packages."""
    root = Path(__file__).parents[2]
    found = [
        f"{path.relative_to(root)}:{node.lineno}: {node.value}"
        for package in ("sret_nas", "trials")
        for path in sorted((root / package).rglob("*.py"))
        if "sret_nas/trials" not in str(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.search(r"[a-z]\(e?s\)", node.value)
    ]
    assert found == []
