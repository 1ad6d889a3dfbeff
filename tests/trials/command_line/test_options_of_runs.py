"""`search` and `supernet train` say what their option groups and `SupernetConfig` know, and mean the same by it."""

from __future__ import annotations

import argparse
from types import ModuleType

import pytest

from trials.command_line import search, supernet_train
from trials.runs.option_groups import flag
from trials.runs.options import SearchOptions
from trials.runs.supernet_train_options import OF_SEARCHES, SupernetTrainOptions
from trials.supernet.config import SupernetConfig

RUN_DIRECTORY = {"out", "resume", "dry_run", "open", "quiet", "config"}


def options_of(command: ModuleType) -> dict[str, argparse.Action]:
    """Returns a command's options by the names that their values get."""
    commands = argparse.ArgumentParser().add_subparsers()
    command.add_command(commands)
    (parser,) = commands.choices.values()
    shown = (action for action in parser._actions if action.help != argparse.SUPPRESS)  # old names are hidden
    return {action.dest: action for action in shown if action.dest != "help"}


def test_every_option_is_a_field_of_what_checks_it() -> None:
    assert options_of(search).keys() - RUN_DIRECTORY == SearchOptions.model_fields.keys()
    of_the_place = {"time_budget", "engine", "ray_address", "workers", "gpus_per_worker"}
    fields = SupernetTrainOptions.model_fields.keys() | SupernetConfig.model_fields.keys() - {"training"}
    assert options_of(supernet_train).keys() - RUN_DIRECTORY - of_the_place == fields


@pytest.mark.parametrize("name", sorted(options_of(search).keys() - RUN_DIRECTORY - {"storage"}))
def test_messages_name_the_option_that_sets_a_field(name: str) -> None:
    assert options_of(search)[name].option_strings == [flag(name)]


def test_no_option_is_given_by_default() -> None:
    """Or a resumed run would take it for a change."""
    for command in (search, supernet_train):
        given = [name for name, action in options_of(command).items() if action.default is not argparse.SUPPRESS]
        assert given == []


@pytest.mark.parametrize("name", sorted(options_of(search).keys() & options_of(supernet_train).keys()))
def test_an_option_of_both_is_read_alike(name: str) -> None:
    ours, theirs = options_of(search)[name], options_of(supernet_train)[name]
    if name != "resume":  # a search is also resumed from the address of its copy
        assert ours.type is theirs.type
    if name == "engine":  # Ray Tune runs trials, of which a supernet's training has none
        assert (ours.choices, theirs.choices) == (("local", "ray", "tune"), ("local", "ray"))
    else:
        assert ours.choices == theirs.choices
    if name != "supernet_images":  # where all is about a supernet, --images will do
        assert ours.option_strings == theirs.option_strings


def test_both_share_the_options_of_space_budget_data_proxy_and_machine() -> None:
    assert options_of(search).keys() & options_of(supernet_train).keys() == {
        "space", "flops_budget", "params_budget", "shallowest_flops_budget", "flops_min", "params_min",
        "target_image_size", "target_classes",
        "target_channels", "data", "data_root", "max_train_images", "max_val_images", "max_test_images", "split_seed",
        "skip_broken",
        "image_size", "width_scale", "supernet_images", "batch_size", "learning_rate", "seed", "threads", "device",
        "out", "resume", "time_budget",  # which each spends in its own way
        "engine", "ray_address", "workers", "precision", "soft_labels",
    }  # fmt: skip


def test_options_that_a_training_drops_when_read_are_none_of_its_own() -> None:
    assert OF_SEARCHES.isdisjoint(SupernetTrainOptions.model_fields)
