"""What the pages show of commands: YAML that loads, commands for several processes, and numbers that are printed."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from cli import create_parser, main
from trials.runs.landscape_options import LandscapeOptions
from trials.workflows.landscape import _points

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = [DOCS.parent / "README.md", *sorted(DOCS.glob("*.md"))]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)


def started_by_torchrun() -> list[str]:
    """Returns the arguments of all commands of ours that torchrun starts, wherever they are shown."""
    texts = (page.read_text() for page in PAGES)
    return [words for text in texts for words in re.findall(r"-m sret_nas ([a-z][^\n`]*)", text)]


def test_commands_for_several_processes_are_ones_that_the_program_takes() -> None:
    found = started_by_torchrun()
    assert len(found) >= 4
    for words in found:
        assert callable(create_parser().parse_args(shlex.split(words.removesuffix("..."))).run)


def test_the_plan_of_the_landscape_that_is_shown_follows_from_its_command() -> None:
    command = next(block for block in blocks("landscapes.md", "sh") if "plain recursive" in block)
    words = shlex.split(command.partition("cli.py landscape ")[2].replace("\\\n", " "))
    given = dict(pairwise(words))
    options = LandscapeOptions(points=int(given.get("--points", 21)), pairs=int(given.get("--pairs", 3)))
    shown = (DOCS / "landscapes.md").read_text()
    assert f"Plan: {len(list(_points(options, 2)))} points of 2 networks" in shown
    assert f"{int(given['--max-train-images']):,} train" in shown


@pytest.mark.parametrize("shown", ["4,000 train", "1,000 val", "1,000 test"])
def test_the_parts_that_a_training_prints_are_those_that_its_command_asks_for(shown: str) -> None:
    text = (DOCS / "train-and-ship.md").read_text()
    command, output = re.findall(r"```sh\n([^`]*--out trained)\n```.*?```text\n(.*?)```", text, re.DOTALL)[0]
    assert shown in output
    number, part = shown.split()
    assert f"--max-{part}-images {number.replace(',', '')}" in command.replace("\\\n", " ")


@pytest.mark.slow
def test_the_study_and_the_score_that_are_shown_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (study,) = blocks("studies.md", "yaml")
    (tmp_path / "mine.yaml").write_text(study)
    assert main(["study", "show", str(tmp_path / "mine.yaml")]) == 0
    assert yaml.safe_load(study)["question"] in capsys.readouterr().out
    (score,) = (block for block in blocks("search-spaces.md", "yaml") if "every_stage" in block)
    (tmp_path / "score.yaml").write_text(score)
    arguments = [
        "space",
        "sret_tiny",
        "--flops-budget",
        "1G",
        "--samples",
        "0",
        "--front",
        str(tmp_path / "score.yaml"),
    ]
    assert main([*arguments, "--front-out", str(tmp_path / "front.yaml")]) == 0
    assert yaml.safe_load((tmp_path / "front.yaml").read_text())["objectives"] == ["score", "flops"]
