"""A recipe's warm-up, where a command asks for fewer epochs than it takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from sret_nas.errors import ConfigError
from trials.training.full_recipe import Recipe


@pytest.mark.parametrize(("epochs", "warmup"), [(1, 0.5), (2, 1.0), (3, 2.0), (30, 2.0)])  # of the 2 epochs of `small`
def test_it_is_at_most_half_of_a_training_that_is_too_short_for_it(epochs: int, warmup: float) -> None:
    told: list[str] = []
    recipe = Recipe.load("small", {"epochs": epochs}, tell=told.append)
    assert (recipe.epochs, recipe.warmup_epochs) == (epochs, warmup)
    lines = {
        1: ["note: the recipe warms up for 2 epochs, and 1 epoch was asked for: it warms up for 0.5 here"],
        2: ["note: the recipe warms up for 2 epochs, and 2 epochs were asked for: it warms up for 1 here"],
    }
    assert told == lines.get(epochs, [])


def test_one_that_was_given_is_taken_as_it_is() -> None:
    with pytest.raises(ConfigError, match="--warmup-epochs must be less than the epochs, got 2 of 2 epochs"):
        Recipe.load("small", {"epochs": 2, "warmup_epochs": 2.0})
    assert Recipe.load("small", {"epochs": 2, "warmup_epochs": 0.0}).warmup_epochs == 0


def test_a_file_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(Recipe.load("small", {}).to_yaml().replace("epochs: 30", "epochs: 2", 1))
    with pytest.raises(ConfigError, match=r"mine\.yaml: warmup_epochs must be less than the epochs, got 2 of 2"):
        Recipe.load(str(path), {"epochs": 5})


@pytest.mark.parametrize("epochs", [0, "x", True, None])
def test_epochs_that_are_none_are_told_as_such(epochs: object) -> None:
    with pytest.raises(ConfigError, match=r"^train: --epochs: "):
        Recipe.load("small", {"epochs": epochs})


def test_one_of_a_file_of_options_gives_way_to_epochs_that_are_typed() -> None:
    told: list[str] = []
    recorded = {"warmup_epochs": 5.0, "mixup": 0.3}
    recipe = Recipe.load("small", {**recorded, "epochs": 2}, tell=told.append, of_file=recorded)
    assert (recipe.epochs, recipe.warmup_epochs, recipe.mixup) == (2, 1.0, 0.3)
    assert told == [
        "note: the file of --config warms up for 5 epochs, and 2 epochs were asked for: it warms up for 1 here"
    ]
    assert Recipe.load("small", {**recorded, "epochs": 6}, of_file=recorded).warmup_epochs == 5


def test_a_file_of_options_that_contradicts_itself_is_refused() -> None:
    recorded = {"warmup_epochs": 5.0, "epochs": 3}
    with pytest.raises(ConfigError, match="--warmup-epochs must be less than the epochs, got 5 of 3 epochs"):
        Recipe.load("small", recorded, of_file=recorded)
