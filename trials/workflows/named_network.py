"""The architecture that a user names: a YAML file, a preset, or the directory of a trained network."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.presets import preset
from sret_nas.errors import UserError
from sret_nas.space.search_space import DepthSchedule
from sret_nas.yaml_files import read_yaml


def architecture_file(name_or_path: str) -> Path | None:
    """Returns the YAML file of a named architecture; None for a preset.

    Raises `UserError` for a folder that holds no trained network.
    """
    path = Path(name_or_path)
    if path.is_dir():
        from sret_nas.nn.model_directory import ARCHITECTURE, find_model_directory  # imports torch

        if (path / "best.yaml").is_file():
            raise UserError(f"{path} is a folder: give a file, such as {path / 'best.yaml'}")
        return find_model_directory(path) / ARCHITECTURE
    if path.is_file() or path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        return path
    return None


def named_architecture(name_or_path: str) -> ArchConfig:
    """Returns the architecture of a YAML file, a preset, or the directory of a trained network.

    Raises `UserError` if there is none.
    """
    file = architecture_file(name_or_path)
    if file is not None and Path(name_or_path).is_dir():
        from sret_nas.nn.model_directory import read_architecture  # imports torch

        return read_architecture(file.parent)
    return preset(name_or_path) if file is None else ArchConfig.from_yaml(file)


def recorded_schedule(name_or_path: str) -> DepthSchedule | None:
    """Returns the mixed-depth schedule with which a search scored a network, if its file says so."""
    file = architecture_file(name_or_path)
    if file is not None and Path(name_or_path).is_dir() and not file.exists():
        from sret_nas.nn.model_directory import read_info  # imports torch

        recipe: Any = read_info(file.parent).recipe  # other programs write no YAML file of the architecture
    else:
        data = None if file is None else read_yaml(file)
        recipe = data.get("recipe") if isinstance(data, dict) else None
    schedule = recipe.get("depth_schedule") if isinstance(recipe, dict) else None
    return next((known for known in get_args(DepthSchedule) if known == schedule), None)
