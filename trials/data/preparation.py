"""Images decoded once, by many threads, into arrays on disk that every worker maps into its memory.

The arrays are written in a folder of their own and moved into place when all are whole. The metadata is removed before
the first is moved and written after the last is on the disk, so a directory with metadata is complete, and one without
is done again. So is one whose arrays are not what the metadata says: they are read as a whole whenever they are asked
for, once a command.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sret_nas.errors import UserError

from .config import DataConfig
from .decode import UNREADABLE, Pixels, to_pixels, without_warnings
from .digits import find_digits
from .folders import find_folder
from .prepared import METADATA, Metadata, PreparedData, array_path, digest_of
from .source import PARTS, FoundSource, IntArray, Source
from .splitting import Selection, split
from .torchvision_sets import find_torchvision_set

Progress = Callable[[int, int], None]
"""Called with the number of images done and of all, from the thread that prepares."""

_UNFINISHED = ".unfinished"
"""Folder inside the directory where the arrays are written."""

_LOCK = ".lock"
"""File inside the directory that is locked while it is prepared."""

_CHUNK = 64
"""Images that a thread decodes at a time."""


def prepare(
    config: DataConfig,
    directory: Path,
    on_progress: Progress | None = None,
    on_damage: Callable[[str], None] | None = None,
) -> PreparedData:
    """Decodes the images that `config` asks for into `directory`, unless it already holds just these.

    What it holds is verified byte by byte; where it is damaged, `on_damage` is told of it before it is done again. One
    process at a time prepares a directory, others wait for it; any number may have it open, and keep what they opened.

    Raises `UserError` if the source is not there, cannot be split, or has images that cannot be read.
    """
    found = find_source(config)
    if config.is_folder:
        _require_apart(directory, _folder(config.source))
    with _only_one(directory):
        kept = _kept(directory, config, found.fingerprint, on_damage)
        data = kept if kept is not None else _prepare_anew(config, found, directory, on_progress)
    return replace(data, notes=found.notes)


@contextmanager
def _only_one(directory: Path) -> Iterator[None]:
    """Keeps other processes from preparing the same directory; the system frees the lock of one that dies."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = open(directory / _LOCK, "w")  # noqa: SIM115 - closed below
    except OSError as error:
        raise UserError(f"{directory}: cannot hold prepared data: {error.strerror}") from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _prepare_anew(
    config: DataConfig, found: FoundSource, directory: Path, on_progress: Progress | None
) -> PreparedData:
    source = found.open()
    selections = split(source, config)
    unfinished = _empty_folder(directory / _UNFINISHED)
    try:
        require_space(directory, selections, config.image_size)
        _write_arrays(selections, unfinished, config.image_size, on_progress)
        metadata = _metadata(config, found.fingerprint, source, selections, unfinished)
        for path in unfinished.iterdir():
            _sync(path)
        _remove(directory / METADATA)
        for path in sorted(unfinished.iterdir()):
            if (directory / path.name).is_dir():
                _remove(directory / path.name)
            os.replace(path, directory / path.name)
        _sync(directory)
        metadata.write(directory)
    finally:
        shutil.rmtree(unfinished)
    return PreparedData.open(directory)


def find_source(config: DataConfig) -> FoundSource:
    """Where the images come from. Raises `UserError` if they are not there."""
    if config.root is not None:
        return find_torchvision_set(config.source, _folder(config.root))
    return find_folder(_folder(config.source)) if config.is_folder else find_digits()


def _folder(text: str) -> Path:
    return Path(text).expanduser()


def _require_apart(directory: Path, folder: Path) -> None:
    """Prepared data inside the image folder would be a class of it the next time."""
    if directory.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"prepared data must not lie inside the image folder, got {directory} inside {folder}")


def _kept(
    directory: Path, config: DataConfig, fingerprint: str, on_damage: Callable[[str], None] | None
) -> PreparedData | None:
    """What the directory holds, if it is whole and was made from the same files in the same way."""
    if not os.path.lexists(directory / METADATA):  # never prepared, or not to the end
        return None
    try:
        data = PreparedData.open(directory)
        if data.config != config or data.metadata.fingerprint != fingerprint:
            return None
        data.verify()
    except UserError as error:  # damaged, or of another version: both are mended by preparing it again
        if on_damage is not None:
            on_damage(str(error))
        return None
    return data


def _empty_folder(folder: Path) -> Path:
    _remove(folder)  # left by a process that was killed
    folder.mkdir(parents=True)
    return folder


def _remove(path: Path) -> None:
    """Whatever it is, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Waits until a file or folder is on the disk, so that a crash of the machine cannot undo it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_space(directory: Path, selections: Mapping[str, Selection], size: int) -> None:
    """A full disk would end the process by a signal, as the arrays are written through memory maps.

    Three bytes a pixel, and one more while grey images are copied.
    """
    needed = sum(len(selection.indices) for selection in selections.values()) * size * size * 4
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise UserError(
            f"{directory}: the decoded images take up to {needed / 1e6:,.0f} MB, "
            f"got {free / 1e6:,.0f} MB of free disk space; "
            "choose a smaller image size, fewer images (max_train), or free some space"
        )


@dataclass(frozen=True)
class _Decoded:
    """What a thread tells of a chunk that it decoded."""

    num_images: int
    has_colour: bool
    problems: list[str]
    """Of images that cannot be read."""


def _write_arrays(selections: Mapping[str, Selection], folder: Path, size: int, on_progress: Progress | None) -> None:
    """Raises `UserError` for images that cannot be read."""
    arrays: dict[str, Pixels] = {}
    for part, selection in selections.items():
        shape = (len(selection.indices), size, size, 3)
        path = array_path(folder, part, "images")
        arrays[part] = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
        np.save(array_path(folder, part, "labels"), selection.samples.labels[selection.indices])
    has_colour = _decode_all(selections, arrays, on_progress)
    if not has_colour:
        for part, pixels in arrays.items():
            path = array_path(folder, part, "images")
            path.unlink()  # still mapped by `pixels`
            np.save(path, pixels[..., :1])


def _decode_all(
    selections: Mapping[str, Selection], arrays: Mapping[str, Pixels], on_progress: Progress | None
) -> bool:
    """Fills the arrays; returns whether any image has colour. Raises `UserError` for images that cannot be read."""
    total = sum(len(selection.indices) for selection in selections.values())
    done, has_colour, problems = 0, False, []
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        with without_warnings():
            for future in as_completed(_submit(pool, selections, arrays)):
                chunk = future.result()
                done += chunk.num_images
                has_colour |= chunk.has_colour
                problems += chunk.problems
                if on_progress is not None:
                    on_progress(done, total)
    finally:
        pool.shutdown(cancel_futures=True)
    if problems:
        raise UserError(
            f"{len(problems):,} of {total:,} images cannot be read; mend or remove them:", *sorted(problems)[:5]
        )
    return has_colour


def _submit(
    pool: ThreadPoolExecutor, selections: Mapping[str, Selection], arrays: Mapping[str, Pixels]
) -> Iterator[Future[_Decoded]]:
    for part, selection in selections.items():
        positions = np.argsort(selection.indices)  # neighbours in their folder are read together, for slow disks
        for start in range(0, len(positions), _CHUNK):
            yield pool.submit(_decode_chunk, selection, positions[start : start + _CHUNK], arrays[part])


def _decode_chunk(selection: Selection, positions: IntArray, into: Pixels) -> _Decoded:
    """Decodes the images at some positions of a part into the part's array of shape (n, size, size, 3)."""
    has_colour, problems = False, []
    for position in positions:
        index, pixels = int(selection.indices[position]), into[position]
        try:
            with selection.samples.load(index) as image:
                decoded = to_pixels(image, pixels.shape[0])
        except UNREADABLE as error:
            problems.append(f"{selection.samples.name(index)}: {error or type(error).__name__}")
            continue
        has_colour |= decoded.ndim == 3
        pixels[:] = decoded if decoded.ndim == 3 else decoded[..., None]
    return _Decoded(len(positions), has_colour, problems)


def _metadata(
    config: DataConfig, fingerprint: str, source: Source, selections: Mapping[str, Selection], folder: Path
) -> Metadata:
    """Of the arrays in a folder."""
    images = {part: np.load(array_path(folder, part, "images"), mmap_mode="r") for part in PARTS}
    labels = {part: np.load(array_path(folder, part, "labels")) for part in PARTS}
    mean, std = mean_and_std(images["train"])
    return Metadata(
        config=config,
        fingerprint=fingerprint,
        class_names=source.class_names,
        flip=source.flip if config.flip is None else config.flip,
        mean=mean,
        std=std,
        digest=digest_of(source.class_names, images, labels),
        shapes={part: pixels.shape for part, pixels in images.items()},
        origins={part: selections[part].origin for part in PARTS},
        passed_over=source.passed_over,
    )


def mean_and_std(images: Pixels) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of each channel of (n, h, w, c) pixels, counted from 0 to 1; the deviation is at least 1/255.

    Summed in whole numbers, which is exact.
    """
    channels = images.shape[3]
    total, squares = np.zeros(channels, np.int64), np.zeros(channels, np.int64)
    for start in range(0, len(images), 1024):
        pixels = images[start : start + 1024].reshape(-1, channels)
        counts = np.stack([np.bincount(pixels[:, channel], minlength=256) for channel in range(channels)])
        total += counts @ np.arange(256)
        squares += counts @ np.arange(256) ** 2
    mean = total / (images.size // channels)
    variance = squares / (images.size // channels) - mean**2
    std = np.maximum(np.sqrt(np.maximum(variance, 0)), 1)
    return tuple((mean / 255).tolist()), tuple((std / 255).tolist())
