"""The documentation is true: links resolve, generated parts are current, commands parse, messages are real."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cli import create_parser, main
from docs import generate
from docs.commands import leaf_parsers
from docs.figures import FIGURES
from sret_nas.arch.budget import Budget
from sret_nas.feasible.feasible_set import FeasibleSet
from sret_nas.space.search_space import SearchSpace

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = sorted(
    page
    for folder in (".", "docs", "docs/studies", "deploy", "search_spaces")
    for page in (REPOSITORY / folder).glob("*.md")
)  # fmt: skip
NAMES = [str(page.relative_to(REPOSITORY)) for page in PAGES]


def anchors(page: Path) -> set[str]:
    """Returns the headings of a page, as links name them."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    page = REPOSITORY / name
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\((?!https?://)([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert file.is_relative_to(REPOSITORY), target
        if anchor:
            assert anchor in anchors(file), target


def test_every_page_can_be_reached_from_the_readme() -> None:
    found, ahead = set(), [REPOSITORY / "README.md"]
    while ahead:
        page = ahead.pop()
        found.add(page)
        for target in re.findall(r"\]\((?!https?://)([^)#]+\.md)", page.read_text()):
            linked = (page.parent / target).resolve()
            if linked not in found:
                ahead.append(linked)
    assert {*(REPOSITORY / "docs").glob("*.md"), *(REPOSITORY / "docs" / "studies").glob("*.md")} <= found


class TestReadme:
    TEXT = (REPOSITORY / "README.md").read_text()

    def test_it_is_short(self) -> None:
        assert len(self.TEXT) <= 8000
        assert len(self.TEXT.splitlines()) <= 120

    def test_its_first_two_blocks_are_the_two_commands(self) -> None:
        """`.ci/run` takes them from there by number, whatever their language is."""
        first, second = re.findall(r"^```(.*?)^```", self.TEXT, re.MULTILINE | re.DOTALL)[:2]
        assert first.splitlines()[0] == second.splitlines()[0] == "sh"
        assert first.splitlines()[-1] == "python cli.py search --flops-budget 1G"
        assert second.splitlines()[-1] == "pytest -n auto"


class TestGenerated:
    @pytest.mark.slow
    def test_the_pages_are_current(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert generate.main(["--check"]) == 0, capsys.readouterr().err

    def test_every_part_is_used_and_the_width_of_the_terminal_does_not_matter(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        text = "".join(page.read_text() for page in generate.pages())
        assert set(re.findall(r"<!-- generated: (\S+) -->", text)) == generate.PARTS.keys()
        monkeypatch.setenv("COLUMNS", "40")
        narrow = generate.PARTS["commands"]()
        monkeypatch.setenv("COLUMNS", "400")
        assert generate.PARTS["commands"]() == narrow

    def test_a_page_that_is_out_of_date_is_named_and_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(generate, "REPOSITORY", tmp_path)
        page = tmp_path / "README.md"
        old = "took <!-- generated: first-command-seconds -->1 s<!-- /generated --> here"
        page.write_text(old)
        assert generate.main(["--check"]) == 1
        assert capsys.readouterr().err == "out of date: README.md; run python -m docs.generate\n"
        assert page.read_text() == old
        assert generate.main([]) == 0
        assert page.read_text() == old.replace("1 s", FIGURES["first-command-seconds"]())
        assert generate.main(["--check"]) == 0

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("<!-- generated: a -->", "no partner"),
            ("x <!-- /generated -->", "no partner"),
            ("<!-- generated: a --> <!-- generated: a --> <!-- /generated -->", "no partner"),
            ("x\n<!-- generated: a --><!-- /generated --> y", "a begins a line"),
            ("<!-- generated: b --><!-- /generated -->", "no part is called b; there are a"),
        ],
    )
    def test_a_wrong_marker_is_refused(self, text: str, problem: str) -> None:
        with pytest.raises(generate.MarkerError, match=problem):
            generate.fill(text, {"a": lambda: "1"})

    def test_a_part_of_several_lines_stands_alone(self) -> None:
        begin, end = "<!-- generated: a -->", "<!-- /generated -->"
        once = generate.fill(f"{begin}{end}", {"a": lambda: "| 1 |\n| 2 |"})
        assert once == f"{begin}\n\n| 1 |\n| 2 |\n\n{end}"
        assert generate.fill(once, {"a": lambda: "| 1 |\n| 2 |"}) == once

    def test_the_reference_has_every_option_that_help_shows_and_no_other(self) -> None:
        text = generate.PARTS["commands"]()
        for parser in leaf_parsers(create_parser()):
            section = text.split(f"## {parser.prog.partition(' ')[2]}\n")[1].split("\n## ")[0]
            shown = set(re.findall(r"^\| `(--[a-z-]+)", section, re.MULTILINE))
            help_text = parser.format_help()
            assert shown == set(re.findall(r"^  (--[a-z-]+)", help_text, re.MULTILINE))


def commands_in(text: str) -> list[list[str]]:
    """Returns every command of ours in a text, as arguments."""
    lines = text.replace("\\\n", " ").splitlines()
    found = (re.search(r"(?:python cli\.py|nproc_per_node \d+ cli\.py|sret-nas) ([a-z].*)", line) for line in lines)
    return [shlex.split(match[1], comments=True) for match in found if match is not None]


COMMANDS = [words for page in PAGES for block in blocks(page, "sh") for words in commands_in(block)]


@pytest.mark.parametrize("words", COMMANDS, ids=[" ".join(words) for words in COMMANDS])
def test_a_command_in_a_shell_block_is_one_that_the_program_takes(words: list[str]) -> None:
    parsed = create_parser().parse_args(words)
    assert callable(parsed.run)


def test_there_are_commands_to_look_at() -> None:
    assert len(COMMANDS) >= 20


@pytest.mark.parametrize("name", NAMES)
def test_python_blocks_are_python_and_what_they_import_is_there(name: str) -> None:
    for block in blocks(REPOSITORY / name, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom | ast.Import):
                exec(compile(ast.Module([node], []), name, "exec"), {})


def test_the_spaces_that_are_shown_are_as_large_as_the_page_says(tmp_path: Path) -> None:
    page = REPOSITORY / "docs" / "search-spaces.md"
    counts = []
    for block in blocks(page, "yaml"):
        if block.startswith("name: "):
            (tmp_path / "space.yaml").write_text(block)
            counts.append(FeasibleSet(SearchSpace.load(str(tmp_path / "space.yaml")), Budget()).count)
    assert len(counts) == 2
    assert f"two stages and {counts[0]} networks" in page.read_text()


@pytest.mark.slow
def test_the_check_with_fvcore_holds() -> None:
    (block,) = [block for block in blocks(REPOSITORY / "docs/results.md", "python") if "count_flops" in block]
    assert "assert count_flops(network) == cost_of(network.arch).flops" in block
    exec(block, {})


@pytest.mark.slow
def test_the_conformance_tests_that_the_architecture_shows_pass(tmp_path: Path) -> None:
    """As in a project of somebody else's, who has nothing of `tests/`."""
    shown = [block for block in blocks(REPOSITORY / "docs/architecture.md", "python") if "Contract" in block]
    assert len(shown) == 2
    for number, block in enumerate(shown):
        (tmp_path / f"test_{number}.py").write_text(block)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert re.search(r"^\d\d passed", done.stdout, re.MULTILINE)


@pytest.mark.skipif(
    not (REPOSITORY / "sret_nas" / "arch").is_dir(), reason="the modules are not yet where the page says they are"
)
def test_every_file_that_the_architecture_names_is_there() -> None:
    text = (REPOSITORY / "docs" / "architecture.md").read_text()
    named = re.findall(r"`((?:sret_nas|trials|benchmarks|docs|search_spaces)/[\w/.]*)`", text)
    assert len(named) > 15
    assert [path for path in named if not (REPOSITORY / path).exists()] == []
    rooms = re.findall(r"^\| `(\w+/)` \|", text, re.MULTILINE)
    assert len(rooms) > 15
    assert [room for room in rooms if not any((REPOSITORY / p / room).is_dir() for p in ("sret_nas", "trials"))] == []


def test_what_the_architecture_says_of_a_file_is_in_it() -> None:
    text = (REPOSITORY / "docs" / "architecture.md").read_text()
    named = re.findall(r"`([\w.-]+)`\s\(`([\w/]+\.py)`\)", text)
    named += [(name, path) for path, name in re.findall(r"`([\w/]+\.py)`: `([\w.]+)`", text)]
    assert len(named) >= 10
    for name, path in named:
        assert name.rpartition(".")[2] in (REPOSITORY / path).read_text(), f"{name} in {path}"


class TestMessages:
    """The table of messages in docs/troubleshooting.md."""

    SECTION = (REPOSITORY / "docs" / "troubleshooting.md").read_text().split("## Messages")[1].split("\n## ")[0]
    ROWS = re.findall(r"^\| (`.*?) \| `(.*)` \|$", SECTION, re.MULTILINE)

    def test_there_are_messages_to_look_at(self) -> None:
        assert len(self.ROWS) >= 15

    @pytest.mark.parametrize(
        ("situation", "message"),
        [pytest.param(*row, marks=[pytest.mark.slow] * bool(re.search("RUN|cuda", row[0])), id=row[0]) for row in ROWS],
    )
    def test_a_message_is_what_the_program_says(
        self,
        situation: str,
        message: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        if "without a GPU" in situation and torch.cuda.is_available():
            pytest.skip("there is a GPU here")
        monkeypatch.chdir(tmp_path)
        prepare(situation, tmp_path)
        command = shlex.split(situation.split("`")[1])
        if "RUN" in command:
            begin = "search --no-supernet --space smoke --trials 1 --train-images 64 --max-train-images 64 --workers 0"
            assert main([*begin.split(), "--device", "cpu", "--out", "RUN"]) == 0
        try:
            code = main(command)
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        assert code == 2
        assert message in capsys.readouterr().err


def prepare(situation: str, folder: Path) -> None:
    """Makes what a row of the table takes for granted."""
    space = (REPOSITORY / "search_spaces" / "sret_tiny.yaml").read_text()
    if "heads: [1, 5]" in situation:
        (folder / "mine.yaml").write_text(space.replace("heads: [1, 2, 4]", "heads: [1, 5]"))
    if "widht" in situation:
        (folder / "mine.yaml").write_text(space.replace("width: [32, 48, 64]", "widht: [32]"))
    if "with 3 heads" in situation:
        stage = "{width: 64, heads: 3, blocks: 2, recursions: 2, groups: [8, 2]}"
        (folder / "arch.yaml").write_text(f"stages: [{stage}]\n")
    if "--data empty" in situation:
        (folder / "empty").mkdir()
