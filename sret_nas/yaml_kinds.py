"""The kinds of this project's YAML files, so that a file of another kind is named with the command that takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from sret_nas.errors import UserError

Kind = Literal["network", "search space", "study", "recipe", "options of a run"]

_DESCRIPTIONS: dict[Kind, str] = {
    "network": "is one network, which `profile` and `evaluate` take",
    "search space": "is a search space, which `space` and `search --space` take",
    "study": "is a study, which `study run` takes",
    "recipe": "is a recipe, which `train --recipe` takes",
    "options of a run": "has the options of a run, which `--config` takes",
}


def kind_of(data: Any) -> Kind | None:
    """Returns the kind of file that plain data comes from, by the keys that no other kind has; None if none fits."""
    if not isinstance(data, dict):
        return None
    keys = data.keys()
    if {"options", "versions"} <= keys:
        return "options of a run"
    if {"question", "variants"} <= keys:
        return "study"
    if {"epochs", "optimizer"} <= keys:
        return "recipe"
    if "architecture" in keys:
        return "network"
    if "stages" in keys:
        return "search space" if "name" in keys or _list_choices(data["stages"]) else "network"
    return None


def _list_choices(stages: Any) -> bool:
    """Returns whether stages list widths to choose from, as those of a search space do."""
    return isinstance(stages, list) and any(isinstance(s, dict) and isinstance(s.get("width"), list) for s in stages)


def require_kind(data: Any, wanted: Kind, path: str | Path) -> None:
    """Raises `UserError` if data in a file is certainly of another kind than the one that is wanted."""
    kind = kind_of(data)
    if kind is not None and kind != wanted:
        article = "" if wanted == "options of a run" else "a "
        raise UserError(f"{path}: {_DESCRIPTIONS[kind]}, not {article}{wanted}")
