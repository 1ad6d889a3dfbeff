"""Everything that decides about a whole training, as its run directory records it."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, JsonValue
from rich.console import Console

from sret_nas.arch.config import ArchConfig
from sret_nas.errors import UserError
from sret_nas.files import digest_of_file, write_atomically
from sret_nas.nn.model_directory import RECIPE, WEIGHTS, Preprocessing, find_model_directory
from sret_nas.plurals import counted
from sret_nas.space.search_space import DepthSchedule, canonical_schedule
from sret_nas.yaml_files import dump_yaml

from ..console import print_line
from ..data.dataset_cache import require_apart
from ..data.whole_images import IMAGENET_MEAN, IMAGENET_STD, WholeImages
from ..runs.directory import TRAINING, versions
from ..runs.train_options import TrainOptions
from ..training.depth_schedule import SEVERAL_DEPTHS
from ..training.distillation import Distillation
from ..training.full_recipe import Recipe, default_recipe
from .named_network import recorded_schedule


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
    data_digest: str | None = None
    """Digest of the images; None in files of earlier versions."""
    labels: dict[str, JsonValue] | None = None
    """What identifies a teacher's labels; None without any, and in files of earlier versions."""

    def write(self, run_dir: Path) -> None:
        """Writes `TRAINING` and `RECIPE` into a run directory."""
        write_atomically(run_dir / TRAINING, dump_yaml(self.model_dump(mode="json")))
        write_atomically(run_dir / RECIPE, self.recipe.to_yaml())


def record_training(
    arch: ArchConfig, options: TrainOptions, changes: Mapping[str, Any], run_dir: Path, console: Console,
    of_file: Collection[str] = (),
) -> tuple[RecordedTraining, WholeImages]:  # fmt: skip
    """Returns everything that decides about a training, and its images. Raises `UserError` if something is wrong.

    `of_file` names the changes that were not typed, but come from a file of options.
    """
    image_size = options.image_size or arch.image_size
    recipe_name = options.recipe or default_recipe(image_size)
    recipe = Recipe.load(recipe_name, changes, tell=lambda line: print_line(console, line), of_file=of_file)
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
        start=start_of(_path(options.supernet), _path(options.checkpoint)),
        versions=versions(),
        command=sys.argv,
        data_digest=images.digest,
    )  # fmt: skip
    _describe_target(arch, recorded, console)
    return recorded, images


def _check_classes(options: TrainOptions, images: WholeImages) -> None:
    """Raises `UserError` if there are more classes in the data than the network is to have."""
    number = len(images.class_names)
    if options.classes is not None and options.classes < number:
        raise UserError(f"--classes must be at least the {number} classes of the data, got {options.classes}")


def start_of(supernet: Path | None, checkpoint: Path | None) -> dict[str, str]:
    """Returns what the first weights come from. Raises `UserError` if a file is missing."""
    file = start_file(supernet, checkpoint)
    if file is None:
        return {"from": "scratch"}
    return {"from": "checkpoint" if supernet is None else "supernet", "sha256": digest_of_file(file)}


def start_file(supernet: Path | None, checkpoint: Path | None) -> Path | None:
    """Returns the file of the first weights; None for new ones. Raises `UserError` for a folder without any."""
    if supernet is not None:
        return supernet
    if checkpoint is not None and checkpoint.is_dir():
        return find_model_directory(checkpoint) / WEIGHTS
    return checkpoint


def _path(name: str | None) -> Path | None:
    return None if name is None else Path(name)


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
                f"note: at {target.image_size} px stage {index + 1} has {counted(tokens[index], 'token')}, fewer than "
                f"its {max(stage.groups[: stage.recursions])} slices: each token then attends to itself alone",
            )


def describe_labels(options: TrainOptions, distillation: Distillation) -> str:
    """Returns where the labels come from, for people."""
    temperature = f" at temperature {distillation.temperature:g}"
    if distillation.teacher is not None:
        return f"those of the teacher {options.teacher}{temperature}"
    if distillation.stored is None:
        return f"{options.soft_labels}, in FKD's format"
    header = distillation.stored.header
    return f"{options.soft_labels}, {counted(header.epochs, 'epoch')} of the teacher {header.teacher}{temperature}"
