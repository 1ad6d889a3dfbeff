"""`soft-labels make`: a teacher sees every epoch's augmented images once, and what it says of them is kept."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue
from torch import Tensor

from sret_nas.errors import UserError
from sret_nas.nn.model_directory import Preprocessing
from sret_nas.output_files import require_free
from sret_nas.plurals import counted
from sret_nas.quantities import format_quantity, format_seconds

from ..console import Console, count_progress, print_line
from ..data import PreparedData
from ..data.batching import AugmentedEpoch
from ..data.dataset_cache import cached_dataset, require_apart
from ..data.whole_images import IMAGENET_MEAN, IMAGENET_STD, WholeImages
from ..interruption import defer_interrupts
from ..machine import cores_per_process, num_cores
from ..runs.directory import versions
from ..runs.option_groups import flag
from ..runs.soft_label_options import SoftLabelOptions
from ..training.augmentation import training_transform
from ..training.devices import compute_with, device_of
from ..training.distillation import identify_views
from ..training.full_recipe import Recipe, default_recipe
from ..training.image_batches import AugmentedImages, all_views
from ..training.prepared_labels import SEARCH, identify_prepared_views
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
    options = SoftLabelOptions.parse(own, "soft-labels make")
    if options.made_for == SEARCH and changes:
        raise UserError(f"{flag(min(changes))} goes with --for train: a search shifts and mirrors its images, no more")
    return options, changes


@dataclass(frozen=True)
class _Views:
    """The images that a teacher labels, as trainings see them: every image once in each epoch."""

    described: str
    """For people."""
    identity: dict[str, JsonValue]
    preprocessing: Preprocessing
    num_images: int
    num_epochs: int
    precision: str
    batches: Callable[[range], Generator[Tensor, None, None]]
    """Yields images (B, C, H, W) by the numbers of their rows, counted over all epochs."""
    use: str
    """How trainings read the labels, for people."""


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
    checkpoint = None if options.teacher_checkpoint is None else Path(options.teacher_checkpoint)
    reads = [Path(options.data_root or options.data), Path(options.teacher), *([checkpoint] if checkpoint else [])]
    require_free([out], reads=reads, force=force)  # before images are decoded

    def load(class_names: tuple[str, ...]) -> Teacher:
        return load_teacher(options.teacher, checkpoint, class_names, len(class_names))

    if options.made_for == SEARCH:
        teacher, views = _views_of_search(options, load, out, console)
    else:
        teacher, views = _views_of_train(options, changes, load, device, console)
    teacher.adapt_to(views.preprocessing).to(device)
    packages = {name: version(name) for name in ("timm", "pillow")}  # by which images are augmented
    header = SoftLabelHeader(
        teacher=options.teacher, teacher_digest=teacher.digest, temperature=options.temperature,
        classes=teacher.classes, top=min(options.top, teacher.classes), images=views.num_images,
        epochs=views.num_epochs, views=views.identity, versions=versions() | packages,
    )  # fmt: skip
    with SoftLabelWriter(out, header, reads=reads, force=force) as writer:
        print_line(
            console,
            f"Teacher: {options.teacher}, {format_quantity(sum(p.numel() for p in teacher.parameters()))} parameters, "
            f"{teacher.image_size} px; {views.described}",
        )
        work = _Work(teacher, views, options, device, writer)
        work.show_plan(console)
        work.run(console)
        writer.finish()
    print_line(console, f"Soft labels: {out}")
    print_line(console, views.use)


def _views_of_train(
    options: SoftLabelOptions, changes: Mapping[str, Any], load: Callable[[tuple[str, ...]], Teacher],
    device: torch.device, console: Console,
) -> tuple[Teacher, _Views]:  # fmt: skip
    """Returns the teacher, and the images that `train` sees. Raises `UserError` if either cannot be used."""
    found = WholeImages.find(options.data_config_at(options.image_size or 32))  # the size has no effect
    teacher = load(found.class_names)
    image_size = options.image_size or teacher.image_size
    recipe_name = options.recipe or default_recipe(image_size)
    recipe = Recipe.load(recipe_name, changes, "soft-labels make")
    preprocessing = _preprocessing(options, recipe, image_size, found)
    transform = training_transform(recipe, preprocessing, found.flip)
    images = AugmentedImages(found.train, transform, preprocessing.channels, options.seed)
    default = min(MAX_DATA_WORKERS, num_cores() // 2)
    workers = default if options.data_workers is None else options.data_workers
    print_line(console, f"Data: {options.data}: {found.summary()}")

    def batches(rows: range) -> Generator[Tensor, None, None]:
        pin = device.type == "cuda"
        with closing(all_views(images, options.batch_size, rows, workers=workers, pin=pin)) as stream:
            for batch, _ in stream:
                yield batch

    return teacher, _Views(
        described=f"images of {image_size} px, recipe {Path(recipe_name).stem}, seed {options.seed}",
        identity=identify_views(found, recipe, preprocessing, options.seed),
        preprocessing=preprocessing,
        num_images=len(found.train),
        num_epochs=options.num_epochs(len(found.train)),
        precision=recipe.precision,
        batches=batches,
        use="Train with --soft-labels and the same data, image size and recipe",
    )


def _views_of_search(
    options: SoftLabelOptions, load: Callable[[tuple[str, ...]], Teacher], out: Path, console: Console
) -> tuple[Teacher, _Views]:
    """Returns the teacher, and the images that a search sees. These are decoded once and kept beside `out`.

    Raises `UserError` if either cannot be used.
    """
    assert options.side is not None
    config = replace(options.data_config_at(options.side), skip_broken=options.skip_broken)
    require_apart(out, config)
    _, data = cached_dataset(out, config, console)
    return load(data.class_names), _Views(
        described=f"images of {options.side} px, shifted and mirrored as in a search, seed {options.seed}",
        identity=identify_prepared_views(data, options.seed),
        preprocessing=Preprocessing(image_size=options.side, mean=data.mean, std=data.std),
        num_images=len(data.train),
        num_epochs=options.num_epochs(len(data.train)),
        precision="auto",
        batches=lambda rows: _augmented(data, options, rows),
        use="Give --soft-labels to search or supernet train, with the same data and image size",
    )


def _augmented(data: PreparedData, options: SoftLabelOptions, rows: range) -> Generator[Tensor, None, None]:
    """Yields the images of a search in batches, by the numbers of their rows. A batch is of one epoch."""
    number, start = len(data.train), rows.start
    while start < rows.stop:
        epoch, first = divmod(start, number)
        seen = AugmentedEpoch(data.train, seed=options.seed, epoch=epoch)
        last = min(number, rows.stop - epoch * number)
        for index in range(first, last, options.batch_size):
            yield seen.images(torch.arange(index, min(index + options.batch_size, last)))
        start = epoch * number + last


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
        self, teacher: Teacher, views: _Views, options: SoftLabelOptions, device: torch.device, writer: SoftLabelWriter
    ) -> None:
        self._teacher, self._views, self._options, self._device = teacher, views, options, device
        self._writer, self._rows = writer, writer.header.rows
        self._uses_bf16 = views.precision == "bf16" or (views.precision == "auto" and device.type == "cuda")

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
        begun = flushed = last_line = time.monotonic()
        before = writer.done
        batches = self._views.batches(range(writer.done, self._rows))
        with bar, defer_interrupts() as interruptions, closing(batches):
            for images in batches:
                writer.append(self._label(images).cpu().numpy(), fingerprints(images.numpy()))
                now = time.monotonic()
                speed = (writer.done - before) / (now - begun)
                text = f"{speed:,.0f} images/s, {format_seconds((self._rows - writer.done) / speed)} left"
                bar.update(task, completed=writer.done, text=text)
                if not console.is_terminal and now - last_line > LINE_SECONDS:
                    print_line(console, f"{writer.done:,} of {self._rows:,} labels: {text}")
                    last_line = now
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

    def _seconds_per_view(self) -> float:
        """Returns the duration of a view, from a few batches whose labels are discarded."""
        size = self._options.batch_size
        start = self._writer.done
        stop = min(self._rows, start + (1 + MEASURED_BATCHES) * size)
        started, timed = time.perf_counter(), 0
        with closing(self._views.batches(range(start, stop))) as batches:
            for number, images in enumerate(batches):
                self._label(images).cpu()
                timed += len(images)
                if number == 0 and stop - start > size:
                    started, timed = time.perf_counter(), 0
        return (time.perf_counter() - started) / max(1, timed)
