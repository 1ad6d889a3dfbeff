"""`supernet train`: from options to a run directory with a trained supernet, also carried on, also by torchrun."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table

from sret_nas.budget import format_quantity
from sret_nas.errors import UserError
from sret_nas.feasible import FeasibleSet
from sret_nas.files import dump_yaml, read_yaml, validate, write_atomically
from sret_nas.nn.weights import load_supernet
from sret_nas.space import SearchSpace
from trials.data import PreparedData
from trials.jobs import DivergedError
from trials.options import SearchOptions
from trials.preparing import prepared_beside, require_apart
from trials.recipe import ProxyConfig
from trials.report.console import say
from trials.report.progress import format_seconds
from trials.search import new_run_dir
from trials.supernet.config import SupernetConfig
from trials.supernet.processes import Processes, joined
from trials.supernet.speed import MEASURED_STEPS, seconds_per_step, steps_within
from trials.supernet.training import SUPERNET, SupernetTraining, train_supernet

TRAINING = "training.yaml"
"""In the run directory: what was asked for, and for how long it was planned."""

CHANGEABLE = {"device", "threads"}
"""Options that a resumed training may set anew."""


class RecordedTraining(BaseModel):
    """What `TRAINING` holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    options: SearchOptions
    """Of space, budget, data, proxies and machine; what only a search uses is as it is by default."""
    config: SupernetConfig
    space: dict[str, Any]
    """Whole: the file that it came from may change."""


def start_training(given: dict[str, Any], run_dir: Path | None, seconds: float | None, console: Console) -> Path:
    """Trains a supernet and returns its file.

    `given` are options as named in `SearchOptions` and `SupernetConfig`; `seconds` is a time budget, in place of a
    number of images. Raises `UserError`, before anything is written, if it cannot be done.
    """
    options, config = _split(given, "supernet train")
    if seconds is not None and options.supernet_images is not None:
        raise UserError("--images and --time-budget exclude each other: both say how long the training is")
    space = options.load_space()
    FeasibleSet(space, options.budget).check()
    with joined(options.device) as processes:
        if run_dir is None and processes.number > 1:
            raise UserError("several processes must be told where to meet: name the run directory with --out")
        run_dir = new_run_dir() if run_dir is None else run_dir
        if (run_dir / TRAINING).exists():
            raise UserError(f"{run_dir} holds a training already: carry it on with --resume {run_dir}")
        console = console if processes.is_first else Console(quiet=True)
        require_apart(run_dir, options.data_config)
        data = _prepared(options, run_dir, processes, console)
        planned = _planned(options, config, space, data, seconds, run_dir, processes, console)
        recorded = RecordedTraining(options=options, config=planned, space=space.to_dict())
        processes.wait()  # until all have looked whether there is a training already
        if processes.is_first:
            write_atomically(run_dir / TRAINING, dump_yaml(recorded.model_dump(mode="json")))
        return _train(run_dir, recorded, data, console)


def resume_training(run_dir: Path, given: dict[str, Any], console: Console) -> Path:
    """Carries a training on, from its last checkpoint. Raises `UserError` if there is none, or options differ."""
    if not (run_dir / TRAINING).is_file():
        raise UserError(f"{run_dir} holds no training of a supernet: there is no {TRAINING} in it")
    others = sorted(given.keys() - CHANGEABLE)
    if others:
        raise UserError(
            f"a resumed training keeps its options, {others[0]} among them: leave it out, or train in a new directory"
        )
    recorded = validate(RecordedTraining, read_yaml(run_dir / TRAINING), str(run_dir / TRAINING))
    options = validate(SearchOptions, {**recorded.options.model_dump(exclude_unset=True), **given}, "supernet train")
    recorded = recorded.model_copy(update={"options": options})
    with joined(options.device) as processes:
        console = console if processes.is_first else Console(quiet=True)
        data = _prepared(options, run_dir, processes, console)
        say(console, f"Carrying on in {run_dir}")
        return _train(run_dir, recorded, data, console)


def _split(given: dict[str, Any], source: str) -> tuple[SearchOptions, SupernetConfig]:
    """The options that a search has as well, and the training's own, whose length is not known before the images."""
    shared = {name: value for name, value in given.items() if name in SearchOptions.model_fields}
    own = {name: value for name, value in given.items() if name not in shared}
    options = validate(SearchOptions, {"threads": _num_cores(), **shared}, source)
    training = options.supernet_training(num_train_images=1).model_dump()
    return options, validate(SupernetConfig, {"training": training, **own}, source)


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _prepared(options: SearchOptions, run_dir: Path, processes: Processes, console: Console) -> PreparedData:
    """The images, prepared by the first process while the others wait."""
    if not processes.is_first:
        processes.wait()
    _, data = prepared_beside(run_dir, options.data_config, console)
    if processes.is_first:
        processes.wait()
    return data


def _planned(
    options: SearchOptions,
    config: SupernetConfig,
    space: SearchSpace,
    data: PreparedData,
    seconds: float | None,
    run_dir: Path,
    processes: Processes,
    console: Console,
) -> SupernetConfig:
    """The configuration with the length of the training, after telling how long that should take."""
    length = options.supernet_training(len(data.train))
    batch_size = min(length.batch_size, len(data.train))
    short = length.model_copy(update={"images": MEASURED_STEPS * batch_size})
    brief = config.model_copy(update={"training": short})
    proxy = options.proxy(len(data.train))
    torch.set_num_threads(options.threads)
    measured = SupernetTraining(run_dir, space, options.budget, proxy, brief, data, options.seed, processes)
    per_step = seconds_per_step(measured)
    if seconds is not None:
        length = length.model_copy(update={"images": steps_within(seconds, per_step) * batch_size})
    size = sum(parameter.numel() for parameter in measured.state.supernet.parameters())
    steps = length.num_steps(len(data.train))
    for line in (
        f"Supernet: {format_quantity(size)} parameters for the networks of {space.name}, {options.budget.describe()}; "
        f"seed {options.seed}",
        f"Plan: {steps:,} steps, {length.images:,} training images at {proxy.image_size} px; about "
        f"{format_seconds(steps * per_step)}, and a little for checkpoints and scores",
        f"Results: {run_dir}",
    ):
        say(console, line)
    return config.model_copy(update={"training": length})


def _train(run_dir: Path, recorded: RecordedTraining, data: PreparedData, console: Console) -> Path:
    options = recorded.options
    space = SearchSpace.from_dict(recorded.space, str(run_dir / TRAINING))
    proxy: ProxyConfig = options.proxy(len(data.train))
    try:
        path = train_supernet(
            run_dir, space, options.budget, proxy, recorded.config, data,
            seed=options.seed, device=options.device, threads=options.threads, console=console,
        )  # fmt: skip
    except DivergedError as error:
        raise UserError(str(error)) from None
    except KeyboardInterrupt:
        say(console, f"Interrupted; carry on with: python cli.py supernet train --resume {run_dir}")
        raise
    _show_updates(load_supernet(path)[1], console)
    say(console, f"Supernet: {run_dir / SUPERNET}")
    return path


def _show_updates(training: dict[str, Any], console: Console) -> None:
    """How often the least and the most trained blocks and NLLs were updated."""
    table = Table(
        "", "least updated", "steps", "most updated", "steps", title=f"Updates in {training['steps']:,} steps"
    )
    for kind in ("blocks", "NLLs"):
        counts = [(steps, name) for name, steps in training["updates"].items() if ("NLL" in name) == (kind == "NLLs")]
        if counts:
            (least, first), (most, last) = min(counts), max(counts)
            table.add_row(kind, first, f"{least:,}", last, f"{most:,}")
    console.print(table)
