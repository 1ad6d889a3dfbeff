"""Recipes: the shipped ones, what is refused, and that each value has an option."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sret_nas.errors import ConfigError, UserError
from sret_nas.yaml_files import read_yaml
from trials.command_line.train import RECIPE_OPTIONS
from trials.training.full_recipe import Recipe, default_recipe, recipe_file, shipped_recipes


def test_the_shipped_recipes_hold_every_value() -> None:
    assert list(shipped_recipes()) == ["imagenet", "small"]
    for path in shipped_recipes().values():
        assert list(read_yaml(path)) == list(Recipe.model_fields)


def test_imagenet_is_the_recipe_of_deit() -> None:
    recipe = Recipe.load("imagenet", {})
    assert (recipe.epochs, recipe.batch_size, recipe.warmup_epochs, recipe.weight_decay) == (300, 1024, 5.0, 0.05)
    assert recipe.peak_learning_rate(1024) == 1e-3
    assert recipe.peak_learning_rate(512) == 5e-4
    assert recipe.mixes


def test_a_rate_without_a_batch_is_not_scaled() -> None:
    assert Recipe.load("small", {}).peak_learning_rate(7) == 2e-3


@pytest.mark.parametrize(("size", "name"), [(224, "imagenet"), (128, "imagenet"), (127, "small"), (32, "small")])
def test_the_default_follows_the_image_size(size: int, name: str) -> None:
    assert default_recipe(size) == name


def test_each_value_has_one_option() -> None:
    options = [name.replace("-", "_") for _, group in RECIPE_OPTIONS for name, *_ in group]
    assert sorted(options) == sorted(Recipe.model_fields)


def test_a_recipe_survives_its_file(tmp_path: Path) -> None:
    recipe = Recipe.load("imagenet", {"epochs": 7})
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.to_yaml())
    assert Recipe.load(str(path), {}) == recipe


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batchsize": 3}, "train: batchsize: unknown key"),
        ({"epochs": 0}, "train: --epochs: must be greater than or equal to 1, got 0"),
        (
            {"warmup_epochs": 30.0},
            "train: --warmup-epochs must be less than the epochs, got 30 of 30 epochs: lower it as well",
        ),
        ({"crop_scale": [1.0, 0.5]}, "--crop-scale must be two numbers, the smaller one above 0 and first"),
        ({"crop_ratio": [0.0, 0.5]}, "--crop-ratio[0]: must be greater than 0, got 0.0"),
        ({"auto_augment": "rand-m9; import os"}, "train: --auto-augment must be a policy of timm"),
        *(
            (
                {"auto_augment": policy},
                f"--auto-augment must be a policy of timm such as rand-m9-mstd0.5-inc1, augmix-m3 or "
                f"3a, with at most 9 operations, got {policy!r}",
            )
            for policy in (
                "rand-m1.2.3",
                "rand-n1000000000",
                "rand-w9",
                "rand-mstd",
                "rand-m9-mstd0.5.5",
                "rand-inc2",
                "rand-p2",
                "augmix-w99999999",
                "augmix-d99",
                "augmix-a0",
                "augmix-a0.00-m3",
                "original-n2",
                "3a-",
                "rand-tbest",
            )
        ),
        ({"gradient_accumulation": 65}, "--gradient-accumulation must leave at least 2 images at a time"),
        ({"learning_rate": float("nan")}, "--learning-rate: must be"),
        ({"depth_schedule": "deep"}, "--depth-schedule: must be 'full', 'joint'"),
    ],
)
def test_values_that_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        Recipe.load("small", changes)
    assert message in str(error.value)


def test_a_mistake_in_a_file_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("epochs: 3\nbatchsize: 7\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml: batchsize: unknown key"):
        Recipe.load(str(path), {"epochs": 5})


def test_an_unknown_name_lists_the_recipes() -> None:
    with pytest.raises(UserError, match="'imagnet' is no recipe: name a YAML file, or one of imagenet, small"):
        recipe_file("imagnet")
    with pytest.raises(UserError, match=r"^'~nobody_of_this_name/x\.yaml' cannot be looked up: "):
        recipe_file("~nobody_of_this_name/x.yaml")
