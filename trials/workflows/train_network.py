"""`train`: trains a network whole, from its options to a run directory, or resumes it, in one or more processes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from sret_nas.arch.cost import cost_of
from sret_nas.errors import UserError
from sret_nas.files import validate
from sret_nas.output_files import require_empty_folder
from sret_nas.plurals import counted
from sret_nas.quantities import format_quantity, format_seconds
from sret_nas.yaml_files import read_yaml

from ..console import print_line
from ..data.whole_images import WholeImages
from ..distributed.choose_launcher import launcher_for
from ..distributed.launcher import Launcher, RayPlacement
from ..lost_directory import LostDirectoryError
from ..machine import num_cores
from ..program_name import resume_command
from ..runs.directory import TRAINING, locked, new_run_dir, record_new_training, require_new_training
from ..runs.full_disk import full_disk_explained
from ..runs.option_groups import flag
from ..runs.run_kinds import instead
from ..runs.train_options import CHANGEABLE, MOVABLE, TrainOptions
from ..training.full import BEST, LAST
from ..training.full_recipe import Recipe
from ..training.full_spec import plan_of
from .named_network import named_architecture
from .network_task import RESULT, NetworkTask, task_of
from .recorded_training import RecordedTraining, describe_labels, record_training

MAX_DATA_WORKERS = 8
"""Processes that read images, by default, for each process that trains."""


def parse_train(given: Mapping[str, Any]) -> tuple[TrainOptions, dict[str, Any]]:
    """Returns the options and the recipe's changed values from the command line.

    Args:
        given: Plain data by field name of `TrainOptions` or `Recipe`.

    Raises `ConfigError` with the first thing that is wrong.
    """
    changes = {name: value for name, value in given.items() if name in Recipe.model_fields}
    own = {name: value for name, value in given.items() if name not in changes}
    return TrainOptions.parse(own, "train"), changes


def start_training(
    options: TrainOptions, changes: Mapping[str, Any], run_dir: Path | None, console: Console,
    placement: RayPlacement | None = None, of_file: Collection[str] = (),
) -> Path:  # fmt: skip
    """Trains a network and returns the file of the result.

    Args:
        options: What is trained, on what, where.
        changes: Values of the recipe that differ from its file.
        run_dir: The run directory; None makes a new one.
        console: For plan and progress.
        placement: How Ray places the processes; None trains here.
        of_file: Names of those changes that were not typed, but come from a file of options.

    Raises:
        UserError: The training is impossible. Nothing was written.
        DivergedError: Losses were not finite.
        StorageError: The disk is full.
    """
    arch = named_architecture(options.architecture)
    with launcher_for(options.device, placement, options.given_threads) as launcher:
        console = console if launcher.is_first else Console(quiet=True)
        options = _with_machine(options, launcher)
        if run_dir is None and launcher.num_processes > 1:
            raise UserError("several processes must be told where to meet: name the run directory with --out")
        run_dir = new_run_dir() if run_dir is None else run_dir
        require_new_training(run_dir)
        require_empty_folder(run_dir)
        recorded, images = record_training(arch, options, changes, run_dir, console, of_file)
        task = task_of(recorded)
        plan = plan_of(recorded.recipe, len(images.train), options.seed, launcher.world_size)
        # That weights and labels fit is known before anything is written.
        task.initial_weights()
        distillation = task.distillation(images, torch.device("cpu"))
        _show_plan(recorded, images, console)
        if distillation is not None:
            print_line(console, f"Labels: {describe_labels(options, distillation)}")
        measured = launcher.measure(task)
        steps, epochs = recorded.recipe.epochs * plan.steps_per_epoch, recorded.recipe.epochs
        duration = format_seconds(steps * measured.seconds_per_step)
        per_epoch = f"{counted(plan.steps_per_epoch, 'step')} with {plan.batch_size:,} images"
        print_line(console, f"Plan: {counted(epochs, 'epoch')} of {per_epoch}; about {duration}")
        print_line(console, f"Results: {run_dir}")
        launcher.wait()  # until all have looked whether there is a training already
        # The choice is recorded, so that a resumed training keeps it, wherever it goes on.
        recipe = recorded.recipe.model_copy(update={"precision": measured.precision})
        labels = None if distillation is None else distillation.identity
        recorded = recorded.model_copy(update={"recipe": recipe, "labels": labels})
        if launcher.is_first:
            record_new_training(run_dir, recorded.write)
        return _train(run_dir, task_of(recorded), recorded, launcher, console)


def resume_training(
    run_dir: Path, given: Mapping[str, Any], console: Console, placement: RayPlacement | None = None
) -> Path:
    """Resumes a training from its last checkpoint and returns the file of the result.

    Raises `UserError` if there is no training, or if options are given that must not change; and as `start_training`.
    """
    path = run_dir / TRAINING
    other = instead(run_dir, "training of a network")
    if not path.is_file() or other:
        missing = "" if path.is_file() else f": there is no {TRAINING} in it"
        raise UserError(f"{run_dir} holds no training of a network{missing}{other}")
    recorded = validate(RecordedTraining, read_yaml(path), str(path))
    movable = {name for name in MOVABLE if getattr(recorded.options, name) is not None}
    others = sorted(given.keys() - CHANGEABLE - movable)
    if others:
        name = "the architecture" if others[0] == "architecture" else flag(others[0])
        raise UserError(
            f"a resumed training keeps its options, {name} among them: leave it out, or train in a new directory"
        )
    options = recorded.options.with_given(given, "train")
    recorded = recorded.model_copy(update={"options": options})
    with launcher_for(options.device, placement, options.threads) as launcher:
        console = console if launcher.is_first else Console(quiet=True)
        print_line(console, f"Carrying on in {run_dir}")
        return _train(run_dir, task_of(recorded), recorded, launcher, console)


def _with_machine(options: TrainOptions, launcher: Launcher) -> TrainOptions:
    """Returns the options with the number of threads set, by default to the cores that a process has."""
    changes: dict[str, Any] = {}
    if options.given_threads is None:
        changes["threads"] = launcher.threads
    if options.data_workers is None:
        changes["data_workers"] = min(MAX_DATA_WORKERS, launcher.threads // 2)
    return options.model_copy(update=changes)


def _show_plan(recorded: RecordedTraining, images: WholeImages, console: Console) -> None:
    options, recipe = recorded.options, recorded.recipe
    cost = cost_of(recorded.architecture)
    for line in (
        f"Data: {options.data}: {images.summary()}",
        *(f"  {note}" for note in images.notes),
        f"Network: {format_quantity(cost.flops)} FLOPs at {recorded.architecture.image_size} px, "
        f"{format_quantity(cost.params)} parameters, depth schedule {recorded.depth_schedule}; seed {options.seed}",
        f"Recipe: {Path(options.recipe or '').stem}, {recipe.optimizer}, learning rate "
        f"{recipe.peak_learning_rate(min(recipe.batch_size, len(images.train))):.3g}"
        + (f", average of weights with decay {recipe.ema_decay:g}" if recipe.ema_decay is not None else ""),
    ):
        print_line(console, line)
    if options.threads > num_cores():
        print_line(
            console, f"note: --threads {options.threads} is more than can be used: {counted(num_cores(), 'core')}"
        )


def _train(run_dir: Path, task: NetworkTask, recorded: RecordedTraining, launcher: Launcher, console: Console) -> Path:
    has_ended = (run_dir / RESULT).is_file()
    lock = locked(run_dir, "training") if launcher.is_first else nullcontext()
    with _explained(run_dir, recorded, launcher, console), lock:
        path = launcher.train(task, run_dir, console)
    if has_ended:
        print_line(console, f"The training has ended already: {path}")
    print_line(console, f"Networks: {run_dir / BEST} and {run_dir / LAST}; result: {path}")
    return path


@contextmanager
def _explained(run_dir: Path, recorded: RecordedTraining, launcher: Launcher, console: Console) -> Iterator[None]:
    """Adds to errors how to carry on."""
    resume = resume_command("train", run_dir, launcher.flags)
    try:
        with full_disk_explained(resume, "the last checkpoint is whole"):
            yield
    except LostDirectoryError as error:
        if error.rescued is None:
            raise
        recorded.write(error.rescued)
        rescued = resume_command("train", error.rescued, launcher.flags)
        raise LostDirectoryError(f"{error}: carry on with: {rescued}") from None
    except ConnectionError as error:
        raise ConnectionError(f"{error}; carry on with: {resume}") from None
    except KeyboardInterrupt:
        print_line(console, f"Interrupted; carry on with: {resume}")
        raise
