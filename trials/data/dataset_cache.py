"""The images of a command: prepared once, beside the run directories, for all that use the same ones."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from sret_nas.errors import UserError
from sret_nas.files import short_digest

from ..console import Console, escape, print_line
from . import DataConfig, PreparedData, prepare

PREPARED_DATA = "prepared-data"
"""Folder beside the run directories: decoded images, shared by the runs that use the same ones."""


def cached_dataset(run_dir: Path, config: DataConfig, console: Console) -> tuple[Path, PreparedData]:
    """The images of a configuration and the folder where they are, after telling what they are."""
    directory = run_dir.parent / PREPARED_DATA / config_digest(config)
    what = escape(f"Preparing the images of {config.source}")
    with console.status(what) as status:

        def show(done: int, total: int) -> None:
            status.update(f"{what}: {done:,} of {total:,}")

        def tell(problem: str) -> None:
            print_line(
                console, f"warning: {problem.removesuffix('; prepare the data again')}; preparing the images anew"
            )

        data = prepare(config, directory, show, tell)
    print_line(console, f"Data: {data.summary()}")
    return directory, data


def require_apart(run_dir: Path, config: DataConfig) -> None:
    """Raises `UserError` for a run directory inside the image folder: it would be a class of it the next time."""
    if config.is_folder and run_dir.resolve().is_relative_to(Path(config.source).resolve()):
        raise UserError(f"the run directory {run_dir} must not lie inside the image folder {config.source}: see --out")


def config_digest(config: DataConfig) -> str:
    """Twelve hexadecimal digits that name what images are prepared, and how."""
    return short_digest(json.dumps(asdict(config), sort_keys=True))
