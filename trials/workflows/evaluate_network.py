"""`evaluate`: scores a trained network on one part of a data set, at every recursion depth that it can run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.arrays import IntArray
from sret_nas.errors import UserError
from sret_nas.files import write_atomically
from sret_nas.nn.model_directory import Preprocessing
from sret_nas.nn.network import SReT
from sret_nas.nn.operating_points import Depth, all_depths, equal_depths, full_depth, logits_at_depths, num_depths
from sret_nas.nn.speed import time_passes
from sret_nas.nn.stem import batch_norms
from sret_nas.output_files import require_free, require_new_folder, require_outside
from sret_nas.plurals import counted
from sret_nas.quantities import format_seconds

from ..console import Console, count_progress, print_line
from ..data.image_files import image_batches, mode_for
from ..data.source import PARTS
from ..data.whole_images import WholeImages, WholePart
from ..machine import cores_per_process
from ..report.evaluation import Evaluation, OperatingPoint, show_evaluation
from ..report.evaluation_files import to_json, write_evaluation
from ..runs.directory import versions
from ..runs.option_groups import DataOptions
from ..training.classification_scores import MAX_CONFUSION_CLASSES, ScoreCounts, count_confusion
from ..training.devices import compute_with, device_name, device_of
from .trained_network import TrainedNetwork, load_trained, match_classes

RequestedPart = Literal["train", "val", "test", "all"]
Depths = Literal["all", "equal", "full"]

MAX_DEPTHS = 16
"""Depths up to which all are evaluated by default. Beyond, an equal number of recursions in all stages is."""
MAX_ALL_DEPTHS = 1024
"""Depths that are evaluated at most."""

LINE_SECONDS = 10.0
"""Between two lines on how far the evaluation is, where there is no bar."""
LATENCY_TURNS, MIN_LATENCY_TURNS = 25, 3
"""Timed passes of each depth, at most and at least."""
LATENCY_SECONDS = 2.0
"""For which the latency of a depth is measured at most, unless the fewest passes take longer."""


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """What is evaluated, on what, and where the results go."""

    source: Path
    """A model directory, a run, a YAML file with weights beside it, or a file of weights."""
    data: DataOptions
    part: RequestedPart = "test"
    depths: Depths | None = None
    """None: all, unless they are too many."""
    recursions: tuple[tuple[int, ...], ...] = field(default_factory=tuple)
    """Single depths, instead of `depths`."""
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    json: Path | None = None
    out: Path | None = None
    force: bool = False
    """Whether `json` may replace a file."""
    batch_size: int = 64
    latency: bool = True
    device: str = "auto"
    threads: int | None = None
    """None: all cores."""


def evaluate_network(request: EvaluationRequest, console: Console) -> Evaluation:
    """Evaluates a network, prints the results, and writes the files that were asked for.

    Raises `UserError` if there is no such network, if images are missing or cannot be read, if their classes are not
    the network's, or if a file would be written over.
    """
    _require_free_outputs(request)
    threads = request.threads or cores_per_process()
    compute_with(threads)
    device = device_of(request.device)
    trained = load_trained(request.source)
    images = WholeImages.find(request.data.data_config_at(trained.network.arch.image_size))
    for note in (*trained.notes, *images.notes):
        print_line(console, note)
    parts = list(PARTS) if request.part == "all" else [request.part]
    label_of, class_names = match_classes(trained, images.class_names, request.data.data)
    preprocessing = _preprocessing(request, trained, images, console)
    mode_for(preprocessing)  # refuses other channels before anything is computed
    network = trained.network.eval().to(device)
    depths = _depths(request, network)
    _announce(request, images, parts, preprocessing, trained, depths, console)
    latencies = _latencies(network, depths, preprocessing.image_size) if request.latency else {}
    confusion = np.zeros((len(class_names),) * 2, np.int64) if len(class_names) <= MAX_CONFUSION_CLASSES else None
    counts = _counts(network, [images.parts[part] for part in parts], preprocessing, label_of, depths, confusion,
                     request.batch_size, threads, console)  # fmt: skip
    arch = network.arch.model_copy(update={"image_size": preprocessing.image_size})
    evaluation = Evaluation(
        network=str(trained.path),
        arch_id=network.arch.arch_id,
        part=request.part,
        origin="; ".join(images.origins[part] for part in parts),
        class_names=class_names,
        image_size=preprocessing.image_size,
        device=device_name(device),
        threads=threads,
        points=tuple(_point(arch, depth, latencies.get(depth), counts[depth]) for depth in depths),
        confusion=confusion,
        has_batch_norm=bool(batch_norms(network.stem)),
        details=_details(request, images, preprocessing),
    )
    show_evaluation(evaluation, console)
    _require_free_outputs(request)  # again, since evaluating takes long
    if request.json is not None:
        write_atomically(request.json, to_json(evaluation))
        print_line(console, f"All numbers: {request.json}")
    if request.out is not None:
        write_evaluation(request.out, evaluation, console)
        print_line(console, f"Tables and pictures: {request.out}")
    return evaluation


def _require_free_outputs(request: EvaluationRequest) -> None:
    reads = [request.source, Path(request.data.data)]
    if request.json is not None and request.out is not None:
        json, out = request.json.resolve(), request.out.resolve()
        if json.is_relative_to(out) or out.is_relative_to(json):
            raise UserError(
                f"--json and --out must not lie in each other, got {request.json} and {request.out}: name another "
                "--json"
            )
    if request.json is not None:
        require_free([request.json], reads=reads, force=request.force, option="--json")
    if request.out is not None:
        require_new_folder(request.out)
        require_outside(request.out, Path(request.data.data))


def _preprocessing(
    request: EvaluationRequest, trained: TrainedNetwork, images: WholeImages, console: Console
) -> Preprocessing:
    """Returns how images are prepared: as in the training if that is known, else by the data's mean and deviation."""
    mean, std = request.mean, request.std
    if (mean is None) != (std is None):
        raise UserError("--mean and --std go together: one number per channel each")
    if mean is None or std is None:
        if trained.preprocessing is not None:
            return trained.preprocessing
        channels = trained.network.arch.channels
        mean, std = images.mean_and_std(1 if channels == 1 else 3)
        if channels in (1, 3):
            print_line(
                console,
                f"{trained.path} does not say how its images were prepared: the whole square is taken, standardised by "
                "mean and deviation of the training images; see --mean and --std",
            )
    prepared = trained.with_mean_and_std(mean, std).preprocessing
    assert prepared is not None
    return prepared


def _depths(request: EvaluationRequest, network: SReT) -> list[Depth]:
    """Returns the depths to evaluate, the deepest last. Raises `UserError` if they are too many, or not there."""
    arch = network.arch
    if request.recursions:
        depths = set()
        for limits in request.recursions:
            try:
                depths.add(full_depth(arch.with_max_recursions(limits[0] if len(limits) == 1 else limits)))
            except ValueError:
                given, stages = ",".join(map(str, limits)), len(arch.stages)
                raise UserError(
                    f"--recursions must be one number, or one for each of {stages} stages, got {given}"
                ) from None
        return sorted(depths, key=lambda depth: (cost_of(arch.with_max_recursions(depth)).flops, depth))
    kind = request.depths or ("all" if num_depths(arch) <= MAX_DEPTHS else "equal")
    if kind == "full":
        return [full_depth(arch)]
    if kind == "equal":
        return equal_depths(arch)
    if num_depths(arch) > MAX_ALL_DEPTHS:
        raise UserError(
            f"--depths all would be {num_depths(arch):,} depths, at most {MAX_ALL_DEPTHS:,} are evaluated: choose "
            "--depths equal or some --recursions"
        )
    return all_depths(arch)


def _announce(
    request: EvaluationRequest, images: WholeImages, parts: Sequence[str], preprocessing: Preprocessing,
    trained: TrainedNetwork, depths: Sequence[Depth], console: Console,
) -> None:  # fmt: skip
    """Prints what is going to be evaluated on what."""
    total = sum(len(images.parts[part]) for part in parts)
    origin = "; ".join(f"{part}: {images.origins[part]}" for part in parts)
    many = counted(len(depths), "recursion depth")
    print_line(console, f"Evaluating {trained.path} at {many} on {counted(total, 'image')} ({origin})")
    size = preprocessing.image_size
    print_line(
        console,
        f"Images: the centred {size} x {size} px, after resizing the shorter side to "
        f"{int(size / preprocessing.crop_fraction)} px ({preprocessing.interpolation})",
    )
    if missing := trained.network.arch.classes - len(images.class_names):
        print_line(console, f"note: the images have none of {missing:,} of the network's classes")
    if trained.class_names is None:
        print_line(console, "note: the network has no class names; the classes are taken in the order of the folders")


class _Progress:
    """Shows how many images are done: a bar on a terminal, else a line now and then."""

    def __init__(self, total: int, console: Console) -> None:
        self._total, self._console = total, console
        self._done = 0
        self._started = self._last_line = time.monotonic()
        self.bar = count_progress(console, "images")
        self._task = self.bar.add_task("images", total=total, text="")

    def add(self, images: int) -> None:
        self._done += images
        now = time.monotonic()
        left = format_seconds((now - self._started) / self._done * (self._total - self._done))
        self.bar.update(self._task, completed=self._done, text=f"{left} left")
        if not self._console.is_terminal and now - self._last_line >= LINE_SECONDS and self._done < self._total:
            self._last_line = now
            print_line(self._console, f"{self._done:,} of {counted(self._total, 'image')}, {left} left")


def _point(arch: ArchConfig, depth: Depth, latency_ms: float | None, counts: ScoreCounts) -> OperatingPoint:
    """Returns what a network of an image size costs and scores at a depth."""
    cost = cost_of(arch.with_max_recursions(depth))
    return OperatingPoint(
        depth=depth, flops=cost.flops, params=cost.params, latency_ms=latency_ms, scores=counts.scores()
    )


def _counts(
    network: SReT, parts: Sequence[WholePart], preprocessing: Preprocessing, label_of: IntArray,
    depths: Sequence[Depth], confusion: IntArray | None, batch_size: int, threads: int, console: Console,
) -> dict[Depth, ScoreCounts]:  # fmt: skip
    """Returns the counts of all images at each depth, and adds those at the last one to the confusion, if any."""
    counts = {depth: ScoreCounts(network.arch.classes) for depth in depths}
    progress = _Progress(sum(map(len, parts)), console)
    with progress.bar:
        for part in parts:
            _count(network, part, preprocessing, label_of, counts, confusion, progress, batch_size, threads)
    return counts


@torch.inference_mode()
def _count(
    network: SReT, part: WholePart, preprocessing: Preprocessing, label_of: IntArray,
    counts: dict[Depth, ScoreCounts], confusion: IntArray | None, progress: _Progress, batch_size: int, threads: int,
) -> None:  # fmt: skip
    """Adds the images of a part to the counts of all depths, and to the confusion at the last one."""
    weights = network.pos_embed
    *_, deepest = counts
    for images, own_labels in image_batches(
        part, range(len(part)), preprocessing, batch_size=batch_size, threads=threads
    ):
        labels = label_of[own_labels]
        inputs = torch.from_numpy(images).to(weights.device, weights.dtype)
        for depth, logits in logits_at_depths(network, inputs, counts).items():
            predicted = counts[depth].add(logits.float().cpu().numpy(), labels)
            if depth == deepest and confusion is not None:
                confusion += count_confusion(len(confusion), labels, predicted)
        progress.add(len(labels))


@torch.inference_mode()
def _latencies(network: SReT, depths: Sequence[Depth], image_size: int) -> dict[Depth, float]:
    """Returns the median milliseconds of one image at each depth.

    Depths take turns, so that other work on the machine slows all of them down alike.
    """
    weights = network.pos_embed
    noise = torch.randn(1, network.arch.channels, image_size, image_size, generator=torch.Generator().manual_seed(0))
    image = noise.to(weights.device, weights.dtype)
    seconds: dict[Depth, list[float]] = {depth: [] for depth in depths}
    started = time.monotonic()
    for turn in range(LATENCY_TURNS):
        if turn >= MIN_LATENCY_TURNS and time.monotonic() - started > LATENCY_SECONDS * len(depths):
            break
        for depth, times in seconds.items():
            times += time_passes(partial(network, image, depth), weights.device, 1, 0 if turn else 2, LATENCY_SECONDS)
    return {depth: 1e3 * statistics.median(times) for depth, times in seconds.items()}


def _details(request: EvaluationRequest, images: WholeImages, preprocessing: Preprocessing) -> dict[str, Any]:
    return {
        "data": request.data.data,
        "data_digest": images.digest,
        "preprocessing": preprocessing.model_dump(mode="json"),
        "versions": versions(),
    }
