"""The line of usage says what must be given, and brackets what may be."""

from __future__ import annotations

import pytest

from cli import create_parser


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        ("train", "train [options] [--data DIR] FILE|PRESET|DIR"),
        ("landscape", "landscape [options] [--data DIR] FILE|DIR ..."),
        ("study run", "study run [options] [--data DIR] NAME|FILE"),
    ],
)
def test_images_may_be_left_out_where_the_digits_are_the_default(
    command: str, usage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        create_parser().parse_args([*command.split(), "--help"])
    text = capsys.readouterr().out
    assert f" {usage}\n" in text
    assert "(default: digits" in " ".join(text.split())
