"""`--config FILE`: options from a YAML file; those on the command line win.

The file maps options to values, as they are typed: `flops-budget: 1G`. Or it is what a run wrote: `config.yaml` of a
search, or `training.yaml`, whose options are then all recorded ones.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from sret_nas.errors import MAX_VALUE, ConfigError, UserError, printable
from sret_nas.yaml_kinds import require_kind

from .argument_types import NUMBERS, path

WRITTEN_BY_RUNS = ("config.yaml", "training.yaml")

RENAMED = {
    "rivals": "controls", "score_images": "val_images_per_trial", "from_scratch": "no_supernet",
    "max_train": "max_train_images", "max_val": "max_val_images", "max_test": "max_test_images",
}  # fmt: skip
"""Options that runs of earlier versions recorded under other names, by those names."""

NOT_IN_FILES = {"help", "run", "resume", "config"}
NOT_RECORDED = NOT_IN_FILES | {"out", "dry_run", "open", "quiet"}
"""Options that say what a command does, not what a run is: no run records them."""


def add_config(parser: argparse.ArgumentParser, group: Any) -> None:
    """Declares `--config`; the file's values are parsed by the options that the parser has when it is used."""
    group.add_argument(
        "--config", metavar="FILE|RUN", type=lambda text: _parsed(parser, text),
        help="options from a YAML file, such as `data: path/to/images`, or those of a run (its folder, config.yaml or "
        "training.yaml); those on the command line win",
    )  # fmt: skip


def with_config(given: argparse.Namespace) -> argparse.Namespace:
    """Returns what was given, on the command line or else in the file of `--config`.

    Raises `UserError` if the options of a run that is resumed are given in a file.
    """
    values = dict(vars(given))
    config: Mapping[str, Any] | None = values.pop("config", None)
    if config is None:
        return given
    if "resume" in values:
        raise UserError("--config cannot be combined with --resume, which takes the options that the run recorded")
    return argparse.Namespace(**{**config, **values})


def _parsed(parser: argparse.ArgumentParser, text: str) -> dict[str, Any]:
    """Returns the options in a file by the names of their values. Raises argparse's error if one is wrong."""
    from sret_nas.yaml_files import read_yaml

    try:
        file = path(text)
        if file.is_dir():  # a run
            file = next((file / name for name in WRITTEN_BY_RUNS if (file / name).is_file()), file)
        return _options(parser, read_yaml(file), str(file))
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _options(parser: argparse.ArgumentParser, content: object, source: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ConfigError(source, "", "must map options to values, such as `flops-budget: 1G`")
    if isinstance(content.get("options"), dict):  # a run wrote it: values are plain data, and None is the default
        recipe = content.get("recipe")
        recorded = {name: value for name, value in content["options"].items() if value is not None}
        recorded |= recipe if isinstance(recipe, dict) else {}
        recorded = {RENAMED.get(name, name): value for name, value in recorded.items()}
        for name in recorded:
            if name in NOT_RECORDED or not name.isidentifier() or name.startswith("_"):
                raise ConfigError(source, f"options.{printable(name, MAX_VALUE)}", "no run records such an option")
        return recorded
    actions: dict[str, argparse.Action] = {}
    for action in parser._actions:  # of `--storage` and `--no-storage`, which set the same, the first takes a value
        if action.dest not in NOT_IN_FILES:
            actions.setdefault(action.dest, action)
    options: dict[str, Any] = {}
    for key, value in content.items():
        name = str(key).replace("-", "_")
        if name not in actions:
            require_kind(content, "options of a run", source)
            raise ConfigError(source, str(key), f"{parser.prog} has no such option")
        options[name] = _value(actions[name], value, source, str(key))
    return options


def _value(action: argparse.Action, value: object, source: str, key: str) -> object:
    """Returns a value as the option's parser would, where the file has it as text; other values are checked later."""
    if isinstance(value, list) and action.nargs == "+":
        return [_value(action, item, source, key) for item in value]
    if action.nargs == 0 and not isinstance(value, bool):
        raise ConfigError(source, key, f"must be true or false, got {value!r}")
    if not isinstance(value, str) or not callable(action.type):
        return value
    try:
        return action.type(value)
    except argparse.ArgumentTypeError as error:
        raise ConfigError(source, key, str(error)) from None
    except ValueError as error:
        rule = NUMBERS.get(getattr(action.type, "__name__", ""))
        raise ConfigError(source, key, str(error) if rule is None else f"must be {rule}, got {value!r}") from None
