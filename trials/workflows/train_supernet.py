"""`supernet train`: trains a supernet from its options to a run directory, or resumes it, in one or more processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator
from rich.console import Console
from rich.table import Table

from sret_nas.errors import UserError
from sret_nas.feasible.feasible_set import FeasibleSet
from sret_nas.files import validate, write_atomically
from sret_nas.nn.supernet import Supernet
from sret_nas.output_files import require_empty_folder
from sret_nas.plurals import counted
from sret_nas.quantities import format_quantity, format_seconds
from sret_nas.space.search_space import SearchSpace
from sret_nas.yaml_files import dump_yaml, read_yaml

from ..console import Working, print_line
from ..data import PreparedData
from ..data.dataset_cache import cached_dataset, require_apart, same_dataset
from ..data.sufficiency import data_warnings
from ..distributed.choose_launcher import launcher_for
from ..distributed.launcher import Launcher, RayPlacement
from ..lost_directory import LostDirectoryError
from ..machine import num_cores
from ..program_name import resume_command
from ..runs.directory import SUPERNET, TRAINING, locked, new_run_dir, record_new_training, require_new_training
from ..runs.option_groups import flag, validate_as_typed, with_data_root
from ..runs.run_kinds import instead
from ..runs.supernet_train_options import CHANGEABLE, OF_SEARCHES, SupernetTrainOptions
from ..runs.target import require_possible, target_for
from ..supernet.config import SupernetConfig
from ..supernet.job import TrainingJob
from ..supernet.speed import steps_within
from ..supernet.training import check_shards
from ..training.prepared_labels import SoftLabelSource
from ..training.recipe import DivergedError

_FLAGS = {"supernet_images": "--images", "distil": "--no-distil"}
"""Options of this command whose names differ from their fields."""


class RecordedSupernetTraining(BaseModel):
    """The content of `TRAINING`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    options: SupernetTrainOptions
    config: SupernetConfig
    space: dict[str, Any]
    """The whole space, since the file that it was read from may change."""
    data_digest: str | None = None
    """Digest of the images; None in files of earlier versions."""
    soft_labels: SoftLabelSource | None = None
    """What is learned in place of the images' classes, and where it was when the training began."""

    @field_validator("options", mode="before")
    @classmethod
    def _drop_options_of_searches(cls, options: object) -> object:
        if not isinstance(options, dict):
            return options
        return {name: value for name, value in options.items() if name not in OF_SEARCHES}

    def write(self, run_dir: Path) -> None:
        """Writes `TRAINING` into a run directory."""
        write_atomically(run_dir / TRAINING, dump_yaml(self.model_dump(mode="json")))


def parse_training(given: Mapping[str, Any]) -> tuple[SupernetTrainOptions, SupernetConfig]:
    """Returns the options and the configuration of a training from the command line.

    The length of the training in the configuration is a placeholder, because it depends on the number of images.

    Args:
        given: Plain data by field name of either class.

    Raises `ConfigError` with the first thing that is wrong.
    """
    source = "supernet train"
    shared = {name: value for name, value in given.items() if name in SupernetTrainOptions.model_fields}
    own = {name: value for name, value in given.items() if name not in shared}
    options = SupernetTrainOptions.parse(shared, source)
    training = options.supernet_training(num_train_images=1).model_dump()
    fields = {"training": training, "precision": options.precision, **own}
    return options, validate_as_typed(SupernetConfig, fields, source, _FLAGS)


def start_training(
    options: SupernetTrainOptions, config: SupernetConfig, run_dir: Path | None, seconds: float | None,
    console: Console, placement: RayPlacement | None = None,
) -> Path:  # fmt: skip
    """Trains a supernet and returns its file.

    Args:
        config: How it is trained, except for the length, which follows from `options`.
        seconds: A time budget, instead of a number of images.
        placement: How Ray places the processes; None trains here.

    Raises `UserError`, before anything is written, if the training is impossible.
    """
    if seconds is not None and options.supernet_images is not None:
        raise UserError("--images and --time-budget exclude each other: both say how long the training is")
    space = options.load_space()
    require_possible(space, options.budget)
    with launcher_for(options.device, placement, options.given_threads) as launcher:
        options = _with_threads(options, launcher)
        _describe_threads(options, placement, launcher, console)
        if run_dir is None and launcher.num_processes > 1:
            raise UserError("several processes must be told where to meet: name the run directory with --out")
        run_dir = new_run_dir() if run_dir is None else run_dir
        require_new_training(run_dir)
        require_empty_folder(run_dir)
        console = console if launcher.is_first else Console(quiet=True)
        require_apart(run_dir, options.data_config)
        data = _on_first(launcher, lambda: cached_dataset(run_dir, options.data_config, console)[1])
        space, line = target_for(space, data)
        for note in (*data_warnings(data), *([] if line is None else [line])):
            print_line(console, note)
        FeasibleSet(space, options.budget).check()
        labels = None if options.soft_labels is None else SoftLabelSource.of(options.soft_labels, data)
        planned = _planned(_job(options, config, space, data, labels), options, seconds, run_dir, launcher, console)
        recorded = RecordedSupernetTraining(
            options=options, config=planned.config, space=space.to_dict(), data_digest=data.digest, soft_labels=labels
        )
        launcher.wait()  # until all have looked whether there is a training already
        if launcher.is_first:
            record_new_training(run_dir, recorded.write)
        return _train(run_dir, planned, recorded, launcher, console)


def resume_training(
    run_dir: Path, given: Mapping[str, Any], console: Console, placement: RayPlacement | None = None
) -> Path:
    """Resumes a training from its last checkpoint and returns the supernet's file.

    Raises `UserError` if there is no training, or if options are given that must not change.
    """
    other = instead(run_dir, "training of a supernet")
    if not (run_dir / TRAINING).is_file() or other:
        missing = "" if (run_dir / TRAINING).is_file() else f": there is no {TRAINING} in it"
        raise UserError(f"{run_dir} holds no training of a supernet{missing}{other}")
    others = sorted(given.keys() - CHANGEABLE)
    if others:
        named = _FLAGS.get(others[0], flag(others[0]))
        raise UserError(
            f"a resumed training keeps its options, {named} among them: leave it out, or train in a new directory"
        )
    recorded = validate(RecordedSupernetTraining, read_yaml(run_dir / TRAINING), str(run_dir / TRAINING))
    options = recorded.options.with_given(with_data_root(given), "supernet train")
    space = SearchSpace.from_dict(recorded.space, str(run_dir / TRAINING))
    with launcher_for(options.device, placement, options.threads) as launcher:
        console = console if launcher.is_first else Console(quiet=True)
        config, digest = options.data_config, recorded.data_digest
        data = _on_first(launcher, lambda: same_dataset(run_dir, config, digest, console, "training")[1])
        print_line(console, f"Carrying on in {run_dir}")
        _describe_threads(options, placement, launcher, console)
        labels = _labels_now(recorded, options.soft_labels, data)
        return _train(run_dir, _job(options, recorded.config, space, data, labels), recorded, launcher, console)


def _labels_now(recorded: RecordedSupernetTraining, path: str | None, data: PreparedData) -> SoftLabelSource | None:
    """Returns the recorded soft labels where they lie now. Raises `UserError` if they are others, or not there."""
    if recorded.soft_labels is None:
        if path is not None:
            raise UserError(
                "a resumed training keeps its labels, which are the images' classes: leave out --soft-labels"
            )
        return None
    labels = recorded.soft_labels.model_copy(update={"path": path})
    labels.open(data)
    return labels


def _with_threads(options: SupernetTrainOptions, launcher: Launcher) -> SupernetTrainOptions:
    """Returns the options with the number of threads set, by default to the cores that a process has."""
    return options if options.given_threads is not None else options.model_copy(update={"threads": launcher.threads})


def _describe_threads(
    options: SupernetTrainOptions, placement: RayPlacement | None, launcher: Launcher, console: Console
) -> None:
    """Prints that this machine has fewer cores than there are to be threads, if so."""
    if placement is None and launcher.is_first and options.threads > num_cores():
        print_line(
            console, f"note: --threads {options.threads} is more than can be used: {counted(num_cores(), 'core')}"
        )


def _on_first(launcher: Launcher, prepare: Callable[[], PreparedData]) -> PreparedData:
    """Returns the images, which the first process prepares while the others wait."""
    if not launcher.is_first:
        launcher.wait()
    data = prepare()
    if launcher.is_first:
        launcher.wait()
    return data


def _job(
    options: SupernetTrainOptions, config: SupernetConfig, space: SearchSpace, data: PreparedData,
    labels: SoftLabelSource | None,
) -> TrainingJob:  # fmt: skip
    return TrainingJob(
        space=space, budget=options.budget, proxy=options.proxy(len(data.train)), config=config,
        data_dir=data.directory.absolute(), seed=options.seed, device=options.device, threads=options.threads,
        soft_labels=labels,
    )  # fmt: skip


def _planned(
    job: TrainingJob,
    options: SupernetTrainOptions,
    seconds: float | None,
    run_dir: Path,
    launcher: Launcher,
    console: Console,
) -> TrainingJob:
    """Returns the job with the length of the training set, and prints the plan with its expected time."""
    data, labels = job.images(), job.soft_labels
    num_images = len(data.train)
    length = options.supernet_training(num_images)
    batch_size = min(length.batch_size, num_images)
    check_shards(batch_size, job.config, launcher.world_size)  # before Ray starts any process
    with Working(console, "Measuring how fast the supernet trains on this machine"):
        measured = launcher.measure(replace(job, config=job.config.model_copy(update={"training": length})))
    if seconds is not None:
        images = steps_within(seconds, measured.seconds_per_step) * batch_size
        length = length.model_copy(update={"images": images})
    steps = length.num_steps(num_images)
    for line in (
        f"Supernet: {format_quantity(measured.parameters)} parameters for the networks of {job.space.name}, "
        f"{job.budget.describe()}; seed {job.seed}",
        f"Plan: {counted(steps, 'step')}, {counted(length.images, 'training image')} at {job.proxy.image_size} px, "
        f"{measured.precision}; about {format_seconds(steps * measured.seconds_per_step)}, and a little for "
        "checkpoints and scores",
        *([] if labels is None else [f"Labels: {labels.describe(data, length.num_epochs(num_images))}"]),
        f"Results: {run_dir}",
    ):
        print_line(console, line)
    # The choice is recorded, so that a resumed training keeps it, wherever it goes on.
    return replace(job, config=job.config.model_copy(update={"training": length, "precision": measured.precision}))


def _train(
    run_dir: Path, job: TrainingJob, recorded: RecordedSupernetTraining, launcher: Launcher, console: Console
) -> Path:
    carry_on = f"carry on with: {_resuming(run_dir, launcher)}"
    try:
        with locked(run_dir, "training") if launcher.is_first else nullcontext():
            path = launcher.train(job, run_dir, console)
    except DivergedError as error:
        raise UserError(str(error)) from None
    except LostDirectoryError as error:
        if error.rescued is None:
            raise
        recorded.write(error.rescued)
        raise LostDirectoryError(f"{error}: carry on with: {_resuming(error.rescued, launcher)}") from None
    except ConnectionError as error:
        raise ConnectionError(f"{error}; {carry_on}") from None
    except KeyboardInterrupt:
        print_line(console, f"Interrupted; {carry_on}")
        raise
    _show_updates(Supernet.load(path)[1], console)
    print_line(console, f"Supernet: {run_dir / SUPERNET}")
    return path


def _resuming(run_dir: Path, launcher: Launcher) -> str:
    """Returns the command that resumes a training in the same way."""
    return resume_command("supernet train", run_dir, launcher.flags)


def _show_updates(training: dict[str, Any], console: Console) -> None:
    """Prints how often the least and the most trained blocks and NLLs were updated."""
    table = Table(
        "", "least updated", "steps", "most updated", "steps", title=f"Updates in {counted(training['steps'], 'step')}"
    )
    for kind in ("blocks", "NLLs"):
        counts = [(steps, name) for name, steps in training["updates"].items() if ("NLL" in name) == (kind == "NLLs")]
        if counts:
            (least, first), (most, last) = min(counts), max(counts)
            table.add_row(kind, first, f"{least:,}", last, f"{most:,}")
    console.print(table)
