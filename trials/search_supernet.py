"""The supernet of a search: how it is to be trained, or which file is to be used, and the training itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from sret_nas.arch import ArchConfig
from sret_nas.errors import UserError
from sret_nas.extent import extent_of
from sret_nas.files import digest_of_file, validate
from sret_nas.space import SearchSpace
from trials.data import PreparedData
from trials.jobs import SupernetSource
from trials.options import SearchOptions
from trials.recipe import ProxyConfig, proxy_arch
from trials.report.console import say
from trials.run import Run
from trials.supernet.config import SupernetConfig

SUPERNET_DIR = "supernet"
"""Folder in the run directory: the supernet, its checkpoint, its TensorBoard scalars."""


class SupernetSetting(BaseModel):
    """What a search's header says of its supernet."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: SupernetConfig | None = None
    """How it is trained; None for one that was trained before."""
    threads: int = 1
    """CPU threads of its training, on which the last bits of its weights depend."""
    given: SupernetSource | None = None
    """The file that is used as it is."""


def supernet_setting(
    options: SearchOptions, space: SearchSpace, proxy: ProxyConfig, data: PreparedData
) -> SupernetSetting:
    """Raises `UserError` if the file that was named is no supernet for this space, these proxies and this data."""
    if options.supernet is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        threads = min(cores, max(1, options.workers) * options.threads)
        return SupernetSetting(
            config=SupernetConfig(training=options.supernet_training(len(data.train))), threads=threads
        )
    path = Path(options.supernet)
    _check_file(path, space, proxy, data)
    return SupernetSetting(given=SupernetSource(path=str(path), digest=digest_of_file(path)))


def recorded_setting(header: dict[str, Any], run_dir: Path) -> SupernetSetting | None:
    """What the header of a recorded search says."""
    if header.get("supernet") is None:
        return None
    return validate(SupernetSetting, header["supernet"], f"{run_dir}: supernet")


def _check_file(path: Path, space: SearchSpace, proxy: ProxyConfig, data: PreparedData) -> None:
    from sret_nas.nn.weights import load_supernet

    supernet, training = load_supernet(path)
    if training.get("data_digest", data.digest) != data.digest:
        raise UserError(f"{path} was trained on other images; give --data and the options of images as it was trained")

    def narrowed(arch: ArchConfig) -> ArchConfig:
        return proxy_arch(arch, proxy, channels=data.channels, classes=data.num_classes)

    problem = supernet.extent.lacks(extent_of(space, adapted=narrowed))
    if problem is not None:
        raise UserError(f"{path} does not hold all networks of {space.name} at {proxy.image_size} px: {problem}")


def provide_supernet(run: Run) -> None:
    """Sees to it that the search has its supernet: trained now, carried on, or as recorded. Then it is on record.

    Raises `UserError` if its file is missing or has changed.
    """
    setting = recorded_setting(run.history.header, run.run_dir)
    if setting is None:
        raise UserError(f"{run.run_dir}: the records say nothing of a supernet")
    if run.history.supernet is None:
        source, seconds = (setting.given, 0.0) if setting.given is not None else _trained(run, setting)
        run.records.supernet(source, seconds)
        run.history.supernet = source
    assert run.supernet is not None
    if digest_of_file(Path(run.supernet.path)) != run.supernet.digest:
        raise UserError(
            f"{run.supernet.path} is not the supernet that the search was begun with: its content has changed"
        )


def _trained(run: Run, setting: SupernetSetting) -> tuple[SupernetSource, float]:
    """The supernet, and the seconds that its steps took in all sessions, those that were killed included."""
    from sret_nas.nn.weights import load_supernet
    from trials.supernet.training import train_supernet

    assert setting.config is not None
    images = setting.config.training.images
    say(run.console, f"Training the supernet on {images:,} images, {setting.threads} threads")
    path = train_supernet(
        run.run_dir / SUPERNET_DIR,
        run.space,
        run.options.budget,
        run.proxy,
        setting.config,
        PreparedData.open(run.data_dir),
        seed=run.options.seed,
        device=run.options.device,
        threads=setting.threads,
        console=run.console,
    )
    _, training = load_supernet(path)
    source = SupernetSource(path=str(path.relative_to(run.run_dir)), digest=digest_of_file(path))
    return source, float(training["seconds"])
