"""`soft-labels make`: a teacher sees every epoch's augmented images once, and what it says of them is kept."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from sret_nas.errors import UserError
from sret_nas.nn.model_directory import Preprocessing
from sret_nas.plurals import counted
from sret_nas.quantities import format_quantity, format_seconds

from ..console import Console, count_progress, print_line
from ..data.whole_images import IMAGENET_MEAN, IMAGENET_STD, WholeImages
from ..interruption import defer_interrupts
from ..machine import cores_per_process, num_cores
from ..runs.directory import versions
from ..runs.soft_label_options import SoftLabelOptions
from ..training.augmentation import training_transform
from ..training.devices import compute_with, device_of
from ..training.distillation import identify_views
from ..training.full_recipe import Recipe, default_recipe
from ..training.image_batches import AugmentedImages, all_views
from ..training.soft_labels import SoftLabelHeader, SoftLabelWriter, fingerprints
from ..training.teachers import Teacher, load_teacher
from .train_network import MAX_DATA_WORKERS

FLUSH_SECONDS = 30.0
"""Between two times at which what was labelled is made safe from a crash of the machine."""

LINE_SECONDS = 10.0
"""Between two progress lines where there is no terminal."""

MEASURED_BATCHES = 3
"""Batches that are timed after one for warm-up, to say beforehand how long all take."""


def parse_soft_labels(given: Mapping[str, Any]) -> tuple[SoftLabelOptions, dict[str, Any]]:
    """Returns the options and the recipe's changed values from the command line.

    Raises `ConfigError` with the first thing that is wrong.
    """
    own = {name: value for name, value in given.items() if name in SoftLabelOptions.model_fields}
    changes = {name: value for name, value in given.items() if name not in own}
    return SoftLabelOptions.parse(own, "soft-labels make"), changes


def make_soft_labels(
    options: SoftLabelOptions, changes: Mapping[str, Any], out: Path, force: bool, console: Console
) -> None:
    """Writes the soft labels of a training, or carries on where an earlier process stopped.

    Args:
        options: whose labels, of which images.
        changes: values of the recipe that differ from its file.
        out: the file.
        force: whether it may replace another one.
        console: for plan and progress.

    Raises:
        UserError: they cannot be made, and the file is as before.
        KeyboardInterrupt: interrupted; the same command carries on.
    """
    compute_with(options.threads if "threads" in options.model_fields_set else cores_per_process())
    device = device_of(options.device)
    found = WholeImages.find(options.data_config_at(options.image_size or 32))  # the size has no effect
    checkpoint = None if options.teacher_checkpoint is None else Path(options.teacher_checkpoint)
    teacher = load_teacher(options.teacher, checkpoint, found.class_names, len(found.class_names))
    image_size = options.image_size or teacher.image_size
    recipe_name = options.recipe or default_recipe(image_size)
    recipe = Recipe.load(recipe_name, changes, "soft-labels make")
    preprocessing = _preprocessing(options, recipe, image_size, found)
    teacher.adapt_to(preprocessing).to(device)
    packages = {name: version(name) for name in ("timm", "pillow")}  # by which images are augmented
    header = SoftLabelHeader(
        teacher=options.teacher, teacher_digest=teacher.digest, temperature=options.temperature,
        classes=teacher.classes, top=min(options.top, teacher.classes), images=len(found.train), epochs=options.epochs,
        views=identify_views(found, recipe, preprocessing, options.seed), versions=versions() | packages,
    )  # fmt: skip
    transform = training_transform(recipe, preprocessing, found.flip)
    images = AugmentedImages(found.train, transform, preprocessing.channels, options.seed)
    reads = [Path(options.data_root or options.data), Path(options.teacher), *([checkpoint] if checkpoint else [])]
    with SoftLabelWriter(out, header, reads=reads, force=force) as writer:
        print_line(console, f"Data: {options.data}: {found.summary()}")
        print_line(
            console,
            f"Teacher: {options.teacher}, {format_quantity(sum(p.numel() for p in teacher.parameters()))} parameters, "
            f"{teacher.image_size} px; images of {image_size} px, recipe {Path(recipe_name).stem}, seed {options.seed}",
        )
        work = _Work(teacher, images, options, recipe.precision, device, writer)
        work.show_plan(console)
        work.run(console)
        writer.finish()
    print_line(console, f"Soft labels: {out}")
    print_line(console, "Train with --soft-labels and the same data, image size, recipe and seed")


def _preprocessing(options: SoftLabelOptions, recipe: Recipe, image_size: int, images: WholeImages) -> Preprocessing:
    """Returns how the student's images are standardised, as `train` does it."""
    channels = options.channels or images.channels
    mean, std = images.mean_and_std(channels)
    if recipe.normalization == "imagenet" and channels == 3:
        mean, std = IMAGENET_MEAN, IMAGENET_STD
    return Preprocessing(
        image_size=image_size, mean=mean, std=std, interpolation=recipe.interpolation,
        crop_fraction=recipe.crop_fraction,
    )  # fmt: skip


class _Work:
    """The views that are left to label."""

    def __init__(
        self, teacher: Teacher, images: AugmentedImages, options: SoftLabelOptions, precision: str,
        device: torch.device, writer: SoftLabelWriter,
    ) -> None:  # fmt: skip
        self._teacher, self._images, self._options, self._device = teacher, images, options, device
        self._writer, self._rows = writer, writer.header.rows
        self._uses_bf16 = precision == "bf16" or (precision == "auto" and device.type == "cuda")
        default = min(MAX_DATA_WORKERS, num_cores() // 2)
        self._workers = default if options.data_workers is None else options.data_workers

    def show_plan(self, console: Console) -> None:
        """Prints what it will cost in time and bytes. Raises `UserError` if the disk has too little room."""
        header, done = self._writer.header, self._writer.done
        left = (self._rows - done) * header.row.itemsize
        free = shutil.disk_usage(self._writer.path.parent).free
        if left > free:
            raise UserError(
                f"{self._writer.path}: needs {left / 1e6:,.1f} MB more, but the disk has {free / 1e6:,.1f} MB free: "
                "fewer --epochs, a smaller --top, or another disk"
            )
        seconds = self._seconds_per_view() * (self._rows - done)
        print_line(
            console,
            f"Plan: {counted(header.epochs, 'epoch')} of {counted(header.images, 'image')}, {header.row.itemsize} "
            f"bytes each: {header.num_bytes / 1e6:,.2f} MB; about {format_seconds(seconds)}"
            + (f"; {done:,} of {self._rows:,} labels are there" if done else ""),
        )

    def run(self, console: Console) -> None:
        """Labels what is left. Raises `KeyboardInterrupt` after a batch whose labels are safe."""
        writer, bar = self._writer, count_progress(console, "labels")
        task = bar.add_task("labels", total=self._rows, completed=writer.done, text="")
        begun = flushed = told = time.monotonic()
        before = writer.done
        batches = self._batches(range(writer.done, self._rows))
        with bar, defer_interrupts() as interruptions, closing(batches):
            for images, _ in batches:
                writer.append(self._label(images).cpu().numpy(), fingerprints(images.numpy()))
                now = time.monotonic()
                speed = (writer.done - before) / (now - begun)
                text = f"{speed:,.0f} images/s, {format_seconds((self._rows - writer.done) / speed)} left"
                bar.update(task, completed=writer.done, text=text)
                if not console.is_terminal and now - told > LINE_SECONDS:
                    print_line(console, f"{writer.done:,} of {self._rows:,} labels: {text}")
                    told = now
                if now - flushed > FLUSH_SECONDS or interruptions:
                    writer.flush()
                    flushed = now
                if interruptions:
                    print_line(bar.console, f"Interrupted at {writer.done:,} labels; the same command carries on")
                    raise KeyboardInterrupt

    def _label(self, images: torch.Tensor) -> torch.Tensor:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._uses_bf16):
            probabilities: torch.Tensor = self._teacher(images.to(self._device), self._options.temperature)
        return probabilities

    def _batches(self, rows: range) -> Any:
        pin = self._device.type == "cuda"
        return all_views(self._images, self._options.batch_size, rows, workers=self._workers, pin=pin)

    def _seconds_per_view(self) -> float:
        """Returns the duration of a view, from a few batches whose labels are discarded."""
        size = self._options.batch_size
        start = self._writer.done
        stop = min(self._rows, start + (1 + MEASURED_BATCHES) * size)
        started, timed = time.perf_counter(), 0
        with closing(self._batches(range(start, stop))) as batches:
            for number, (images, _) in enumerate(batches):
                self._label(images).cpu()
                timed += len(images)
                if number == 0 and stop - start > size:
                    started, timed = time.perf_counter(), 0
        return (time.perf_counter() - started) / max(1, timed)
