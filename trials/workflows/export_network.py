"""`export`: a trained network as ONNX, torch.export or OpenVINO, checked against the network before a file is kept."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from sret_nas.errors import UserError
from sret_nas.nn.export import (
    DEFAULT_OPSET,
    MAX_OPSET,
    MAX_SINGLE_FILE,
    MIN_OPSET,
    cut_recursions,
    require,
    trace,
    write_onnx,
    write_openvino,
    write_torch_export,
)
from sret_nas.nn.exported_info import ExportedInfo
from sret_nas.nn.exported_model import (
    OPENVINO_FILE,
    ExportedModel,
    from_pixels,
    open_onnx,
    open_openvino,
    open_torch_export,
    to_pixels,
)
from sret_nas.nn.model_directory import Preprocessing
from sret_nas.nn.network import SReT
from sret_nas.nn.quantization import quantize_onnx
from sret_nas.output_files import require_free, require_outside

from ..console import print_line
from ..data import DataConfig
from ..data.image_files import image_batches, mode_for
from ..data.whole_images import WholeImages, WholePart
from ..machine import processor_name
from ..training.devices import compute_with
from .generated_images import natural_noise
from .trained_network import TrainedNetwork, load_trained, match_classes, recursion_limit

TOLERANCE = 1e-4
"""Largest difference of logits, over the largest logit or 1, between the network and what was exported in float32."""

CHECKED_BATCHES = (1, 7)
NUM_CHECKED = 64
"""Images on which an exported network is compared with the network."""
NUM_SCORED = 1000
"""Test images on which the accuracy of 8 bits is measured, unless `--images` says otherwise."""
NUM_CALIBRATION = 256
"""Training images that give the ranges of activations."""
MIN_AGREEMENT = 0.9
"""Share of images with the same best class below which a line warns of 8 bits."""

LARGE_BATCH = 16
MAX_PASSES = 30
MAX_SECONDS = 5.0
"""Passes of each network, or seconds of all together, for a latency."""


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """What is exported, and where to."""

    source: Path
    onnx: Path | None = None
    torch_export: Path | None = None
    openvino: Path | None = None
    """A folder, for two files."""
    int8: bool = False
    with_preprocessing: bool = False
    """Whether the files take images of 8 bits and standardise them."""
    opset: int = DEFAULT_OPSET
    recursions: tuple[int, ...] | None = None
    """Largest number of recursions, one for all stages or one for each; None keeps all."""
    data: str | None = None
    data_root: str | None = None
    split_seed: int = 0
    images: int = NUM_SCORED
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    threads: int = 1
    force: bool = False

    def check(self) -> None:
        """Raises `UserError` for options that contradict each other, or a library that is missing."""
        if not self.outputs:
            raise UserError("name what to write: --onnx FILE, --torch-export FILE or --openvino DIR")
        for option, path, ending in (("--onnx", self.onnx, ".onnx"), ("--torch-export", self.torch_export, ".pt2")):
            if path is not None and path.suffix != ending:
                raise UserError(f"{option} must name a {ending} file, got {path}")
        if not MIN_OPSET <= self.opset <= MAX_OPSET:
            raise UserError(f"--opset must be from {MIN_OPSET} to {MAX_OPSET}, got {self.opset}")
        if self.int8 and self.onnx is None:
            raise UserError("--int8 quantises the ONNX file: name it with --onnx")
        if self.int8 and self.data is None:
            raise UserError("--int8 needs images to calibrate on: name those of the training with --data")
        if self.int8 and self.with_preprocessing:
            raise UserError(
                "--int8 and --with-preprocessing exclude each other: 8 bits are calibrated on float32 images"
            )
        if self.data_root is not None and self.data is None:
            raise UserError("--data-root goes with the name of a torchvision data set, which --data must give")
        if (self.mean is None) != (self.std is None):
            raise UserError("--mean and --std go together")
        if self.onnx is not None or self.openvino is not None:
            require("onnx", "onnxscript", "onnxruntime")
        if self.openvino is not None:
            require("openvino")

    @property
    def outputs(self) -> dict[str, list[Path]]:
        """The files to write, by the option that names them."""
        by_option = {
            "--onnx": [] if self.onnx is None else [self.onnx, data_file(self.onnx)],
            "--torch-export": [] if self.torch_export is None else [self.torch_export],
            "--openvino": [] if self.openvino is None else [self.openvino / name for name in OPENVINO_FILES],
        }
        return {option: paths for option, paths in by_option.items() if paths}


OPENVINO_FILES = (OPENVINO_FILE, str(Path(OPENVINO_FILE).with_suffix(".bin")))


def data_file(path: Path) -> Path:
    """Returns the file beside an ONNX file that holds its weights if they are too large for it."""
    return path.with_name(f"{path.name}.data")


@dataclass(frozen=True)
class _Images:
    """Standardised images (n, channels, side, side) on which networks are compared."""

    images: Tensor
    labels: Tensor | None
    calibration: Tensor | None
    origin: str


def export_network(request: ExportRequest, console: Console) -> None:
    """Writes what a request names, after comparing each with the network, and prints a table of latencies.

    Raises `UserError` for wrong input, or if what was exported differs from the network; nothing is written then.
    """
    request.check()
    whole = None
    if request.data is not None:
        whole = WholeImages.find(DataConfig(source=request.data, root=request.data_root, split_seed=request.split_seed))
    trained = _trained(request, whole, console)
    reads = [*trained.reads, *([Path(request.data)] if request.data is not None else [])]
    for option, paths in request.outputs.items():
        require_free(paths, reads=reads, force=request.force, option=option)
    if request.openvino is not None and request.data is not None:
        require_outside(request.openvino, Path(request.data), "--openvino")
    compute_with(request.threads)
    network = trained.network
    if request.recursions is not None:
        network = cut_recursions(network, recursion_limit(request.recursions))
    arch = network.current_arch
    info = ExportedInfo(
        architecture=arch, preprocessing=trained.preprocessing, class_names=trained.class_names, precision="fp32",
        pixels="uint8" if request.with_preprocessing else None,
    )  # fmt: skip
    if request.with_preprocessing and info.preprocessing is None:
        raise UserError(
            f"{request.source}: it is not known how images are standardised, which --with-preprocessing puts into the "
            "file: give the training's images with --data, or --mean and --std"
        )
    if info.preprocessing is None:
        print_line(
            console,
            "warning: it is not known how images are standardised, nor the names of classes, so the metadata does not "
            "say it: give the training's images with --data, or --mean and --std",
        )
    with ExitStack() as folders:
        exporter = _Exporter(request, network.float().eval(), info, reads, folders, console)
        exporter.export(_images(request, whole, trained, network, console))


def _trained(request: ExportRequest, whole: WholeImages | None, console: Console) -> TrainedNetwork:
    """Returns the network, with constants of its images from wherever they are known."""
    trained = load_trained(request.source)
    for note in trained.notes:
        print_line(console, note)
    if request.mean is not None and request.std is not None:
        trained = trained.with_mean_and_std(request.mean, request.std)
    if trained.preprocessing is None and whole is not None:
        trained = trained.with_images_of(whole)
    return trained


def _images(
    request: ExportRequest, whole: WholeImages | None, trained: TrainedNetwork, network: SReT, console: Console
) -> _Images:
    arch, preprocessing = network.arch, trained.preprocessing
    if whole is None:
        origin = f"{NUM_CHECKED} generated images: noise with the spectrum of photographs; --data names real ones"
        return _Images(natural_noise(NUM_CHECKED, arch.channels, arch.image_size), None, None, origin)
    assert preprocessing is not None  # with --data it is always known
    source, test = whole.config.source, whole.test
    mode_for(preprocessing)
    label_of, _ = match_classes(trained, whole.class_names, source)
    number = min(len(test), max(NUM_CHECKED, request.images) if request.int8 else NUM_CHECKED)
    is_grey = not any(test.is_in_colour(index) for index in range(number))
    if is_grey != (arch.channels == 1):
        kind = "grey" if is_grey else "in colour"
        raise UserError(f"{source}: its images are {kind}, but {trained.path} takes {arch.channels} channel(s)")
    with console.status("Decoding images"):
        images, labels = _decode(test, number, preprocessing, request.threads)
        calibration = None
        if request.int8:
            calibration, _ = _decode(whole.train, NUM_CALIBRATION, preprocessing, request.threads)
    return _Images(
        images=images,
        labels=torch.from_numpy(label_of[labels.numpy()]),
        calibration=calibration,
        origin=f"{min(number, NUM_CHECKED)} test images of {source}",
    )


def _decode(part: WholePart, number: int, preprocessing: Preprocessing, threads: int) -> tuple[Tensor, Tensor]:
    """Returns the first images of a part, standardised, and their labels."""
    positions = range(min(number, len(part)))
    batches = list(image_batches(part, positions, preprocessing, batch_size=LARGE_BATCH, threads=threads))
    images = torch.cat([torch.from_numpy(images) for images, _ in batches])
    return images, torch.cat([torch.from_numpy(labels) for _, labels in batches])


@dataclass(frozen=True)
class _Row:
    """A network in the table of latencies."""

    name: str
    run: Callable[[Tensor], Tensor]
    num_bytes: int | None
    """Of its files; None if it is in no file."""
    top1: float | None = None
    takes_pixels: bool = False
    """Whether it takes images of 8 bits."""


class _Exporter:
    """Writes the files of one request into temporary folders, compares them, and moves them to their names."""

    def __init__(
        self, request: ExportRequest, network: SReT, info: ExportedInfo, reads: Sequence[Path], folders: ExitStack,
        console: Console,
    ) -> None:  # fmt: skip
        self._request = request
        self._network = network
        self._info = info
        self._reads = reads
        self._console = console
        self._folders = {
            option: folders.enter_context(_folder_beside(paths[0], option)) for option, paths in request.outputs.items()
        }

    def export(self, images: _Images) -> None:
        request, threads = self._request, self._request.threads
        arch = self._network.arch
        print_line(self._console, f"Exporting {arch.arch_id}: {arch.summary()}")
        print_line(self._console, f"Compared on {images.origin}")
        rows = [_Row("PyTorch", self._logits, None)]
        with self._console.status("Tracing"):
            program = trace(self._network, self._standardisation)
        if request.torch_export is not None:
            path = self._folders["--torch-export"] / request.torch_export.name
            write_torch_export(program, path, self._info)
            model = open_torch_export(path, threads)
            rows.append(self._kept("--torch-export", model, images, {path: request.torch_export}))
        if request.onnx is not None or request.openvino is not None:
            option = "--onnx" if request.onnx is not None else "--openvino"
            fp32 = self._folders[option] / ("network.onnx" if request.onnx is None else request.onnx.name)
            with self._console.status("Converting to ONNX"):
                write_onnx(program, fp32, self._info, request.opset)
            if request.openvino is not None:
                rows.append(self._openvino(fp32, request.openvino, images))
            if request.onnx is not None:
                rows += self._onnx(fp32, request.onnx, images)
        self._show_latencies(rows)

    @property
    def _standardisation(self) -> Preprocessing | None:
        """Returns what the exported network does to images of 8 bits; None if it takes standardised ones."""
        return self._info.preprocessing if self._request.with_preprocessing else None

    def _as_taken(self, images: Tensor) -> Tensor:
        """Returns standardised images as the exported network takes them."""
        return images if self._standardisation is None else to_pixels(images, self._standardisation)

    def _logits(self, images: Tensor) -> Tensor:
        with torch.inference_mode():
            logits: Tensor = self._network(images)
            return logits

    def _openvino(self, fp32: Path, folder: Path, images: _Images) -> _Row:
        written = self._folders["--openvino"] / OPENVINO_FILE
        with self._console.status("Converting to OpenVINO"):
            write_openvino(fp32, written, self._info)
        model = open_openvino(written, self._request.threads)
        # The weights come first, so that the file that names them is never without them.
        moves = {written.with_suffix(".bin"): folder / OPENVINO_FILES[1], written: folder / OPENVINO_FILES[0]}
        return self._kept("--openvino", model, images, moves)

    def _onnx(self, fp32: Path, path: Path, images: _Images) -> list[_Row]:
        model = open_onnx(fp32, self._request.threads)
        if not self._request.int8:
            moves = {data_file(fp32): data_file(path), fp32: path}
            written = {file: target for file, target in moves.items() if file.exists()}
            return [self._kept("--onnx", model, images, written)]
        if data_file(fp32).exists():
            raise UserError(
                f"--int8 takes networks whose weights fit into one ONNX file of {MAX_SINGLE_FILE / 1e9:g} GB"
            )
        self._compare(model, images)
        return self._int8(fp32, path, model, images)

    def _int8(self, fp32: Path, path: Path, model: ExportedModel, images: _Images) -> list[_Row]:
        assert images.calibration is not None
        assert images.labels is not None
        size = fp32.stat().st_size
        written = fp32.with_name(f"{fp32.stem}.int8.onnx")
        with self._console.status("Quantising to 8 bits"):
            batches = (batch.numpy() for batch in torch.split(images.calibration, LARGE_BATCH))
            quantize_onnx(fp32, written, self._info, batches)
        quantised = open_onnx(written, self._request.threads)
        for number in CHECKED_BATCHES:
            quantised.run(images.images[:number])
        labels = images.labels
        with self._console.status(f"Scoring {len(labels):,} test images, twice"):
            before, after = (_best(one, images.images) for one in (model, quantised))
        agreement = (before == after).float().mean().item()
        top1 = [(best == labels).float().mean().item() for best in (before, after)]
        self._keep("--onnx", {written: path})
        print_line(
            self._console,
            f"{path}: ONNX opset {self._request.opset}, int8, calibrated on {len(images.calibration)} training images, "
            f"{path.stat().st_size / 1e6:.2f} MB",
        )
        print_line(
            self._console,
            f"  top-1 {top1[1]:.2%} where fp32 has {top1[0]:.2%}; same class for {agreement:.2%} of {len(labels):,} "
            f"test images of {self._request.data}",
        )
        if agreement < MIN_AGREEMENT:
            print_line(self._console, f"warning: 8 bits change the class of {1 - agreement:.1%} of the images")
        return [
            _Row("ONNX", model.run, size, top1[0]),
            _Row("ONNX, int8", quantised.run, path.stat().st_size, top1[1]),
        ]

    def _kept(self, option: str, model: ExportedModel, images: _Images, moves: dict[Path, Path]) -> _Row:
        """Compares a model with the network, moves its files to their names, and says so."""
        difference, largest = self._compare(model, images)
        self._keep(option, moves)
        size = sum(path.stat().st_size for path in moves.values())
        what = f"{model.name.partition(',')[0]}{f' opset {self._request.opset}' if option == '--onnx' else ''}"
        print_line(self._console, f"{list(moves.values())[-1]}: {what}, fp32, {size / 1e6:.2f} MB")
        print_line(
            self._console,
            f"  logits of up to {largest:.3g} differ by at most {difference:.1g}, at batches of "
            f"{' and '.join(map(str, CHECKED_BATCHES))}",
        )
        return _Row(model.name.partition(",")[0], model.run, size, takes_pixels=self._standardisation is not None)

    def _compare(self, model: ExportedModel, images: _Images) -> tuple[float, float]:
        """Returns the largest difference of logits, and the largest logit. Raises `UserError` for a large one."""
        checked = images.images[:NUM_CHECKED]
        difference = largest = 0.0
        for batch in (checked[: CHECKED_BATCHES[0]], *torch.split(checked[CHECKED_BATCHES[0] :], CHECKED_BATCHES[1])):
            taken = self._as_taken(batch)
            if self._standardisation is not None:  # generated images are no whole numbers before
                batch = from_pixels(taken, self._standardisation)
            expected, got = self._logits(batch), model.run(taken)
            if got.shape != expected.shape or not torch.isfinite(got).all():
                raise UserError(f"{model.name} gives no logits for a batch of {len(batch)}: nothing was written")
            difference = max(difference, (got - expected).abs().max().item())
            largest = max(largest, expected.abs().max().item())
        if difference > TOLERANCE * max(1.0, largest):
            raise UserError(
                f"the logits of {model.name} differ by {difference:.1e} from the network's, which reach {largest:.3g}; "
                f"at most {TOLERANCE:g} times these is allowed, so nothing was written: try another --opset"
            )
        return difference, largest

    def _keep(self, option: str, moves: dict[Path, Path]) -> None:
        """Moves finished files to their names."""
        targets = list(moves.values())
        require_free(targets, reads=self._reads, force=self._request.force, option=option)  # again: it took a while
        for file, target in moves.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(file, "rb+") as written:
                os.fsync(written.fileno())
            os.replace(file, target)
        if option == "--onnx" and data_file(targets[-1]) not in targets:
            data_file(targets[-1]).unlink(missing_ok=True)  # of the file that was replaced, with --force

    def _show_latencies(self, rows: Sequence[_Row]) -> None:
        arch, threads = self._network.arch, torch.get_num_threads()
        noise = natural_noise(LARGE_BATCH, arch.channels, arch.image_size)
        with self._console.status("Measuring latency"):
            times = [median_latencies(self._runs(rows, noise[:number])) for number in (1, LARGE_BATCH)]
        table = Table(
            "", "batch 1", f"batch {LARGE_BATCH}", "size",
            title=f"Median latency at {arch.image_size} px; {processor_name()}, {threads} thread{'s' * (threads > 1)}",
        )  # fmt: skip
        for column in table.columns[1:]:
            column.justify = "right"
        for row, one, large in zip(rows, *times, strict=True):
            size = "" if row.num_bytes is None else f"{row.num_bytes / 1e6:.2f} MB"
            table.add_row(row.name, _milliseconds(one), _milliseconds(large), size)
        self._console.print(table)

    def _runs(self, rows: Sequence[_Row], images: Tensor) -> list[Callable[[], Tensor]]:
        """Returns a pass of each network over the images, in the form that it takes."""
        pixels = self._as_taken(images)
        return [partial(row.run, pixels if row.takes_pixels else images) for row in rows]


@contextmanager
def _folder_beside(path: Path, option: str) -> Iterator[Path]:
    """A temporary folder beside a file to be written, or above it where its folder does not exist yet.

    Raises `UserError` if nothing can be written there.
    """
    parent = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    try:
        folder = Path(tempfile.mkdtemp(dir=parent, prefix=f".{path.name}."))
    except (PermissionError, NotADirectoryError, FileNotFoundError) as error:
        raise UserError(f"{path} cannot be written: {error.strerror}: name another {option}") from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _milliseconds(seconds: float) -> str:
    """Returns a time with three digits."""
    return f"{float(f'{1e3 * seconds:.3g}'):g} ms"


def _best(model: ExportedModel, images: Tensor) -> Tensor:
    """Returns the class with the largest logit of each image."""
    return torch.cat([model.run(batch).argmax(dim=1) for batch in torch.split(images, LARGE_BATCH)])


def median_latencies(runs: Sequence[Callable[[], Tensor]]) -> list[float]:
    """Returns the median seconds of a pass of each network.

    They take turns, so that a machine that slows down slows all of them.
    """
    seconds: list[list[float]] = [[] for _ in runs]
    for run in runs:
        run()  # the first pass allocates
    started = time.perf_counter()
    for passes in range(MAX_PASSES):
        if passes >= 3 and time.perf_counter() - started > MAX_SECONDS:
            break
        for run, measured in zip(runs, seconds, strict=True):
            start = time.perf_counter()
            run()
            measured.append(time.perf_counter() - start)
    return [statistics.median(measured) for measured in seconds]
