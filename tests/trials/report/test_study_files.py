"""The page of a study says how to run the same study again."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from cli import main
from trials.report.study_files import command_again
from trials.runs.study_options import StudyOptions

IMAGES = ["--max-train-images", "300", "--max-val-images", "40", "--max-test-images", "50", "--split-seed", "3"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"data": "/some/folder"}, ["--data", "DIR", "--seeds", "2"]),
        ({}, ["--data", "digits", "--seeds", "2"]),
        ({"data": "CIFAR10", "data_root": "/some"}, ["--data", "CIFAR10", "--data-root", "DIR", "--seeds", "2"]),
        ({"seed": 4, "epochs": 7}, ["--data", "digits", "--seeds", "2", "--seed", "4", "--epochs", "7"]),
        (
            {"max_train_images": 300, "max_val_images": 40, "max_test_images": 50, "split_seed": 3, "workers": 2},
            ["--data", "digits", "--seeds", "2", *IMAGES],
        ),
    ],
)
def test_the_command_runs_the_same_study(given: dict[str, Any], words: list[str]) -> None:
    options = StudyOptions.parse({"study": "loops", **given}, "study run")
    assert shlex.split(command_again(options, 2)) == ["sret-nas", "study", "run", "loops", *words]


def test_its_options_are_those_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["study", "run", "--help"])
    helped = capsys.readouterr().out
    assert all(word in helped for word in (*IMAGES[::2], "--data", "--data-root", "--seeds", "--seed", "--epochs"))
