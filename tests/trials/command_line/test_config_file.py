"""Options from a file mean what they mean on the command line, which wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from cli import create_parser
from sret_nas.errors import UserError
from trials.command_line.config_file import with_config
from trials.command_line.main import main
from trials.runs.options import SearchOptions


def given(*arguments: str) -> dict[str, Any]:
    options = vars(with_config(create_parser().parse_args(arguments)))
    options.pop("run")
    return options


def written(folder: Path, content: object) -> str:
    (folder / "own.yaml").write_text(yaml.safe_dump(content))
    return str(folder / "own.yaml")


def test_a_file_of_ones_own_is_parsed_as_the_command_line_is(tmp_path: Path) -> None:
    file = written(tmp_path, {"flops-budget": "1G", "objectives": "error,params", "time_budget": "2h", "trials": 7,
                              "no-supernet": True})  # fmt: skip
    typed = ["--flops-budget", "1G", "--objectives", "error,params", "--time-budget", "2h", "--no-supernet"]
    assert given("search", "--config", file) == given("search", *typed, "--trials", "7")
    assert given("search", "--trials", "9", "--config", file) == given("search", *typed, "--trials", "9")
    file = written(tmp_path, {"architecture": "sret_t", "epochs": 3, "mixup": 0.5, "crop-scale": "0.5,1"})
    assert given("train", "--config", file) == given(
        "train", "sret_t", "--epochs", "3", "--mixup", "0.5", "--crop-scale", "0.5,1"
    )
    assert given("train", "sret_s", "--config", file)["architecture"] == "sret_s"


def test_an_option_that_a_switch_takes_back_has_its_value(tmp_path: Path) -> None:
    assert given("search", "--config", written(tmp_path, {"storage": "s3://bucket/runs"})) == given(
        "search", "--storage", "s3://bucket/runs"
    )


def test_the_command_line_wins_over_options_with_names_of_earlier_versions(tmp_path: Path) -> None:
    file = written(tmp_path, {"options": {"rivals": 2, "max_train": 64, "score_images": 100}})
    options = given("search", "--config", file, "--controls", "1")
    assert options == {"controls": 1, "max_train_images": 64, "val_images_per_trial": 100}
    assert SearchOptions.parse(options, "test").controls == 1


def test_what_a_run_wrote_repeats_it(tmp_path: Path) -> None:
    options = SearchOptions.parse({"flops_budget": 10**9, "no_supernet": True, "trials": 3}, "test")
    file = written(tmp_path, {"command": "search", "options": options.model_dump(mode="json"), "space": {}})
    assert SearchOptions.parse(given("search", "--config", file), "test") == options
    changed = SearchOptions.parse(given("search", "--config", file, "--trials", "4"), "test")
    assert changed == options.model_copy(update={"trials": 4})
    Path(file).rename(tmp_path / "config.yaml")
    assert SearchOptions.parse(given("search", "--config", str(tmp_path)), "test") == options
    file = written(tmp_path, {"options": {"architecture": "sret_t", "seed": 1}, "recipe": {"clip_norm": None}})
    assert given("train", "--config", file) == {"architecture": "sret_t", "seed": 1, "clip_norm": None}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"flop-budget": "1G"}, "flop-budget: sret-nas search has no such option"),
        *(
            ({"options": {"seed": 1, name: 1.5}}, f"own.yaml: options.{name}: no run records such an option")
            for name in ("__class__", "run", "out", "resume", "dry_run", "a b")
        ),
        ({"options": {"seed": 1}, "recipe": {"out": "x"}}, "own.yaml: options.out: no run records such an option"),
        ({"flops-budget": "much"}, "flops-budget: "),
        ({"trials": "many"}, "trials: must be a whole number, got 'many'"),
        ({"no-supernet": "yes"}, "no-supernet: must be true or false, got 'yes'"),
        ({"resume": "runs/1"}, "resume: sret-nas search has no such option"),
        ([1], "must map options to values, such as `flops-budget: 1G`"),
    ],
)
def test_a_wrong_file_is_one_line_with_the_key(
    tmp_path: Path, content: object, problem: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trials.command_line.main.program_name", lambda: "sret-nas")
    with pytest.raises(SystemExit, match="2"):
        given("search", "--config", written(tmp_path, content))
    assert problem in capsys.readouterr().err


def test_a_switch_may_be_false_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that is neither quiet nor dry, as the file says, begins; a stub in its place tells."""
    begun: list[bool] = []

    def begin(options: object, run_dir: object, command: object, console: Console) -> None:
        begun.append(console.quiet)
        raise UserError("enough")

    monkeypatch.setattr("trials.search.search.start_search", begin)
    switches = {"dry-run": False, "quiet": False, "open": False}
    assert main(["search", "--config", written(tmp_path, switches), "--out", str(tmp_path / "run")]) == 2
    assert begun == [False]


def test_a_resumed_run_has_its_own_options(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^--config cannot be combined with --resume"):
        given("search", "--resume", "runs/1", "--config", written(tmp_path, {"trials": 3}))
