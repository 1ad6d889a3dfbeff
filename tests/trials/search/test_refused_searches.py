"""Searches that cannot be begun, or are only planned, and the defaults of their options."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cli import main
from sret_nas import UserError
from sret_nas.yaml_files import dump_yaml
from tests.counted_spaces import space_of
from tests.trials.search.smoke_searches import FLAGS, OPTIONS, quiet
from trials.runs.options import SearchOptions
from trials.search.plan import require_gpu
from trials.search.search import plan_search, start_search

pytestmark = pytest.mark.slow


def test_gpu_hours_are_refused_where_trials_turn_out_to_run_on_the_cpu() -> None:
    options = SearchOptions(gpu_hours=3.0)
    require_gpu(options, "NVIDIA H200")
    require_gpu(SearchOptions(), "cpu")
    with pytest.raises(UserError, match="--gpu-hours 3 goes with a GPU, and trials run on the CPU here: give --time-b"):
        require_gpu(options, "cpu")


@pytest.mark.parametrize("asked", [{"latency_budget": "20ms"}, {"objectives": ("error", "latency")}])
def test_a_space_whose_latency_is_not_predicted_is_refused_before_images_are_decoded(
    asked: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "space.yaml").write_text(dump_yaml(space_of({}, residual=["plain", "path"]).to_dict()))
    options = SearchOptions.parse({"space": str(tmp_path / "space.yaml"), **asked}, "search")
    for begin in (start_search, plan_search):
        console = Console(file=io.StringIO(), width=200)
        with pytest.raises(
            UserError, match="residual: plain path: keep only the paper's in the space, or leave latency"
        ):
            begin(options, tmp_path / "runs" / "run", *([["test"]] if begin is start_search else []), console)
        assert isinstance(console.file, io.StringIO)
        assert "Data:" not in console.file.getvalue()
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flops_budget": 1000}, "the nearest"),
        ({"space": "no_such_space"}, "no_such_space"),
        ({"data": "no/such/folder"}, "no/such/folder"),
        ({"strategy": "luck"}, "strategy"),
        ({"objectives": ("error", "error")}, "--objectives must not repeat"),
        ({"train_images": 10, "epochs": 1.0}, "--epochs cannot be combined with --train-images"),
        ({"device": "tpu"}, "device"),
        ({"seed": 2**32}, "--seed: must be less than 4294967296"),
        ({"batch_size": 100_000}, "--batch-size: must be less than or equal to 65536"),
        ({"learning_rate": float("inf")}, "--learning-rate: must be a finite number, got inf"),
        ({"train_images": None, "epochs": float("inf")}, "--epochs: must be a finite number, got inf"),
        ({"device": "cuda:77"}, "cuda:77 is not there"),
        (
            {"gpu_hours": 2.0},
            "--gpu-hours goes with a GPU, got --device cpu; --time-budget bounds the wall time anywhere",
        ),
        ({"gpu_hours": 0.0}, "--gpu-hours: must be greater than 0"),
        ({"time_budget": 0.5}, "--time-budget: must be greater than or equal to 1"),
        (
            {"time_budget": 1.0, "train_images": 10**6},
            "a time budget of 1.0 s is too short for a trial, which takes about ",
        ),
        ({"trial_timeout": float("inf")}, "--trial-timeout: must be"),
        (
            {"trial_timeout": 1.0, "train_images": 10**6},
            "--trial-timeout 1.0 s would end every typical trial, which takes about .*: raise it, or leave it out",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_recorded(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        start_search(SearchOptions.parse({**OPTIONS, **options}, "search"), tmp_path / "refused", ["test"], quiet())
    assert not (tmp_path / "refused").exists()


def test_defaults_that_depend_on_other_options() -> None:
    assert SearchOptions(trials=16).population == 4
    assert SearchOptions(trials=60).population == 15
    assert SearchOptions(trials=1000).population == 20
    assert [SearchOptions(workers=workers).lookahead for workers in (0, 1, 4, 32)] == [4, 4, 4, 32]


@pytest.mark.parametrize(
    ("options", "num_train", "images"),
    [({}, 1000, 3000), ({}, 1_000_000, 16_000), ({"epochs": 0.5}, 1000, 500), ({"train_images": 77}, 1000, 77)],
)
def test_the_length_of_a_proxy_run(options: dict[str, Any], num_train: int, images: int) -> None:
    assert SearchOptions(**options).proxy(num_train).training.images == images


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine" / "pareto").mkdir(parents=True)
    (tmp_path / "mine" / "pareto" / "my.yaml").write_text("mine")
    with pytest.raises(UserError, match=r"is not empty \(it holds pareto\)"):
        start_search(SearchOptions.parse(OPTIONS, "search"), tmp_path / "mine", ["test"], quiet())
    assert [path.name for path in (tmp_path / "mine").rglob("*")] == ["pareto", "my.yaml"]


def test_a_run_directory_inside_the_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must not lie inside the image folder"):
        start_search(
            SearchOptions.parse({**OPTIONS, "data": str(tmp_path)}, "search"), tmp_path / "run", ["test"], quiet()
        )
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_prints_the_plan_and_begins_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["search", *FLAGS, "--objectives=error,flops", "--workers=0", "--dry-run", f"--out={tmp_path / 'run'}"])
        == 0
    )
    told = capsys.readouterr().out
    assert re.search(r"^Plan: 6 trials .*of 128 training images at 24 px; about .* in all$", told, re.MULTILINE)
    assert told.splitlines()[-1] == "Dry run: that is the plan, and nothing was begun"
    assert "Results:" not in told
    assert not (tmp_path / "run").exists()
    assert main(["search", "--dry-run", "--resume=x"]) == 2
    assert "--dry-run plans a new search" in capsys.readouterr().err
