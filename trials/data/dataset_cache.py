"""The cache of prepared images beside the run directories, shared by all runs with equal configurations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from sret_nas.errors import UserError
from sret_nas.files import short_digest

from ..console import Console, Working, print_line
from . import DataConfig, PreparedData, prepare

PREPARED_DATA = "prepared-data"
"""Folder of the cache, beside the run directories."""


def cached_dataset(run_dir: Path, config: DataConfig, console: Console) -> tuple[Path, PreparedData]:
    """Returns the folder of a configuration's images and the images, prepared if necessary, and prints a summary."""
    directory = run_dir.parent / PREPARED_DATA / config_digest(config)
    what = f"Preparing the images of {config.source}"
    with Working(console, what) as working:

        def show(done: int, total: int) -> None:
            working.update(f"{what}: {done:,} of {total:,}")

        def tell(problem: str) -> None:
            print_line(
                console, f"warning: {problem.removesuffix('; prepare the data again')}; preparing the images anew"
            )

        data = prepare(config, directory, show, tell)
    print_line(console, f"Data: {data.summary()}")
    return directory, data


def same_dataset(
    run_dir: Path, config: DataConfig, digest: str | None, console: Console, work: str
) -> tuple[Path, PreparedData]:
    """Returns what `cached_dataset` does, for a run that is resumed.

    Args:
        digest: Digest of the images that the run was begun with; None if it is not known.
        work: What is resumed, for messages: a search or a training.

    Raises `UserError` if the images are missing, or differ from those that the run was begun with.
    """
    with where_begun(f"a resumed {work}"):
        data_dir, data = cached_dataset(run_dir, config, console)
    if digest is not None and data.digest != digest:
        raise UserError(
            f"the images of {config.source} are not those that {run_dir} was begun with: put those back, say with "
            f"--data where they are, or start a new {work}"
        )
    return data_dir, data


@contextmanager
def where_begun(work: str, what: str = "images", option: str = "--data") -> Iterator[None]:
    """Adds to a `UserError` that something has to be where it was, or where an option says."""
    try:
        yield
    except UserError as error:
        where = f"{work} needs its {what}: where they were when it was begun, or as {option} says"
        raise UserError(f"{error} ({where})") from None


def require_apart(run_dir: Path, config: DataConfig) -> None:
    """Raises `UserError` if the run directory is inside the image folder, where it would be read as a class."""
    if config.is_folder and run_dir.resolve().is_relative_to(Path(config.source).resolve()):
        raise UserError(f"the run directory {run_dir} must not lie inside the image folder {config.source}: see --out")


def config_digest(config: DataConfig) -> str:
    """Returns the name of a configuration's folder in the cache: a short digest of all its fields.

    `skip_broken` counts only where it is set, so that folders of earlier versions are found.
    """
    fields = asdict(config)
    if not config.skip_broken:
        del fields["skip_broken"]
    return short_digest(json.dumps(fields, sort_keys=True))
