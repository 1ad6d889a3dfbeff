"""What stored soft labels save: seconds of a training step with a teacher, with its stored labels, and without.

Run `python -m benchmarks.soft_labels --data DIR` from the repository's root, with CIFAR-10 as class folders in `train`
and `val`; it prints a table and writes `benchmarks/results/soft_labels.json`. Each step reads and augments its images,
and the three trainings take their steps in turn. Times are those of the CPU that the process itself used, on one
thread, because the machine is shared; the result says how busy it was. Teachers have new weights, which changes no
time.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from statistics import median
from typing import Any

import timm
import torch
from rich.console import Console
from rich.table import Table
from timm.data import resolve_model_data_config
from torch import Tensor

from benchmarks.machine import describe_machine
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.arch.parts import StageConfig, StemConfig
from sret_nas.files import write_atomically
from sret_nas.nn.model_directory import Preprocessing
from sret_nas.quantities import format_quantity
from trials.data import DataConfig
from trials.data.whole_images import WholeImages
from trials.distributed.processes import Processes
from trials.training.augmentation import training_transform
from trials.training.devices import compute_with
from trials.training.distillation import Distillation, identify_views
from trials.training.full import FullTraining
from trials.training.full_recipe import Recipe
from trials.training.full_spec import FullSpec
from trials.training.image_batches import AugmentedImages, all_views
from trials.training.soft_labels import SoftLabelHeader, SoftLabels, SoftLabelWriter, fingerprints
from trials.training.teachers import Teacher

RESULT = Path(__file__).parent / "results" / "soft_labels.json"
TEACHERS = ("resnet10t", "resnet18")
SEED, IMAGES, BATCH = 0, 640, 64
NUM_UNTIMED, NUM_STEPS = 1, 9
SIZE, CLASSES = 32, 10

STUDENT = ArchConfig(
    stages=(
        StageConfig(width=32, heads=2, blocks=1, recursions=2, groups=(4, 2), mlp_ratio=2.0),
        StageConfig(width=64, heads=4, blocks=1, recursions=2, groups=(1, 1), mlp_ratio=2.0),
    ),
    stem=StemConfig(width=16, strides=(2, 2, 1)),
    image_size=SIZE,
    channels=3,
    classes=CLASSES,
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds of a step with a teacher, stored labels, and neither.")
    parser.add_argument("--data", required=True, help="CIFAR-10 as a folder of class folders in train and val")
    given = parser.parse_args()
    compute_with(1)
    images = WholeImages.find(DataConfig(source=given.data, image_size=SIZE, max_train=IMAGES, max_val=20, max_test=20))
    cases = [_case(name, images) for name in TEACHERS]
    cost = cost_of(STUDENT)
    result = {
        "seed": SEED, "batch_size": BATCH, "threads": 1, "image_size": SIZE, "steps": NUM_STEPS,
        "student": {"flops": cost.flops, "params": cost.params}, "cases": cases, "load_average": os.getloadavg(),
        "niceness": os.nice(0), **describe_machine("torch", "timm", "pillow"),
    }  # fmt: skip
    write_atomically(RESULT, json.dumps(result, indent=2) + "\n")
    _show(cases)


def _case(name: str, images: WholeImages) -> dict[str, Any]:
    mean, std = images.mean_and_std(3)
    spec = FullSpec(
        arch=STUDENT, recipe=Recipe.load("small", {"batch_size": BATCH}), schedule="full", seed=SEED, workers=0,
        preprocessing=Preprocessing(image_size=SIZE, mean=mean, std=std), start={"from": "scratch"}, provenance={},
    )  # fmt: skip
    torch.manual_seed(SEED)
    network = timm.create_model(name, num_classes=CLASSES)
    seen = resolve_model_data_config(network)
    teacher = Teacher(network, name, None, SIZE, seen["mean"], seen["std"]).adapt_to(spec.preprocessing)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        stored, making = _stored(Path(folder) / "labels", teacher, images, spec)
        kinds = {
            "without": None,
            "stored": Distillation(temperature=1.0, stored=stored),
            "teacher": Distillation(temperature=1.0, teacher=teacher),
        }
        trainings = {kind: _Steps(spec, images, labels, stack) for kind, labels in kinds.items()}
        seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(NUM_UNTIMED + NUM_STEPS):
            for kind, steps in trainings.items():
                seconds[kind].append(steps.take())
    medians = {kind: median(values[NUM_UNTIMED:]) for kind, values in seconds.items()}
    return {
        "teacher": name,
        "teacher_params": sum(parameter.numel() for parameter in network.parameters()),
        "seconds_per_step": medians,
        "seconds_per_step_all": {kind: values[NUM_UNTIMED:] for kind, values in seconds.items()},
        "seconds_to_make_per_batch": making,
        "stored_over_without": medians["stored"] / medians["without"],
        "teacher_over_stored": medians["teacher"] / medians["stored"],
        "bytes_per_label": stored.header.row.itemsize,
    }


def _stored(path: Path, teacher: Teacher, images: WholeImages, spec: FullSpec) -> tuple[SoftLabels, float]:
    """Writes an epoch of labels. Also returns the median CPU seconds of a batch, reading and augmenting included."""
    header = SoftLabelHeader(
        teacher=teacher.name, teacher_digest=None, temperature=1.0, classes=CLASSES, top=CLASSES,
        images=len(images.train), epochs=1, versions={},
        views=identify_views(images, spec.recipe, spec.preprocessing, spec.seed),
    )  # fmt: skip
    transform = training_transform(spec.recipe, spec.preprocessing, images.flip)
    augmented = AugmentedImages(images.train, transform, 3, spec.seed)
    seconds = []
    with SoftLabelWriter(path, header) as writer:
        started = time.process_time()
        for batch, _ in all_views(augmented, BATCH, range(len(images.train)), workers=0):
            writer.append(teacher(batch, 1.0).numpy(), fingerprints(batch.numpy()))
            seconds.append(time.process_time() - started)
            started = time.process_time()
        writer.finish()
    return SoftLabels(path), median(seconds[1:])


class _Steps:
    """The steps of one training."""

    def __init__(self, spec: FullSpec, images: WholeImages, labels: Distillation | None, stack: ExitStack) -> None:
        group = Processes(0, 1, torch.device("cpu"))
        self._training = FullTraining(Path(), spec, images, group, None, labels)
        steps = range(NUM_UNTIMED + NUM_STEPS)
        self._stream: Iterator[tuple[Tensor, Tensor]] = stack.enter_context(closing(self._training.microbatches(steps)))

    def take(self) -> float:
        """Takes a step, and returns its CPU seconds."""
        started = time.process_time()
        self._training.train_step(self._stream)
        return time.process_time() - started


def _show(cases: list[dict[str, Any]]) -> None:
    table = Table(title=f"CPU seconds of a step with {BATCH} images", title_justify="left")
    for heading in ("teacher", "params", "without", "stored labels", "with teacher", "teacher / stored", "make"):
        table.add_column(heading, justify="left" if heading == "teacher" else "right")
    for case in cases:
        seconds = case["seconds_per_step"]
        numbers = (*(seconds[kind] for kind in ("without", "stored", "teacher")), case["teacher_over_stored"])
        shown = [f"{number:.3f}" for number in (*numbers, case["seconds_to_make_per_batch"])]
        table.add_row(case["teacher"], format_quantity(case["teacher_params"]), *shown)
    Console().print(table)


if __name__ == "__main__":
    main()
