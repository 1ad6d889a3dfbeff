"""Decodes images once, in many threads, into arrays on disk that all workers map into memory.

Arrays are written to a temporary folder and moved when all are complete. The metadata is removed before the first move
and written after the last. So a directory with metadata is complete, and one without is prepared again. So is one whose
arrays do not match the digest in the metadata, which every command checks once by reading them.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from sret_nas.arrays import IntArray
from sret_nas.errors import UserError
from sret_nas.files import expand_home
from sret_nas.plurals import counted

from .config import DataConfig
from .decode import UNREADABLE, Pixels, to_pixels, without_warnings
from .digits import find_digits
from .folders import find_folder
from .prepared import METADATA, Metadata, PreparedData, array_path, digest_of
from .repeated import Digests, count_repeated, digest_of_pixels
from .source import PARTS, FoundSource, Source
from .splitting import Selection, split
from .torchvision_sets import find_torchvision_set

Progress = Callable[[int, int], None]
"""Called with the numbers of decoded images and of all images, from the thread that calls `prepare`."""

_UNFINISHED = ".unfinished"
"""Temporary folder for the arrays, inside the directory."""

_LOCK = ".lock"
"""File in the directory that is locked during preparation."""

_CHUNK = 64
"""Images per task of a thread."""


def prepare(
    config: DataConfig,
    directory: Path,
    on_progress: Progress | None = None,
    on_damage: Callable[[str], None] | None = None,
) -> PreparedData:
    """Decodes the images of `config` into `directory`, unless they are there already, and returns them.

    Existing arrays are verified byte by byte. Only one process at a time prepares a directory, and others wait for it;
    processes that have opened it keep what they opened.

    Args:
        on_progress: Called after every chunk of images.
        on_damage: Called with a message if existing arrays are damaged and prepared again.

    Raises `UserError` if the source does not exist, cannot be split, or has images that cannot be read.
    """
    found = find_source(config)
    if config.is_folder:
        _require_apart(directory, expand_home(config.source))
    with _only_one(directory):
        kept = _kept(directory, config, found.fingerprint, on_damage)
        data = kept if kept is not None else _prepare_anew(config, found, directory, on_progress)
    return replace(data, notes=found.notes)


@contextmanager
def _only_one(directory: Path) -> Iterator[None]:
    """Locks the directory for one process; the system frees the lock if the process dies."""
    with _lock_file(directory):
        yield


def _lock_file(directory: Path) -> BinaryIO:
    """Opens and locks a directory's file, which is the one that others find there when it is locked."""
    while True:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            lock = open(directory / _LOCK, "wb")  # noqa: SIM115 - the caller closes it
        except OSError as error:
            raise UserError(f"{directory}: cannot hold prepared data: {error.strerror}") from None
        fcntl.flock(lock, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):  # the directory was deleted meanwhile
            if os.path.samestat((directory / _LOCK).stat(), os.fstat(lock.fileno())):
                return lock
        lock.close()


@contextmanager
def _unless_preparing(directory: Path) -> Iterator[bool]:
    """Keeps other processes from preparing a directory while the block runs; yields False if one prepares it now."""
    try:
        lock = open(directory / _LOCK, "rb")  # noqa: SIM115 - closed below
    except FileNotFoundError:  # nobody has begun
        yield True
        return
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def is_being_prepared(directory: Path) -> bool:
    """Returns whether a process prepares a directory now, or verifies the images in it."""
    with _unless_preparing(directory) as is_free:
        return not is_free


def delete_prepared(directory: Path) -> bool:
    """Deletes prepared images, unless a process prepares them now. Returns whether they were deleted."""
    with _unless_preparing(directory) as is_free:
        if not is_free:
            return False
        # Under another name first, so that who prepares them anew never meets half of what is deleted.
        deleted = directory.with_name(f".{directory.name}.deleted")
        _remove(deleted)  # left by a process that was killed
        directory.rename(deleted)
    shutil.rmtree(deleted)
    return True


def _prepare_anew(
    config: DataConfig, found: FoundSource, directory: Path, on_progress: Progress | None
) -> PreparedData:
    source = found.open()
    selections = split(source, config)
    unfinished = _empty_folder(directory / _UNFINISHED)
    try:
        require_space(directory, selections, config.image_size)
        left_out, repeated = _write_arrays(selections, unfinished, config, on_progress)
        metadata = _metadata(config, found.fingerprint, source, selections, unfinished, left_out, repeated)
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
    """Returns the source of the images. Raises `UserError` if it does not exist."""
    if config.root is not None:
        return find_torchvision_set(config.source, expand_home(config.root))
    return find_folder(expand_home(config.source)) if config.is_folder else find_digits()


def _require_apart(directory: Path, folder: Path) -> None:
    """Raises `UserError` if prepared data is inside the image folder, where it would be read as a class."""
    if directory.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"prepared data must not lie inside the image folder, got {directory} inside {folder}")


def _kept(
    directory: Path, config: DataConfig, fingerprint: str, on_damage: Callable[[str], None] | None
) -> PreparedData | None:
    """Returns the data in the directory if it is undamaged and made from the same files with the same configuration."""
    if not os.path.lexists(directory / METADATA):  # never prepared, or not to the end
        return None
    try:
        data = PreparedData.open(directory)
        if data.config != config or data.metadata.fingerprint != fingerprint:
            return None
        data.verify()
    except UserError as error:  # damaged, or of another version: preparing it again helps in both cases
        if on_damage is not None:
            on_damage(str(error))
        return None
    return data


def _empty_folder(folder: Path) -> Path:
    _remove(folder)  # left by a process that was killed
    folder.mkdir(parents=True)
    return folder


def _remove(path: Path) -> None:
    """Removes a file, link or folder if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Flushes a file or folder to the disk, so that a crash of the machine cannot undo it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_space(directory: Path, selections: Mapping[str, Selection], size: int) -> None:
    """Raises `UserError` if the disk has too little space for the arrays.

    They are written through memory maps, so a full disk would kill the process by a signal.
    """
    # Three bytes per pixel, and one more while grey images are copied.
    needed = sum(len(selection.indices) for selection in selections.values()) * size * size * 4
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise UserError(
            f"{directory}: the decoded images take up to {needed / 1e6:,.0f} MB, "
            f"got {free / 1e6:,.0f} MB of free disk space; "
            "choose a smaller --image-size, fewer images (--max-train-images), or free some space"
        )


@dataclass(frozen=True)
class _Decoded:
    """The result of decoding a chunk."""

    num_images: int
    has_colour: bool
    problems: dict[tuple[str, int], str]
    """One line per unreadable image, by part and position."""


def _write_arrays(
    selections: Mapping[str, Selection], folder: Path, config: DataConfig, on_progress: Progress | None
) -> tuple[tuple[str, ...], dict[str, int]]:
    """Writes the arrays of all parts.

    Returns a line for each image that was left out, and how many are repeated in another part.

    Raises `UserError` if images cannot be read, unless they are to be left out.
    """
    size = config.image_size
    arrays, digests = dict[str, Pixels](), dict[str, Digests]()
    for part, selection in selections.items():
        shape = (len(selection.indices), size, size, 3)
        path = array_path(folder, part, "images")
        arrays[part] = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
        np.save(array_path(folder, part, "labels"), selection.samples.labels[selection.indices])
        digests[part] = np.zeros(len(selection.indices), np.uint64)
    has_colour, problems = _decode_all(selections, arrays, digests, on_progress)
    if problems and not config.skip_broken:
        total = sum(len(selection.indices) for selection in selections.values())
        raise UserError(
            f"{len(problems):,} of {counted(total, 'image')} cannot be read; mend or remove them, or leave them out "
            "with --skip-broken:",
            *sorted(problems.values())[:5],
        )
    _require_some_left(selections, problems)
    for part in {part for part, _ in problems}:
        broken = [index for name, index in problems if name == part]
        arrays[part] = _without(folder, part, arrays[part], broken)
        digests[part] = np.delete(digests[part], broken)
    if not has_colour:
        for part, pixels in arrays.items():
            path = array_path(folder, part, "images")
            path.unlink()  # still mapped by `pixels`
            np.save(path, pixels[..., :1])
    return tuple(sorted(problems.values())), count_repeated(digests)


def _require_some_left(selections: Mapping[str, Selection], problems: Mapping[tuple[str, int], str]) -> None:
    """Raises `UserError` if no image of a class can be read in the training part, or none at all in another part."""
    for part, selection in selections.items():
        broken = {index for name, index in problems if name == part}
        labels = selection.samples.labels[selection.indices]
        left = np.delete(labels, sorted(broken))
        if len(left) == 0 or (part == "train" and len(np.unique(left)) < len(np.unique(labels))):
            raise UserError(
                f"{selection.samples.where}: too few images are left without the {len(broken):,} that cannot be read: "
                "mend some of them:",
                *sorted(line for (name, _), line in problems.items() if name == part)[:5],
            )


def _without(folder: Path, part: str, pixels: Pixels, broken: list[int]) -> Pixels:
    """Writes the arrays of a part anew without the images at these positions, and returns them."""
    kept = np.delete(np.arange(len(pixels)), broken)
    path = array_path(folder, part, "images")
    path.unlink()  # still mapped by `pixels`
    anew = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(len(kept), *pixels.shape[1:]))
    for start in range(0, len(kept), _CHUNK):
        anew[start : start + _CHUNK] = pixels[kept[start : start + _CHUNK]]
    labels = array_path(folder, part, "labels")
    np.save(labels, np.load(labels)[kept])
    return anew


def _decode_all(
    selections: Mapping[str, Selection], arrays: Mapping[str, Pixels], digests: Mapping[str, Digests],
    on_progress: Progress | None,
) -> tuple[bool, dict[tuple[str, int], str]]:  # fmt: skip
    """Fills the arrays and digests. Returns whether any image has colour, and a line for each that cannot be read."""
    total = sum(len(selection.indices) for selection in selections.values())
    done, has_colour, problems = 0, False, dict[tuple[str, int], str]()
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        with without_warnings():
            for future in as_completed(_submit(pool, selections, arrays, digests)):
                chunk = future.result()
                done += chunk.num_images
                has_colour |= chunk.has_colour
                problems |= chunk.problems
                if on_progress is not None:
                    on_progress(done, total)
    finally:
        pool.shutdown(cancel_futures=True)
    return has_colour, problems


def _submit(
    pool: ThreadPoolExecutor, selections: Mapping[str, Selection], arrays: Mapping[str, Pixels],
    digests: Mapping[str, Digests],
) -> Iterator[Future[_Decoded]]:  # fmt: skip
    for part, selection in selections.items():
        positions = np.argsort(selection.indices)  # neighbours on a slow disk are read together
        for start in range(0, len(positions), _CHUNK):
            chunk = positions[start : start + _CHUNK]
            yield pool.submit(_decode_chunk, part, selection, chunk, arrays[part], digests[part])


def _decode_chunk(
    part: str, selection: Selection, positions: IntArray, into: Pixels, digests: Digests
) -> _Decoded:  # fmt: skip
    """Decodes the images at `positions` of a part into its array `into`, shape (n, size, size, 3), with digests."""
    has_colour, problems = False, {}
    for position in positions:
        index, pixels = int(selection.indices[position]), into[position]
        try:
            with selection.samples.load(index) as image:
                decoded = to_pixels(image, pixels.shape[0])
        except UNREADABLE as error:
            problems[part, int(position)] = f"{selection.samples.name(index)}: {error or type(error).__name__}"
            continue
        has_colour |= decoded.ndim == 3
        pixels[:] = decoded if decoded.ndim == 3 else decoded[..., None]
        digests[position] = digest_of_pixels(pixels)
    return _Decoded(len(positions), has_colour, problems)


def _metadata(
    config: DataConfig, fingerprint: str, source: Source, selections: Mapping[str, Selection], folder: Path,
    left_out: tuple[str, ...], repeated: Mapping[str, int],
) -> Metadata:  # fmt: skip
    """Returns the metadata of the arrays in a folder."""
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
        left_out=left_out,
        repeated=repeated,
    )


def mean_and_std(images: Pixels) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and standard deviation, each (c,), of the channels of (n, h, w, c) pixels scaled to [0, 1].

    The deviation is at least 1/255. The sums are exact, in whole numbers.
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
