"""`landscape`: the losses around trained networks, along random directions, as numbers and pictures.

A landscape begins with copies of the networks and the images in its folder, so that it can be resumed whatever happens
to the originals. Each point is a job; its result is on disk before the next one is handed out.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.errors import ConfigError, UserError, printable
from sret_nas.files import digest_of_file, write_atomically
from sret_nas.nn.operating_points import Depth, full_depth
from sret_nas.output_files import new_folder, require_new_folder, require_outside
from sret_nas.plurals import counted
from sret_nas.quantities import format_seconds

from ..console import Console, count_progress, print_line
from ..data.image_files import mode_for
from ..data.whole_images import WholeImages
from ..engines.engine import Engine, RunJob
from ..engines.jobs import LandscapeJob, WeightsSource
from ..engines.results import Failure, LandscapeResult
from ..engines.retries import AttemptResult, JobQueue, default_time_limit
from ..interruption import ignore_signals_after_interrupt, raise_if_interrupted, unwrapped_interrupts
from ..program_name import resume_command
from ..report.drawing import warn_if_undrawn
from ..report.landscape import Landscapes, describe_network, landscapes_of, show_landscapes, to_json
from ..report.landscape_pictures import contour_picture, has_surfaces, profile_picture, surface_picture
from ..runs.create_engine import create_engine
from ..runs.directory import versions
from ..runs.full_disk import raise_if_full
from ..runs.landscape_options import ENGINE_FIELDS, LandscapeOptions
from ..runs.landscape_records import (
    IMAGES,
    MAX_NETWORKS,
    NETWORKS,
    GridPoint,
    Header,
    LandscapeRecords,
    RecordedNetwork,
    delete_inputs,
    write_header,
)
from ..runs.option_groups import flag
from ..training.full_recipe import Recipe
from ..training.landscape_images import ImagesRequest, prepare_images
from .trained_network import TrainedNetwork, load_trained, match_classes, recursion_limit

JSON, PROFILES_PNG, CONTOURS_PNG, SURFACES_PNG = "landscape.json", "profiles.png", "contours.png", "surfaces.png"

LINE_SECONDS = 10.0
"""Between two progress lines where there is no terminal."""
MEASURED_POINTS = 2
"""Points that are computed before the rest is announced with its duration; the first one is slower than the others."""


@ignore_signals_after_interrupt()
def start_landscape(
    options: LandscapeOptions, sources: Sequence[Path], out: Path, run_job: RunJob, console: Console
) -> Landscapes:
    """Computes the landscapes of networks in a new folder, and writes and prints the results.

    Args:
        options: which points and images, and where they are computed.
        sources: the networks, as `evaluate` takes them.
        out: the folder.
        run_job: what a worker does with a job.
        console: for plan, progress and results.

    Raises:
        UserError: there is no such network, images are missing, or the folder holds something. Nothing is written.
        KeyboardInterrupt: interrupted; every point that was computed is kept.
    """
    require_new_folder(out)
    require_outside(out, Path(options.data))
    if len(sources) > MAX_NETWORKS:
        raise UserError(f"a landscape compares at most {MAX_NETWORKS} networks, got {len(sources)}")
    if len(set(sources)) < len(sources):
        twice = next(source for source in sources if sources.count(source) > 1)
        raise UserError(f"{twice} is named twice: name every network once")
    _prepare(options, sources, out, console)
    with LandscapeRecords(out) as records:
        return _run(records, records.options, run_job, console)


@ignore_signals_after_interrupt()
def resume_landscape(out: Path, given: Mapping[str, Any], run_job: RunJob, console: Console) -> Landscapes:
    """Computes the points that are missing, and writes and prints the results; all of it, if none is missing.

    Args:
        out: the folder of the landscape.
        given: options on the command line, which may change where points are computed, but nothing else.
        run_job: what a worker does with a job.
        console: for plan, progress and results.

    Raises `UserError` as `LandscapeRecords` does, or for an option that may not change.
    """
    with LandscapeRecords(out) as records:
        options = records.options.with_given(given, "landscape")
        for name in given:
            if name not in ENGINE_FIELDS and getattr(records.options, name) != getattr(options, name):
                raise UserError(
                    f"{flag(name)} cannot change when a landscape is resumed: its points would not be comparable; "
                    "leave it out, or begin another landscape"
                )
        num_points = len(list(_points(options, len(records.header.networks))))
        points = counted(num_points, "point is", "points are")
        print_line(console, f"Resuming {out}: {len(records.points):,} of {points} there")
        return _run(records, options, run_job, console)


@dataclass(frozen=True)
class _Network:
    """A network of the landscape, with everything that decides its images."""

    name: str
    trained: TrainedNetwork
    depth: Depth
    request: ImagesRequest
    recipe: Recipe | None

    @property
    def shares_images_with(self) -> str:
        """A text that is equal for networks with the same images."""
        request = self.request
        recipe = None if request.recipe is None else request.recipe.model_dump(mode="json")
        parts = [request.preprocessing.model_dump(mode="json"), recipe, request.label_of.tolist(), request.classes]
        return json.dumps(parts)


def _prepare(options: LandscapeOptions, sources: Sequence[Path], out: Path, console: Console) -> None:
    """Writes networks, images and the header into the new folder: whole, or not at all."""
    found = WholeImages.find(options.data_config_at(32))  # the size has no effect
    for note in found.notes:
        print_line(console, note)
    networks = [_network(source, options, found, console) for source in sources]
    if options.loss == "training" and all(network.recipe is None for network in networks):
        raise UserError("no network says how it was trained, so the training's loss is not known: give --recipe")
    print_line(console, f"Data: {options.data}: {found.summary()}")
    with new_folder(out) as folder:
        (folder / NETWORKS).mkdir()
        images: dict[str, tuple[str, str]] = {}
        recorded = []
        for index, network in enumerate(networks):
            key = network.shares_images_with
            if key not in images:
                name = f"{IMAGES}/{len(images)}"
                (folder / name).mkdir(parents=True)
                images[key] = name, prepare_images(folder / name, network.request)
            weights = f"{NETWORKS}/{index}.safetensors"
            network.trained.network.save(folder / weights)
            recorded.append(_recorded(network, weights, digest_of_file(folder / weights), *images[key]))
            print_line(console, describe_network(recorded[-1]))
        header = Header(
            time=time.time(), options=options.model_dump(mode="json"), networks=tuple(recorded), versions=versions(),
            data={"source": options.data, "summary": found.summary(), "digest": found.digest},
            limits_cluster=options.limits_cluster,
        )  # fmt: skip
        write_header(folder, header)


def _network(source: Path, options: LandscapeOptions, images: WholeImages, console: Console) -> _Network:
    trained = load_trained(source)
    for note in trained.notes:
        print_line(console, note)
    if trained.preprocessing is None:
        trained = trained.with_images_of(images)
        print_line(
            console,
            f"{trained.path} does not say how its images were prepared: the whole square is taken, standardised by "
            "mean and deviation of the training images",
        )
    label_of, _ = match_classes(trained, images.class_names, options.data)
    preprocessing = trained.preprocessing
    assert preprocessing is not None
    mode_for(preprocessing)  # refuses other channels before anything is computed
    trained.network.float()  # as its images are; weights may have been saved in half precision
    arch = trained.network.arch
    recipe = _recipe(trained, options, console) if options.has_training_loss else None
    calibration = 0
    if options.stem_statistics == "renewed":
        calibration = options.images if recipe is None else max(2, recipe.recalibration_images)
    request = ImagesRequest(
        images=images, preprocessing=preprocessing, classes=arch.classes, label_of=label_of, part=options.part,
        count=options.images, recipe=recipe, calibration=calibration, seed=options.seed, threads=options.threads,
    )  # fmt: skip
    return _Network(str(source), trained, _depth(arch, options), request, recipe)


def _depth(arch: ArchConfig, options: LandscapeOptions) -> Depth:
    if options.recursions is None:
        return full_depth(arch)
    try:
        return full_depth(arch.with_max_recursions(recursion_limit(options.recursions)))
    except ValueError:
        given = ",".join(map(str, options.recursions))
        stages = len(arch.stages)
        raise UserError(f"--recursions must be one number, or one for each of {stages} stages, got {given}") from None


def _recipe(trained: TrainedNetwork, options: LandscapeOptions, console: Console) -> Recipe | None:
    """Returns the recipe of the training's loss; None, after a note, if it is not known."""
    if options.recipe is not None:
        return Recipe.load(options.recipe, {})
    known = trained.recipe or {}
    try:
        return Recipe.parse({name: known[name] for name in Recipe.model_fields if name in known}, str(trained.path))
    except ConfigError:
        print_line(
            console,
            f"note: {trained.path} does not say how it was trained, so only its plain loss is computed; see --recipe",
        )
        return None


def _recorded(network: _Network, weights: str, digest: str, images: str, images_digest: str) -> RecordedNetwork:
    trained, recipe = network.trained, network.recipe
    arch = trained.network.arch
    return RecordedNetwork(
        name=network.name, source=str(trained.path), arch_id=arch.arch_id, recursions=network.depth,
        flops=cost_of(arch.with_max_recursions(network.depth)).flops, weights=weights, weights_digest=digest,
        images=images, images_digest=images_digest, num_images=network.request.sizes,
        weight_decay=None if recipe is None else recipe.weight_decay,
        recipe=None if recipe is None else recipe.model_dump(mode="json"),
    )  # fmt: skip


def _points(options: LandscapeOptions, num_networks: int) -> Iterator[GridPoint]:
    """Yields all points, each once: of one network after the other, and lines before surfaces."""
    indices = range(-options.half, options.half + 1)
    for network in range(num_networks):
        yield GridPoint(network, 0, 0, 0)
        for pair in range(options.pairs):
            yield from (GridPoint(network, pair, i, 0) for i in indices if i != 0)
            yield from (GridPoint(network, pair, 0, j) for j in indices if j != 0)
            if pair < options.surfaces:
                yield from (GridPoint(network, pair, i, j) for j in indices for i in indices if i != 0 and j != 0)


def _run(records: LandscapeRecords, options: LandscapeOptions, run_job: RunJob, console: Console) -> Landscapes:
    """Computes the missing points, then writes and prints the results."""
    todo = [point for point in _points(options, len(records.header.networks)) if point not in records.points]
    if todo:
        try:
            with (
                unwrapped_interrupts(),
                create_engine(options, run_job, len(todo), records.directory, console) as engine,
            ):
                _Work(records, options, engine, todo, console).run()
        except KeyboardInterrupt:
            print_line(console, f"Interrupted; carry on with: {resume_command('landscape', records.directory)}")
            raise
    landscapes = landscapes_of(records.header, options, records.points)
    _write(records.directory, landscapes, console)
    show_landscapes(landscapes, console)
    print_line(console, f"Values and pictures: {records.directory}")
    return landscapes


def _write(directory: Path, landscapes: Landscapes, console: Console) -> None:
    write_atomically(directory / JSON, to_json(landscapes))
    remedy = f"the values are whole; to draw them again: {resume_command('landscape', directory)}"
    with warn_if_undrawn(console, f"pictures in {directory}", remedy):
        write_atomically(directory / PROFILES_PNG, profile_picture(landscapes))
        if has_surfaces(landscapes):
            write_atomically(directory / CONTOURS_PNG, contour_picture(landscapes))
            write_atomically(directory / SURFACES_PNG, surface_picture(landscapes))
    delete_inputs(directory)


class _Work:
    """The points that are left to compute."""

    def __init__(
        self, records: LandscapeRecords, options: LandscapeOptions, engine: Engine, todo: Sequence[GridPoint],
        console: Console,
    ) -> None:  # fmt: skip
        self._records, self._options, self._engine = records, options, engine
        self._todo, self._console = todo, console
        self._queue = JobQueue(engine)
        self._num_added = self._num_ended = 0
        self._work_left = sum(map(self._cost, todo))
        """Of the points that have not ended. It is counted down, since there may be hundreds of thousands of them."""
        self._seconds: list[float] = []
        """Of the points that were computed, over the work that `_cost` states."""
        self._bar = count_progress(console, "points")
        self._task = self._bar.add_task("points", total=len(todo), text="")
        self._last_line = time.monotonic()
        self._is_announced = False

    def run(self) -> None:
        """Computes all points. Raises what `_raise` does for the first one that fails for good."""
        first = min(MEASURED_POINTS, len(self._todo))
        for count in range(1, first + 1):  # one by one: the plan needs the time of a point alone
            self._compute(until=count)
        self._announce()
        with self._bar:
            self._compute(until=len(self._todo))

    def _compute(self, until: int) -> None:
        while self._num_ended < until:
            raise_if_interrupted()
            # No more than are needed soon: there may be hundreds of thousands of points.
            while self._num_added < min(until, self._num_ended + 2 * self._engine.capacity):
                job = self._job(self._todo[self._num_added])
                self._queue.add(self._num_added, job, self._time_limit(self._todo[self._num_added]))
                self._num_added += 1
            self._queue.start()
            for end in self._queue.wait():
                self._take_in(end)

    def _take_in(self, end: AttemptResult) -> None:
        point = self._todo[end.job_id]
        if end.failure is not None:
            if not end.will_run_again:
                _raise(end.failure)
            print_line(self._bar.console, f"A point failed and runs again: {printable(end.failure.message)}")
            return
        result = LandscapeResult.model_validate(end.result)
        self._records.add(point, result)
        self._num_ended += 1
        cost = self._cost(point)
        self._work_left = max(0.0, self._work_left - cost)  # sums of floats are rounded
        self._seconds.append(result.seconds / cost)
        self._show()

    def _show(self) -> None:
        text = f"{format_seconds(self._seconds_left)} left"
        self._bar.update(self._task, completed=self._num_ended, text=text)
        now = time.monotonic()
        is_between = self._is_announced and self._num_ended < len(self._todo)
        if is_between and not self._console.is_terminal and now - self._last_line > LINE_SECONDS:
            print_line(self._console, f"{self._num_ended:,} of {counted(len(self._todo), 'point')}, {text}")
            self._last_line = now

    @property
    def _seconds_left(self) -> float:
        return self._work_left * statistics.median(self._seconds[-50:]) / self._engine.capacity

    def _cost(self, point: GridPoint) -> float:
        """Returns the work of a point, in multiply-adds."""
        network = self._records.header.networks[point.network]
        return float(network.flops * sum(network.num_images.values()))

    def _announce(self) -> None:
        self._is_announced = True
        seconds = min(self._seconds)
        expected = seconds * self._work_left / self._engine.capacity
        each = seconds * self._cost(self._todo[-1])
        print_line(
            self._console,
            f"Plan: {counted(len(self._todo), 'point')} of "
            f"{counted(len(self._records.header.networks), 'network')}, about "
            f"{format_seconds(each)} each, {self._engine.capacity} at once: about {format_seconds(expected)}",
        )
        print_line(self._console, f"Results: {self._records.directory}")

    def _time_limit(self, point: GridPoint) -> float | None:
        if self._options.trial_timeout is not None:
            return self._options.trial_timeout
        return default_time_limit(max(self._seconds) * self._cost(point)) if self._seconds else None

    def _job(self, point: GridPoint) -> LandscapeJob:
        options, directory = self._options, self._records.directory
        network = self._records.header.networks[point.network]
        key = f"landscape {options.seed}/{point.pair}"
        return LandscapeJob(
            network=WeightsSource(path=str(directory / network.weights), digest=network.weights_digest),
            data_dir=str(directory / network.images), data_digest=network.images_digest, device=options.device,
            threads=options.usable_threads, batch_size=options.batch_size, directions=(f"{key}/0", f"{key}/1"),
            x=point.i * options.step, y=point.j * options.step, recursions=network.recursions,
            renews_statistics=options.stem_statistics == "renewed", weight_decay=network.weight_decay,
        )  # fmt: skip


def _raise(failure: Failure) -> None:
    """Raises the error of a point that failed for good."""
    raise_if_full(failure)
    message = printable(failure.message)
    if failure.cause == "refused":
        raise UserError(failure.message)
    if failure.cause == "out of memory":
        raise UserError(f"a point does not fit into memory: {message}; lower --batch-size or --workers")
    if failure.cause in ("worker died", "timed out", "suspended"):
        raise ChildProcessError(f"a point could not be computed: {message}; --resume carries on")
    raise RuntimeError(f"a point failed: {message}\n{failure.traceback}")
