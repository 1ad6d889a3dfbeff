"""`export`: a trained network as ONNX, torch.export or OpenVINO, checked against the network before a file is kept."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from sret_nas.errors import UserError
from sret_nas.nn.export import (
    MAX_SINGLE_FILE,
    cut_recursions,
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
from sret_nas.plurals import counted

from ..console import print_line
from ..data import DataConfig
from ..data.whole_images import WholeImages
from ..training.devices import compute_with
from .export_images import NUM_CHECKED, ComparedImages, compared_images
from .export_latency import LARGE_BATCH, TimedNetwork, latency_table, median_latencies
from .export_request import OPENVINO_FILES, ExportRequest, data_file
from .generated_images import natural_noise
from .trained_network import TrainedNetwork, load_trained, recursion_limit

TOLERANCE = 1e-4
"""Largest difference of logits, over the largest logit or 1, between the network and what was exported in float32."""

CHECKED_BATCHES = (1, 7)
MIN_AGREEMENT = 0.9
"""Share of images with the same best class below which a line warns of 8 bits."""


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
        exporter.export(compared_images(request, whole, trained, network, console))


def _trained(request: ExportRequest, whole: WholeImages | None, console: Console) -> TrainedNetwork:
    """Returns the network, with constants of its images from wherever they are known."""
    trained = load_trained(request.source)
    for note in trained.notes:
        print_line(console, note)
    if request.mean is not None and request.std is not None:
        trained = trained.with_mean_and_std(request.mean, request.std)
    trained = trained if whole is None else trained.completed_by(whole)
    own, seen = trained.network.arch.image_size, trained.preprocessing
    if seen is not None and seen.image_size != own:  # an exported network takes images of one size
        print_line(console, f"The network is resized from {own} to {seen.image_size} px, the size of its images")
        trained.network.resize(seen.image_size)
    return trained


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

    def export(self, images: ComparedImages) -> None:
        """Writes all files that were asked for, each after its comparison with the network.

        Raises `UserError` if a library is missing, or a file's outputs are not the network's.
        """
        request, threads = self._request, self._request.threads
        arch = self._network.arch
        print_line(self._console, f"Exporting {arch.arch_id}: {arch.summary()}")
        print_line(self._console, f"Compared on {images.origin}")
        rows = [TimedNetwork("PyTorch", self._logits, None)]
        with self._console.status("Tracing"):
            program = trace(self._network, self._standardisation)
        if request.torch_export is not None:
            path = self._folders["--torch-export"] / request.torch_export.name
            write_torch_export(program, path, self._info)
            model = open_torch_export(path, threads)
            rows.append(self._compare_and_keep("--torch-export", model, images, {path: request.torch_export}))
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
        """What the exported network does to images of 8 bits; None if it takes standardised ones."""
        return self._info.preprocessing if self._request.with_preprocessing else None

    def _as_taken(self, images: Tensor) -> Tensor:
        """Returns standardised images as the exported network takes them."""
        return images if self._standardisation is None else to_pixels(images, self._standardisation)

    def _logits(self, images: Tensor) -> Tensor:
        with torch.inference_mode():
            logits: Tensor = self._network(images)
            return logits

    def _openvino(self, fp32: Path, folder: Path, images: ComparedImages) -> TimedNetwork:
        written = self._folders["--openvino"] / OPENVINO_FILE
        with self._console.status("Converting to OpenVINO"):
            write_openvino(fp32, written, self._info)
        model = open_openvino(written, self._request.threads)
        # The weights come first, so that the file that names them is never without them.
        moves = {written.with_suffix(".bin"): folder / OPENVINO_FILES[1], written: folder / OPENVINO_FILES[0]}
        return self._compare_and_keep("--openvino", model, images, moves)

    def _onnx(self, fp32: Path, path: Path, images: ComparedImages) -> list[TimedNetwork]:
        model = open_onnx(fp32, self._request.threads)
        if not self._request.int8:
            moves = {data_file(fp32): data_file(path), fp32: path}
            written = {file: target for file, target in moves.items() if file.exists()}
            return [self._compare_and_keep("--onnx", model, images, written)]
        if data_file(fp32).exists():
            raise UserError(
                f"--int8 takes networks whose weights fit into one ONNX file of {MAX_SINGLE_FILE / 1e9:g} GB"
            )
        self._compare(model, images)
        return self._int8(fp32, path, model, images)

    def _int8(self, fp32: Path, path: Path, model: ExportedModel, images: ComparedImages) -> list[TimedNetwork]:
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
        with self._console.status(f"Scoring {counted(len(labels), 'test image')}, twice"):
            before, after = (_best(one, images.images) for one in (model, quantised))
        agreement = (before == after).float().mean().item()
        top1 = [(best == labels).float().mean().item() for best in (before, after)]
        self._move_into_place("--onnx", {written: path})
        print_line(
            self._console,
            f"{path}: ONNX opset {self._request.opset}, int8, calibrated on "
            f"{counted(len(images.calibration), 'training image')}, "
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
            TimedNetwork("ONNX", model.run, size, top1[0]),
            TimedNetwork("ONNX, int8", quantised.run, path.stat().st_size, top1[1]),
        ]

    def _compare_and_keep(
        self, option: str, model: ExportedModel, images: ComparedImages, moves: dict[Path, Path]
    ) -> TimedNetwork:
        """Compares a model with the network, moves its files to their names, and says so."""
        difference, largest = self._compare(model, images)
        self._move_into_place(option, moves)
        size = sum(path.stat().st_size for path in moves.values())
        what = f"{model.name.partition(',')[0]}{f' opset {self._request.opset}' if option == '--onnx' else ''}"
        print_line(self._console, f"{list(moves.values())[-1]}: {what}, fp32, {size / 1e6:.2f} MB")
        sizes = sizes_of(compared_batches(images.images))
        print_line(
            self._console,
            f"  logits of up to {largest:.3g} differ by at most {difference:.1g}, at batches of {sizes}",
        )
        name, takes_pixels = model.name.partition(",")[0], self._standardisation is not None
        return TimedNetwork(name, model.run, size, takes_pixels=takes_pixels)

    def _compare(self, model: ExportedModel, images: ComparedImages) -> tuple[float, float]:
        """Returns the largest difference of logits, and the largest logit. Raises `UserError` for a large one."""
        difference = largest = 0.0
        for batch in compared_batches(images.images):
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

    def _move_into_place(self, option: str, moves: dict[Path, Path]) -> None:
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

    def _show_latencies(self, rows: Sequence[TimedNetwork]) -> None:
        arch = self._network.arch
        noise = natural_noise(LARGE_BATCH, arch.channels, arch.image_size)
        with self._console.status("Measuring latency"):
            times = [median_latencies(self._runs(rows, noise[:number])) for number in (1, LARGE_BATCH)]
        self._console.print(latency_table(rows, *times, image_size=arch.image_size))

    def _runs(self, rows: Sequence[TimedNetwork], images: Tensor) -> list[Callable[[], Tensor]]:
        """Returns a pass of each network over the images, in the form that it takes."""
        pixels = self._as_taken(images)
        return [partial(row.run, pixels if row.takes_pixels else images) for row in rows]


def compared_batches(images: Tensor) -> list[Tensor]:
    """Returns the images on which networks are compared, in batches of `CHECKED_BATCHES`."""
    checked, (first, rest) = images[:NUM_CHECKED], CHECKED_BATCHES
    return [batch for batch in (checked[:first], *torch.split(checked[first:], rest)) if len(batch)]


def sizes_of(batches: Sequence[Tensor]) -> str:
    """Returns the sizes of batches in words, each once, such as `1, 5 and 7`."""
    *others, last = map(str, sorted({len(batch) for batch in batches}))
    return f"{', '.join(others)} and {last}" if others else last


@contextmanager
def _folder_beside(path: Path, option: str) -> Iterator[Path]:
    """Yields a temporary folder beside a file to be written, or above it where its folder does not exist yet.

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


def _best(model: ExportedModel, images: Tensor) -> Tensor:
    """Returns the class with the largest logit of each image."""
    return torch.cat([model.run(batch).argmax(dim=1) for batch in torch.split(images, LARGE_BATCH)])
