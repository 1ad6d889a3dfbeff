"""An argument that names nothing, such as an unset variable of a script, is refused as itself."""

from __future__ import annotations

import pytest

from cli import create_parser

COMMANDS = (
    ["space", ""],
    ["profile", ""],
    ["train", ""],
    ["runs", "list", ""],
    ["runs", "show", ""],
    ["runs", "compare", "one", ""],
    ["runs", "pick", ""],
    ["runs", "report", ""],
    ["runs", "rerun", "", "--trial", "1"],
    ["runs", "clean", ""],
    ["study", "run", ""],
    ["study", "show", ""],
    ["supernet", "evaluate", "", "largest"],
    ["supernet", "evaluate", "supernet.safetensors", ""],
    ["supernet", "extract", "supernet.safetensors", "", "--out", "x.yaml"],
    ["evaluate", ""],
    ["evaluate", "model", "--json", ""],
    ["export", ""],
    ["predict", "model", ""],
    ["landscape", ""],
    ["convert", ""],
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(word or "''" for word in command))
def test_nothing_is_no_name(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        create_parser().parse_args(command)
    assert exited.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert line.endswith(", got nothing")


def test_what_writes_a_file_does_not_ask_for_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        create_parser().parse_args(["evaluate", "model", "--json", ""])
    assert capsys.readouterr().err == "error: --json: must name a file or a folder, got nothing\n"
