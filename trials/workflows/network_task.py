"""A whole training as a task that any process can run: plain data, with absolute paths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import JsonValue
from rich.console import Console

from sret_nas.arch.cost import cost_of
from sret_nas.arch.result_file import write_result
from sret_nas.errors import UserError
from sret_nas.nn.model_directory import FILES, WEIGHTS

from ..console import print_line
from ..data import DataConfig
from ..data.dataset_cache import where_begun
from ..data.whole_images import WholeImages
from ..distributed.processes import Processes, process_group
from ..distributed.task import Measurement
from ..engines.file_transfer import KeyPath, Payload
from ..program_name import typed_words
from ..training.checkpoint_file import first_mismatch
from ..training.devices import compute_with
from ..training.distillation import Distillation, distillation_of
from ..training.full import BEST, LAST, METRICS, FullTraining
from ..training.full_spec import FullSpec
from ..training.full_speed import expected_seconds_per_step
from ..training.full_state import CHECKPOINT
from ..training.initial_weights import InitialWeights, weights_of_checkpoint, weights_of_supernet
from ..training.precision import choose_precision
from ..training.teachers import LOCAL_DIR
from .recorded_training import RecordedTraining, start_file, start_of

RESULT = "result.yaml"
"""File in the run directory with the network and its metrics, written once the training has ended."""


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
    data_digest: str | None = None
    """Digest of the images that the training was begun with; None if it is not known."""
    labels: dict[str, JsonValue] | None = None
    """What identifies the teacher's labels that it was begun with; None if there are none, or it is not known."""

    inputs: ClassVar[Payload] = {}
    """Whole images do not travel, nor do labels of them and weights to start from."""

    def train(self, directory: Path, console: Console, here: Mapping[KeyPath, Path] | None = None) -> Path:
        """Trains in a directory and returns the result's file. Raises as `FullTraining.run` does."""
        path = directory / RESULT
        with where_begun("a training"):
            images = WholeImages.find(self.data)
        with process_group(self.device) as processes:
            if path.is_file():
                return path
            compute_with(self.threads)
            is_new = not (directory / CHECKPOINT).is_file()
            if is_new:  # else the checkpoint says what the training was begun with
                self._require_same_start(images, directory)
            initial = self.initial_weights() if is_new else None
            processes.wait()  # until all have looked for the checkpoint
            option = "--soft-labels" if self.teacher is None else "--teacher"
            with where_begun("a training", "teacher's labels", option):
                distillation = self.distillation(images, processes.device)
            recorded = self.labels if is_new else None
            if distillation is not None and recorded and first_mismatch(distillation.identity, recorded):
                raise UserError(
                    f"the teacher's labels are not those that {directory} was begun with: put its teacher or soft "
                    "labels back, or train in a new directory"
                )
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

    def _require_same_start(self, images: WholeImages, directory: Path) -> None:
        """Raises `UserError` if images or first weights are not those that the training was begun with."""
        if self.data_digest not in (None, images.digest) or len(images.class_names) > self.spec.arch.classes:
            raise UserError(
                f"the images of {self.data.source} are not those that {directory} was begun with: put those back, say "
                "with --data where they are, or train in a new directory"
            )
        recorded, now = self.spec.start.get("sha256"), start_of(self.supernet, self.checkpoint).get("sha256")
        if recorded not in (None, now):
            raise UserError(
                f"{start_file(self.supernet, self.checkpoint)}: is not the file of weights that {directory} was begun "
                f"with, whose SHA-256 is {recorded}, got {now}: put that back, or train in a new directory"
            )

    def measure(self, processes: Processes, here: Mapping[KeyPath, Path] | None = None) -> Measurement:
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
            preprocessing=self.spec.preprocessing, device=device,
        )  # fmt: skip


def task_of(recorded: RecordedTraining) -> NetworkTask:
    """Returns the task of a training, with absolute paths: processes on Ray have another working directory."""
    options, start = recorded.options, dict(recorded.start)
    labels = None
    if options.teacher is not None:
        labels = {"teacher": options.teacher, "temperature": options.temperature or 1.0}
    elif options.soft_labels is not None:
        labels = {"soft labels": options.soft_labels}
    provenance: dict[str, Any] = {
        "command": " ".join(typed_words(recorded.command)),
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
        data_digest=recorded.data_digest, labels=recorded.labels,
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
