"""`train`: trains a network whole, from its options to a run directory, or resumes it, in one or more processes."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict
from rich.console import Console

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.arch.result_file import write_result
from sret_nas.errors import UserError
from sret_nas.files import digest_of_file, validate, write_atomically
from sret_nas.nn.model_directory import FILES, RECIPE, WEIGHTS, Preprocessing, find_model_directory
from sret_nas.output_files import require_empty_folder
from sret_nas.quantities import format_quantity, format_seconds
from sret_nas.space.search_space import DepthSchedule, canonical_schedule
from sret_nas.yaml_files import dump_yaml, read_yaml

from ..console import print_line
from ..data import DataConfig
from ..data.dataset_cache import require_apart
from ..data.whole_images import IMAGENET_MEAN, IMAGENET_STD, WholeImages
from ..distributed.choose_launcher import launcher_for
from ..distributed.launcher import Launcher, RayPlacement
from ..distributed.processes import Processes, process_group
from ..distributed.task import Measurement
from ..engines.failures import is_full
from ..lost_directory import LostDirectoryError
from ..machine import num_cores
from ..program_name import resume_command
from ..runs.directory import new_run_dir, versions
from ..runs.full_disk import StorageError
from ..runs.option_groups import flag
from ..runs.train_options import CHANGEABLE, TrainOptions
from ..training.depth_schedule import SEVERAL_DEPTHS
from ..training.devices import compute_with
from ..training.distillation import Distillation, distillation_of
from ..training.full import BEST, LAST, METRICS, FullSpec, FullTraining, plan_of
from ..training.full_recipe import Recipe, default_recipe
from ..training.full_speed import expected_seconds_per_step
from ..training.full_state import CHECKPOINT
from ..training.initial_weights import InitialWeights, weights_of_checkpoint, weights_of_supernet
from ..training.precision import choose_precision
from ..training.teachers import LOCAL_DIR
from .named_network import named_architecture, recorded_schedule

TRAINING = "training.yaml"
"""File in the run directory with the options, the network and everything else that resuming needs."""

RESULT = "result.yaml"
"""File in the run directory with the network and its metrics, written once the training has ended."""

MAX_DATA_WORKERS = 8
"""Processes that read images, by default, for each process that trains."""


class RecordedTraining(BaseModel):
    """The content of `TRAINING`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    options: TrainOptions
    architecture: ArchConfig
    """As it is trained: with the classes and channels of the data, its image size and drop path."""
    recipe: Recipe
    depth_schedule: DepthSchedule
    preprocessing: Preprocessing
    start: dict[str, str]
    versions: dict[str, str]
    command: list[str]

    def write(self, run_dir: Path) -> None:
        """Writes `TRAINING` and `RECIPE` into a run directory."""
        write_atomically(run_dir / TRAINING, dump_yaml(self.model_dump(mode="json")))
        write_atomically(run_dir / RECIPE, self.recipe.to_yaml())


@dataclass(frozen=True, kw_only=True)
class NetworkTask:
    """The `Task` of training a network. It is the same in all processes of the training."""

    checkpoint_name: ClassVar[str] = CHECKPOINT
    result_name: ClassVar[str] = RESULT
    output_names: ClassVar[tuple[str, ...]] = (*(f"{name}/{file}" for name in (LAST, BEST) for file in FILES), METRICS)
    spec: FullSpec
    data: DataConfig
    device: str
    threads: int
    supernet: Path | None
    checkpoint: Path | None
    teacher: str | None
    teacher_checkpoint: Path | None
    temperature: float
    soft_labels: Path | None

    data_dir: ClassVar[None] = None
    """Images, weights to start from and labels do not travel: they are whole data sets, not decoded small images."""

    def train(self, directory: Path, console: Console, data_dir: Path | None = None) -> Path:
        """Trains in a directory and returns the result's file. Raises as `FullTraining.run` does."""
        path = directory / RESULT
        images = WholeImages.find(self.data)
        with process_group(self.device) as processes:
            if path.is_file():
                return path
            compute_with(self.threads)
            initial = None if (directory / CHECKPOINT).is_file() else self.initial_weights()
            processes.wait()  # until all have looked for the checkpoint
            distillation = self.distillation(images, processes.device)
            training = FullTraining(directory, self.spec, images, processes, initial, distillation)
            if initial is not None and processes.is_first:
                print_line(console, "; ".join([f"Start: {initial.origin}", *training.changes]))
            metrics = training.run(console)
            if processes.is_first:
                write_result(
                    path, self.spec.arch, metrics=metrics,
                    recipe={**self.spec.recipe.model_dump(mode="json"), "depth_schedule": self.spec.schedule},
                    provenance={**self.spec.provenance, "weights": f"{BEST}/{WEIGHTS}", "seed": self.spec.seed},
                )  # fmt: skip
            processes.wait()
        return path

    def measure(self, processes: Processes, data_dir: Path | None = None) -> Measurement:
        """Times a few steps, whose weights are discarded. Writes nothing."""
        compute_with(self.threads)
        images = WholeImages.find(self.data)
        distillation = self.distillation(images, processes.device)
        precision = choose_precision(self.spec.recipe.precision, processes.device)
        spec = replace(self.spec, recipe=self.spec.recipe.model_copy(update={"precision": precision}))
        seconds = expected_seconds_per_step(spec, images, processes, distillation)
        return Measurement(cost_of(spec.arch).params, seconds, precision)

    def initial_weights(self) -> InitialWeights | None:
        """Returns the weights to start from; None for new ones. Raises `UserError` if they do not fit the network."""
        if self.supernet is not None:
            return weights_of_supernet(self.supernet, self.spec.arch)
        if self.checkpoint is not None:
            return weights_of_checkpoint(self.checkpoint, self.spec.arch)
        return None

    def distillation(self, images: WholeImages, device: torch.device) -> Distillation | None:
        """Returns the teacher's labels; None for the images' classes. Raises `UserError` if they do not fit."""
        return distillation_of(
            teacher=self.teacher, teacher_checkpoint=self.teacher_checkpoint, temperature=self.temperature,
            soft_labels=self.soft_labels, classes=self.spec.arch.classes, images=images, recipe=self.spec.recipe,
            preprocessing=self.spec.preprocessing, seed=self.spec.seed, device=device,
        )  # fmt: skip


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
    placement: RayPlacement | None = None,
) -> Path:  # fmt: skip
    """Trains a network and returns the file of the result.

    Args:
        options: What is trained, on what, where.
        changes: Values of the recipe that differ from its file.
        run_dir: The run directory; None makes a new one.
        console: For plan and progress.
        placement: How Ray places the processes; None trains here.

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
        if (run_dir / TRAINING).exists():
            raise UserError(f"{run_dir} holds a training already: carry it on with --resume {run_dir}")
        require_empty_folder(run_dir)
        recorded, images = _recorded(arch, options, changes, run_dir, console)
        task = _task(recorded)
        plan = plan_of(recorded.recipe, len(images.train), options.seed, launcher.world_size)
        # That weights and labels fit is known before anything is written.
        task.initial_weights()
        distillation = task.distillation(images, torch.device("cpu"))
        _show_plan(recorded, images, console)
        if distillation is not None:
            print_line(console, f"Labels: {_described_labels(options, distillation)}")
        measured = launcher.measure(task)
        steps, epochs = recorded.recipe.epochs * plan.steps_per_epoch, recorded.recipe.epochs
        duration = format_seconds(steps * measured.seconds_per_step)
        per_epoch = f"{plan.steps_per_epoch:,} steps with {plan.batch_size:,} images"
        print_line(console, f"Plan: {epochs:,} epochs of {per_epoch}; about {duration}")
        print_line(console, f"Results: {run_dir}")
        launcher.wait()  # until all have looked whether there is a training already
        # The choice is recorded, so that a resumed training keeps it, wherever it goes on.
        recipe = recorded.recipe.model_copy(update={"precision": measured.precision})
        recorded = recorded.model_copy(update={"recipe": recipe})
        if launcher.is_first:
            recorded.write(run_dir)
        return _train(run_dir, _task(recorded), recorded, launcher, console)


def resume_training(
    run_dir: Path, given: Mapping[str, Any], console: Console, placement: RayPlacement | None = None
) -> Path:
    """Resumes a training from its last checkpoint and returns the file of the result.

    Raises `UserError` if there is no training, or if options are given that must not change; and as `start_training`.
    """
    path = run_dir / TRAINING
    if not path.is_file():
        raise UserError(f"{run_dir} holds no training of a network: there is no {TRAINING} in it")
    others = sorted(given.keys() - CHANGEABLE)
    if others:
        name = "the architecture" if others[0] == "architecture" else flag(others[0])
        raise UserError(
            f"a resumed training keeps its options, {name} among them: leave it out, or train in a new directory"
        )
    recorded = validate(RecordedTraining, read_yaml(path), str(path))
    options = recorded.options.with_given(given, "train")
    recorded = recorded.model_copy(update={"options": options})
    with launcher_for(options.device, placement, options.threads) as launcher:
        console = console if launcher.is_first else Console(quiet=True)
        print_line(console, f"Carrying on in {run_dir}")
        return _train(run_dir, _task(recorded), recorded, launcher, console)


def _with_machine(options: TrainOptions, launcher: Launcher) -> TrainOptions:
    """Returns the options with the number of threads set, by default to the cores that a process has."""
    changes: dict[str, Any] = {}
    if options.given_threads is None:
        changes["threads"] = launcher.threads
    if options.data_workers is None:
        changes["data_workers"] = min(MAX_DATA_WORKERS, launcher.threads // 2)
    return options.model_copy(update=changes)


def _recorded(
    arch: ArchConfig, options: TrainOptions, changes: Mapping[str, Any], run_dir: Path, console: Console
) -> tuple[RecordedTraining, WholeImages]:
    """Returns everything that decides about a training, and its images. Raises `UserError` if something is wrong."""
    image_size = options.image_size or arch.image_size
    recipe_name = options.recipe or default_recipe(image_size)
    recipe = Recipe.load(recipe_name, changes)
    config = options.data_config_at(image_size)
    require_apart(run_dir, config)
    images = WholeImages.find(config)
    _check_classes(options, images)
    target = ArchConfig.from_dict(
        {
            **arch.to_dict(),
            "image_size": image_size,
            "classes": options.classes or len(images.class_names),
            "channels": options.channels or images.channels,
            "drop_path": arch.drop_path if recipe.drop_path is None else recipe.drop_path,
        },
        options.architecture,
    )
    channels: Literal[1, 3] = 1 if target.channels == 1 else 3
    mean, std = images.mean_and_std(channels)
    if recipe.normalization == "imagenet" and channels == 3:
        mean, std = IMAGENET_MEAN, IMAGENET_STD
    schedule = canonical_schedule(target, recipe.depth_schedule or recorded_schedule(options.architecture) or "full")
    if recipe.depth_distillation and schedule not in SEVERAL_DEPTHS:
        raise UserError(
            f"--depth-distillation needs several depths in a step, but the depth schedule is {schedule}: give "
            f"--depth-schedule {' or '.join(SEVERAL_DEPTHS)}, and a network that recurs"
        )
    recorded = RecordedTraining(
        options=options.model_copy(update={"recipe": recipe_name}),
        architecture=target,
        recipe=recipe,
        depth_schedule=schedule,
        preprocessing=Preprocessing(
            image_size=image_size, mean=mean, std=std, interpolation=recipe.interpolation,
            crop_fraction=recipe.crop_fraction,
        ),
        start=_start(options),
        versions=versions(),
        command=sys.argv,
    )  # fmt: skip
    _describe_target(arch, recorded, console)
    return recorded, images


def _check_classes(options: TrainOptions, images: WholeImages) -> None:
    """Raises `UserError` if there are more classes in the data than the network is to have."""
    number = len(images.class_names)
    if options.classes is not None and options.classes < number:
        raise UserError(f"--classes must be at least the {number} classes of the data, got {options.classes}")


def _start(options: TrainOptions) -> dict[str, str]:
    """Returns what the first weights come from. Raises `UserError` if a file is missing."""
    if options.supernet is not None:
        return {"from": "supernet", "sha256": digest_of_file(Path(options.supernet))}
    if options.checkpoint is not None:
        path = Path(options.checkpoint)
        file = find_model_directory(path) / WEIGHTS if path.is_dir() else path
        return {"from": "checkpoint", "sha256": digest_of_file(file)}
    return {"from": "scratch"}


def _task(recorded: RecordedTraining) -> NetworkTask:
    """Returns the task of a training, with absolute paths: processes on Ray have another working directory."""
    options, start = recorded.options, dict(recorded.start)
    labels = None
    if options.teacher is not None:
        labels = {"teacher": options.teacher, "temperature": options.temperature or 1.0}
    elif options.soft_labels is not None:
        labels = {"soft labels": options.soft_labels}
    provenance: dict[str, Any] = {
        "command": shlex.join(recorded.command),
        **({} if labels is None else {"labels": labels}),
        "start": start | {name: value for name in ("supernet", "checkpoint") if (value := getattr(options, name))},
        "data": options.data if options.data_root is None else f"{options.data} in {options.data_root}",
        "versions": recorded.versions,
    }
    spec = FullSpec(
        arch=recorded.architecture, recipe=recorded.recipe, schedule=recorded.depth_schedule,
        preprocessing=recorded.preprocessing, seed=options.seed, start=dict(start), provenance=provenance,
        workers=options.data_workers or 0,
    )  # fmt: skip
    return NetworkTask(
        spec=spec, data=_at_absolute_path(options.data_config_at(recorded.architecture.image_size)),
        device=options.device, threads=options.threads, supernet=_absolute(options.supernet),
        checkpoint=_absolute(options.checkpoint),
        teacher=_absolute_teacher(options.teacher), teacher_checkpoint=_absolute(options.teacher_checkpoint),
        temperature=options.temperature or 1.0, soft_labels=_absolute(options.soft_labels),
    )  # fmt: skip


def _absolute(path: str | None) -> Path | None:
    return None if path is None else Path(path).absolute()


def _at_absolute_path(data: DataConfig) -> DataConfig:
    if data.root is not None:
        return replace(data, root=str(Path(data.root).absolute()))
    return replace(data, source=str(Path(data.source).absolute())) if data.is_folder else data


def _absolute_teacher(teacher: str | None) -> str | None:
    """Returns a teacher with the absolute path of its folder, if it is one, and not a model of timm's by name."""
    if teacher is None:
        return None
    prefix = LOCAL_DIR if teacher.startswith(LOCAL_DIR) else ""
    path = Path(teacher.removeprefix(prefix))
    return f"{prefix}{path.absolute()}" if prefix or path.exists() else teacher


def _describe_target(arch: ArchConfig, recorded: RecordedTraining, console: Console) -> None:
    """Prints what differs between the network that was named and the one that is trained."""
    target = recorded.architecture
    origins = {
        "classes": "--classes" if recorded.options.classes else "the data",
        "channels": "--channels" if recorded.options.channels else "the data",
        "image_size": "--image-size",
        "drop_path": "the recipe",
    }
    changed = [
        f"{name.replace('_', ' ')} {getattr(target, name):g} from {origin} (was {getattr(arch, name):g})"
        for name, origin in origins.items()
        if getattr(target, name) != getattr(arch, name)
    ]
    if changed:
        print_line(console, f"Target: {', '.join(changed)}")
    tokens = target.num_tokens
    for index, stage in enumerate(target.stages):
        if max(stage.groups[: stage.recursions]) > tokens[index]:
            print_line(
                console,
                f"note: at {target.image_size} px stage {index + 1} has {tokens[index]} token(s), fewer than its "
                f"{max(stage.groups[: stage.recursions])} slices: each token then attends to itself alone",
            )


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
        print_line(console, f"note: --threads {options.threads} is more than can be used: {num_cores()} cores")


def _described_labels(options: TrainOptions, distillation: Distillation) -> str:
    """Returns where the labels come from, for people."""
    at = f" at temperature {distillation.temperature:g}"
    if distillation.teacher is not None:
        return f"those of the teacher {options.teacher}{at}"
    if distillation.stored is None:
        return f"{options.soft_labels}, in FKD's format"
    header = distillation.stored.header
    return f"{options.soft_labels}, {header.epochs:,} epoch(s) of the teacher {header.teacher}{at}"


def _train(run_dir: Path, task: NetworkTask, recorded: RecordedTraining, launcher: Launcher, console: Console) -> Path:
    has_ended = (run_dir / RESULT).is_file()
    with _explained(run_dir, recorded, launcher, console):
        path = launcher.train(task, run_dir, console)
    if has_ended:
        print_line(console, f"The training has ended already: {path}")
    print_line(console, f"Networks: {run_dir / BEST} and {run_dir / LAST}; result: {path}")
    return path


@contextmanager
def _explained(run_dir: Path, recorded: RecordedTraining, launcher: Launcher, console: Console) -> Iterator[None]:
    """Adds to errors how to carry on."""
    carry_on = f"carry on with: {resume_command('train', run_dir, launcher.flags)}"
    try:
        yield
    except LostDirectoryError as error:
        if error.rescued is None:
            raise
        recorded.write(error.rescued)
        resume = resume_command("train", error.rescued, launcher.flags)
        raise LostDirectoryError(f"{error}: carry on with: {resume}") from None
    except ConnectionError as error:
        raise ConnectionError(f"{error}; {carry_on}") from None
    except OSError as error:
        if not is_full(error):
            raise
        what = str(error) if error.filename is None else f"{error.filename} cannot be written: {error.strerror}"
        raise StorageError(f"{what}; the last checkpoint is whole: make room, then {carry_on}") from None
    except KeyboardInterrupt:
        print_line(console, f"Interrupted; {carry_on}")
        raise
