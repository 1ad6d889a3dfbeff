"""`predict`: classes and probabilities of images, by a trained network or what was exported of one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from sret_nas.errors import UserError, printable
from sret_nas.files import validate
from sret_nas.nn.exported_model import ExportedModel, is_exported, open_exported, to_pixels
from sret_nas.nn.model_directory import Preprocessing
from sret_nas.plurals import counted

from ..console import escape, print_line
from ..data import DataConfig
from ..data.image_files import Pixels, find_images, mode_for, read_image_file
from ..data.whole_images import UnreadableImageError, WholeImages
from ..training.devices import compute_with, device_of
from .trained_network import load_trained, match_names, recursion_limit

BATCH = 32
"""Images that are decoded and classified together."""

MAX_EXCESS = 1e-3
"""By which the sum of probabilities may differ from 1, after rounding to float16."""


@dataclass(frozen=True, kw_only=True)
class PredictRequest:
    """Which images are classified, and by what."""

    model: Path
    images: tuple[Path, ...]
    top: int = 5
    json: bool = False
    device: str = "auto"
    recursions: tuple[int, ...] | None = None
    """Largest number of recursions, one for all stages or one for each; None keeps all."""
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    data: str | None = None
    data_root: str | None = None
    split_seed: int = 0
    threads: int = 1


@dataclass(frozen=True)
class _Model:
    """What maps standardised images to logits, and what must be known to use it."""

    path: Path
    """As it was named."""
    run: Callable[[Tensor], Tensor]
    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None


@dataclass(frozen=True)
class _Prediction:
    """The most probable classes of one image; or why it could not be read."""

    image: Path
    classes: tuple[tuple[int, float], ...] = ()
    """Index and probability, the most probable first."""
    problem: str | None = None


def predict(request: PredictRequest, console: Console) -> None:
    """Prints the most probable classes of every image, and names those that cannot be read.

    Raises `UserError` if the model cannot be read or used, or there are no images, or none can be read.
    """
    if (request.mean is None) != (request.std is None):
        raise UserError("--mean and --std go together: one number per channel each")
    compute_with(request.threads)
    images = find_images(request.images)
    model = _exported(request) if is_exported(request.model) else _trained(request, console)
    predictions = _predictions(model, images, request.top)
    if request.json:
        any_read = _print_json(predictions, model.class_names)
    else:
        any_read = _print_table(predictions, model.class_names, console)
    if not any_read:
        named = counted(len(images), "image was", "images were")
        raise UserError(f"{named} named, and none can be read: mend it or name others")


def _trained(request: PredictRequest, console: Console) -> _Model:
    trained = load_trained(request.model)
    for note in trained.notes if not request.json else ():
        print_line(console, note)
    if request.mean is not None and request.std is not None:
        trained = trained.with_mean_and_std(request.mean, request.std)
    if request.data is not None and not trained.is_complete:
        config = DataConfig(source=request.data, root=request.data_root, split_seed=request.split_seed)
        trained = trained.completed_by(WholeImages.find(config))
    if trained.preprocessing is None:
        raise UserError(
            f"{request.model}: it is not known how its images are standardised: name those of its training with "
            "--data, or give --mean and --std"
        )
    device = device_of(request.device)
    network = trained.network.eval().to(device)
    limit = None if request.recursions is None else recursion_limit(request.recursions)
    try:
        network.arch.with_max_recursions(1 if limit is None else limit)
    except ValueError as error:
        raise UserError(f"--recursions: {error}") from None

    def run(images: Tensor) -> Tensor:
        logits: Tensor = network(images.to(device, network.pos_embed.dtype), max_recursions=limit)
        return logits.float().cpu()

    return _Model(request.model, run, trained.preprocessing, trained.class_names)


def _exported(request: PredictRequest) -> _Model:
    if request.recursions is not None:
        raise UserError(f"{request.model}: its recursions were fixed by `export --recursions`")
    if request.device not in ("auto", "cpu"):
        raise UserError(f"{request.model}: exported models run on the CPU here, got --device {request.device}")
    exported = open_exported(request.model, request.threads)
    info = exported.info
    preprocessing, class_names = (None, None) if info is None else (info.preprocessing, info.class_names)
    if request.mean is not None and request.std is not None:
        preprocessing = _with_constants(request, exported, preprocessing, request.mean, request.std, "--mean and --std")
    expected: int | None = None
    if request.data is not None and (preprocessing is None or class_names is None):
        images = WholeImages.find(
            DataConfig(source=request.data, root=request.data_root, split_seed=request.split_seed)
        )
        if info is None:
            class_names, expected = images.class_names, len(images.class_names)
        else:
            classes = info.architecture.classes
            _, class_names = match_names(class_names, classes, request.model, images.class_names, request.data)
        if preprocessing is None:
            takes_colour = exported.input_shape[1:2] != (1,)
            mean, std = images.mean_and_std(3 if takes_colour else 1)
            preprocessing = _with_constants(request, exported, None, mean, std, f"the images of {request.data}")
    if preprocessing is None:
        what = "was not written by this program" if info is None else "was exported without"
        raise UserError(
            f"{request.model}: its metadata does not say how images are standardised (it {what}): give --mean and "
            "--std, or the training's images with --data"
        )
    if info is not None and info.pixels is not None and request.mean is not None:
        raise UserError(f"{request.model}: it standardises images itself, so --mean and --std have no meaning")

    def run(images: Tensor) -> Tensor:
        as_taken = images if info is None or info.pixels is None else to_pixels(images, preprocessing)
        logits = _run_exported(exported, as_taken)
        if expected is not None and logits.shape[1] != expected:
            raise UserError(
                f"{request.data}: has {expected:,} classes, but {request.model} has {logits.shape[1]:,}, without names"
            )
        return logits.log() if info is None and _are_probabilities(logits) else logits

    return _Model(request.model, run, preprocessing, class_names)


def _with_constants(
    request: PredictRequest, exported: ExportedModel, known: Preprocessing | None, mean: tuple[float, ...],
    std: tuple[float, ...], origin: str,
) -> Preprocessing:  # fmt: skip
    """Returns how images are prepared, with the mean and deviation of an origin.

    Raises `UserError` if the model takes other images.
    """
    shape, channels = exported.input_shape, len(mean)
    size = None if len(shape) != 4 or shape[1] != channels or shape[2] != shape[3] else shape[2]
    if size is None:
        raise UserError(
            f"{request.model}: must take images of the shape (batch, {channels}, side, side) for {origin}, of "
            f"{counted(channels, 'value')}, got {tuple('any' if one is None else one for one in shape)}"
        )
    constants = {"image_size": size, "mean": mean, "std": std}
    return validate(Preprocessing, ({} if known is None else known.model_dump()) | constants, str(request.model))


def _run_exported(model: ExportedModel, images: Tensor) -> Tensor:
    """Returns logits (B, classes), of a model that takes one image at a time too. Raises `UserError` for others."""
    one_by_one = model.input_shape[:1] == (1,)
    try:
        logits = torch.cat([model.run(image[None]) for image in images]) if one_by_one else model.run(images)
    except Exception as error:  # a file of another program can fail in many ways, and onnxruntime's have no base
        raise UserError(f"{model.name}: cannot run {counted(len(images), 'image')}: {error}") from None
    if logits.dim() != 2 or len(logits) != len(images):
        raise UserError(f"{model.name}: must give logits of the shape (batch, classes), got {tuple(logits.shape)}")
    if not logits.is_floating_point():
        kind = str(logits.dtype).removeprefix("torch.")
        raise UserError(f"{model.name}: must give logits as floating-point numbers, got {kind}")
    return logits.float()


def _are_probabilities(outputs: Tensor) -> bool:
    """Returns whether all rows are distributions, as files of other programs give them that end with a softmax."""
    return bool((outputs >= 0).all() and ((outputs.sum(dim=1) - 1).abs() <= MAX_EXCESS).all())


def _predictions(model: _Model, images: Sequence[Path], top: int) -> Iterator[_Prediction]:
    """Yields a prediction for every image, in order."""
    mode_for(model.preprocessing)
    for start in range(0, len(images), BATCH):
        chosen = images[start : start + BATCH]
        decoded = [_decode(path, model.preprocessing) for path in chosen]
        readable = [(path, one) for path, one in zip(chosen, decoded, strict=True) if not isinstance(one, str)]
        rows: Iterator[tuple[tuple[int, float], ...]] = iter(())
        if readable:
            with torch.inference_mode():
                logits = model.run(torch.stack([torch.from_numpy(one) for _, one in readable]))
                probabilities, classes = logits.softmax(dim=1).sort(dim=1, descending=True, stable=True)
            _require_finite(probabilities, model, [path for path, _ in readable])
            pairs = zip(classes[:, :top].tolist(), probabilities[:, :top].tolist(), strict=True)
            rows = (tuple(zip(*pair, strict=True)) for pair in pairs)
        for path, one in zip(chosen, decoded, strict=True):
            yield _Prediction(path, problem=one) if isinstance(one, str) else _Prediction(path, next(rows))


def _require_finite(probabilities: Tensor, model: _Model, images: Sequence[Path]) -> None:
    """Raises `UserError` naming the first image whose probabilities (B, classes) are no numbers."""
    for image, is_wrong in zip(images, probabilities.isnan().any(dim=1).tolist(), strict=True):
        if is_wrong:
            raise UserError(
                f"{model.path}: gives numbers that are not finite for {image}: its weights, or the mean and deviation "
                "of its images, are out of range"
            )


def _decode(path: Path, preprocessing: Preprocessing) -> Pixels | str:
    """Returns an image as the network takes it, or a line that names it and says why it cannot be read."""
    try:
        return read_image_file(path, preprocessing)
    except UnreadableImageError as error:
        return str(error)


def _print_json(predictions: Iterator[_Prediction], class_names: tuple[str, ...] | None) -> bool:
    """Prints an object a line, and returns whether any image could be read."""
    any_read = False
    for one in predictions:
        any_read |= one.problem is None
        if one.problem is not None:
            print(json.dumps({"image": str(one.image), "error": one.problem}))
            continue
        classes = [
            {"class": _name(index, class_names), "index": index, "probability": round(probability, 6)}
            for index, probability in one.classes
        ]
        print(json.dumps({"image": str(one.image), "predictions": classes}))
    return any_read


def _print_table(predictions: Iterator[_Prediction], class_names: tuple[str, ...] | None, console: Console) -> bool:
    """Prints a table, one line per image and class, and returns whether any image could be read."""
    table = Table("image", "class", "probability", show_edge=False)
    table.columns[0].overflow = table.columns[1].overflow = "fold"
    table.columns[2].justify = "right"
    for one in predictions:
        if one.problem is not None:
            print(f"warning: {one.problem}", file=sys.stderr)
            continue
        for position, (index, probability) in enumerate(one.classes):
            is_last = position == len(one.classes) - 1
            image = "" if position else escape(printable(str(one.image)))
            name = escape(printable(_name(index, class_names)))
            table.add_row(image, name, f"{probability:.2%}", end_section=is_last)
    if table.row_count:
        console.print(table)
    return table.row_count > 0


def _name(index: int, class_names: tuple[str, ...] | None) -> str:
    return str(index) if class_names is None else class_names[index]
