"""What runs write and later commands read: records, options, recorded trainings, and files that say what to run."""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from sret_nas.errors import UserError
from sret_nas.files import validate
from sret_nas.json_files import read_json
from sret_nas.nn.network import SReT
from sret_nas.yaml_files import dump_yaml, read_yaml
from tests.foreign_files.networks import PREPROCESSING
from tests.foreign_files.small import SMOKE, TINY, Kind, json_lines, renamed, with_checksums
from tests.trials.planted_search import write_search
from tests.trials.studies.tiny_study import DEFINITION
from trials.command_line.config_file import with_config
from trials.command_line.main import create_parser
from trials.engines.results import LandscapeResult, StudyTrainingResult
from trials.report.html import ReportInput, write_report
from trials.report.landscape import landscapes_of, show_landscapes, to_json
from trials.runs.directory import LANDSCAPE_FILE, RECORDS_FILE
from trials.runs.events import check_header
from trials.runs.history import read_history
from trials.runs.landscape_options import LandscapeOptions
from trials.runs.landscape_records import GridPoint, Header, LandscapeRecords, PointEvent, RecordedNetwork
from trials.runs.loaded_study import LoadedStudy
from trials.runs.options import SearchOptions
from trials.runs.recorded_search import RecordedSearch
from trials.runs.study_options import StudyOptions
from trials.runs.study_records import StudyHeader, TrainingFailed, TrainingFinished
from trials.runs.supernet_train_options import SupernetTrainOptions
from trials.runs.train_options import TrainOptions
from trials.strategies.strategy import Candidate
from trials.studies.show import show_study
from trials.supernet.config import SupernetConfig
from trials.training.augmentation import training_transform
from trials.training.checkpoint_file import write_checkpoint
from trials.training.full_progress import FullProgress
from trials.training.full_recipe import Recipe
from trials.training.full_state import CHECKPOINT, FullState
from trials.workflows import recorded_training, train_supernet
from trials.workflows.network_task import task_of
from trials.workflows.runs import show_run
from trials.workflows.train_network import parse_train

QUIET = Console(file=io.StringIO(), width=80)


@functools.cache
def _recipe() -> Recipe:
    return Recipe.load("small", {"epochs": 2, "warmup_epochs": 0.5, "auto_augment": "rand-m9-mstd0.5-inc1"})


def _read_recipe(path: Path) -> None:
    """As a training does: its transforms, optimiser and schedule are built."""
    recipe = Recipe.load(str(path), {})
    training_transform(recipe, PREPROCESSING, flip=True)
    FullState(SReT(TINY), recipe.model_copy(update={"compile": False}), 16, 10)


def _read_study(path: Path) -> None:
    show_study(str(path), QUIET, as_json=False)


def _study_records() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "study.yaml")
        file.write_text(dump_yaml(DEFINITION))
        loaded = LoadedStudy.load(str(file))
        options = StudyOptions.parse({"study": "study.yaml"}, "test")
    header = StudyHeader(
        time=1.0, command=("study",), options=options.model_dump(mode="json"), study=loaded.to_dict(),
        data={"name": "digits", "digest": "0", "classes": 10, "channels": 1, "train_images": 48,
              "val_images": 20, "test_images": 40},
        versions={"torch": "3"}, device="cpu", processor="one", expected_seconds={"internal": 1.0}, memory_mb=100.0,
    )  # fmt: skip
    result = StudyTrainingResult(
        arch_id="0", flops=10, params=10, error=0.5, cross_entropy=1.0, test_images=40, steps=6, images=96, skipped=0,
        train_seconds=0.5, seconds=1.0, precision="fp32", device="cpu", peak_memory_mb=100.0,
        depths=[{"recursions": (1,), "flops": 5, "error": 0.6, "cross_entropy": 1.5}],
        epochs=[{"epoch": 1, "images": 48, "train_loss": 1.0, "error": 0.5, "cross_entropy": 1.0}],
    )  # fmt: skip
    shared: dict[str, Any] = {"time": 2.0, "seconds": 1.0}
    ended = [
        TrainingFinished(variant=name, seed=seed, result=result, **shared)
        for name in ("internal", "external") for seed in (0, 1)
    ]  # fmt: skip
    failed = TrainingFailed(variant="internal", seed=2, failure={"cause": "diverged", "message": "nan"}, **shared)
    return json_lines(*(event.model_dump(mode="json") for event in (header, *ended, failed)))


def _read_study_records(path: Path) -> None:
    file = _signed(path, RECORDS_FILE)
    show_study(str(file.parent), QUIET, as_json=False)
    with contextlib.redirect_stdout(io.StringIO()):
        show_study(str(file.parent), QUIET, as_json=True)


def _signed(path: Path, name: str) -> Path:
    path.write_bytes(with_checksums(path.read_bytes()))
    return renamed(path, name)


def _landscape() -> bytes:
    options = LandscapeOptions.parse({"points": 3, "pairs": 1, "surfaces": 0, "images": 16}, "test")
    network = RecordedNetwork(
        name="full", source="full/best", arch_id=TINY.arch_id, recursions=(2, 1), flops=100, weights="networks/0",
        weights_digest="0", images="images/0", images_digest="0", num_images={"plain": 16}, weight_decay=0.05,
        recipe=_recipe().model_dump(mode="json"),
    )  # fmt: skip
    header = Header(
        time=1.0, options=options.model_dump(mode="json"), networks=(network,), data={"summary": "s", "digest": "0"},
        versions={"torch": "3"},
    )  # fmt: skip
    result = LandscapeResult(
        cross_entropy=2.0, error=0.5, augmented_cross_entropy=2.2, weight_decay=0.1, seconds=0.1, device="cpu"
    )
    points = [(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)]
    events = [PointEvent(network=0, pair=0, i=i, j=j, result=result) for i, j in points]
    return json_lines(*(line.model_dump(mode="json") for line in (header, *events)))


def _read_landscape(path: Path) -> None:
    """As `landscape --resume` does where all points are there, but for the pictures."""
    file = _signed(path, LANDSCAPE_FILE)
    with LandscapeRecords(file.parent) as records:
        if all(GridPoint.of(0, 0, i, j) in records.points for i, j in ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))):
            landscapes = landscapes_of(records.header, records.options, records.points)
            show_landscapes(landscapes, QUIET)
            to_json(landscapes)


def _parsed(command: str, path: Path) -> dict[str, Any]:
    """Returns what `--config FILE` gives a command. Raises `UserError` in place of the exit of argparse."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            given: argparse.Namespace = with_config(create_parser().parse_args([command, "--config", str(path)]))
    except SystemExit:
        raise UserError(printed.getvalue().removesuffix("\n")) from None
    words = ("run", "out", "resume", "dry_run", "open", "quiet", "engine_of_processes")
    return {name: value for name, value in vars(given).items() if name not in words}


def _read_search_config(path: Path) -> None:
    SearchOptions.parse(_parsed("search", path), "search")


def _read_train_config(path: Path) -> None:
    parse_train(_parsed("train", path))


def _search_options() -> bytes:
    options = SearchOptions.parse({"flops_budget": 10**9, "enqueue": [TINY.to_dict()]}, "test")
    return dump_yaml({"options": options.model_dump(mode="json"), "versions": {"torch": "3"}}).encode()


def _train_config() -> bytes:
    values = {
        "architecture": "sret_t",
        "learning-rate": "1e-3",
        "crop-scale": "0.1,1",
        "ema-decay": "none",
        "epochs": 3,
    }
    return dump_yaml(values).encode()


def _training() -> bytes:
    recorded = recorded_training.RecordedTraining(
        options=TrainOptions(architecture="sret_t", recipe="small"), architecture=TINY, recipe=_recipe(),
        depth_schedule="full", preprocessing=PREPROCESSING, start={"from": "new"}, versions={"torch": "3"},
        command=["train"],
    )  # fmt: skip
    return dump_yaml(recorded.model_dump(mode="json")).encode()


def _read_training(path: Path) -> None:
    recorded = validate(recorded_training.RecordedTraining, read_yaml(path), str(path))
    options = recorded.options.with_given({"threads": 1}, "train")
    task_of(recorded.model_copy(update={"options": options}))


def _supernet_training() -> bytes:
    options = SupernetTrainOptions(space="smoke")
    config = SupernetConfig(training=options.supernet_training(100))
    training = train_supernet.RecordedSupernetTraining(options=options, config=config, space=SMOKE.to_dict())
    return dump_yaml(training.model_dump(mode="json")).encode()


@functools.cache
def _state() -> FullState:
    return FullState(SReT(TINY), _recipe(), 16, 10)


def _counts() -> bytes:
    counts = {"steps": 3, "images": 48, "seconds": 1.0, "best_error": 0.5, "epochs": [{"epoch": 1, "error": 0.5}]}
    return json.dumps({"identity": {"seed": 0}, "counts": counts}).encode()


def _read_counts(path: Path) -> None:
    """A checkpoint of `train` whose weights are whole; bytes of the file itself are those of `checkpoint`."""
    state, content = _state(), read_json(path)
    texts = {name: json.dumps(value) for name, value in content.items()} if isinstance(content, dict) else {}
    weights = {"network": state.network.state_dict(), "averaged": None, "optimizer": state.optimizer.state_dict()}
    file = path.with_name(CHECKPOINT)
    write_checkpoint(file, {**weights, **texts})
    state.load(file, {"seed": 0})
    with FullProgress(None, state.counts, 20, 10, QUIET):
        pass


def _records() -> bytes:
    options = SupernetTrainOptions(space="smoke")
    candidate = Candidate(SMOKE.network([0] * len(SMOKE.stages)), "full")
    header = {
        "event": "header", "format": 1, "time": 1.0, "command": ["search"], "options": options.model_dump(mode="json"),
        "space": SMOKE.to_dict(), "space_digest": SMOKE.digest, "proxy": {}, "device": "cpu",
        "versions": {"torch": "3"},
        "data": {"summary": "digits", "digest": "0", "classes": 10}, "expected": {"trial_seconds": 1.0},
    }  # fmt: skip
    shared = {"number": 0, "time": 2.0}
    asked = {
        "event": "asked", "arch_id": candidate.arch.arch_id, "flops": 1, "params": 1, "depth_schedule": "full",
        "architecture": candidate.arch.to_dict(), **shared,
    }  # fmt: skip
    failed = {"event": "failed", "failure": {"cause": "diverged", "message": "nan"}, "seconds": 1.0, **shared}
    return json_lines(header, asked, failed)


def _read_records(path: Path) -> None:
    file = renamed(path, RECORDS_FILE)
    check_header(read_history(file.parent).header, str(path))


@functools.cache
def _finished_search() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write_search(Path(folder) / "run")
        lines = (Path(folder) / "run" / RECORDS_FILE).read_bytes().splitlines()
    plain = [{name: value for name, value in json.loads(line).items() if name != "crc32"} for line in lines]
    return json_lines(*plain)


def _read_finished_search(path: Path) -> None:
    """As `runs show` and `runs report` do."""
    run_dir = _signed(path, RECORDS_FILE).parent
    show_run(run_dir, QUIET, as_json=False)
    search = RecordedSearch.open(run_dir)
    write_report(ReportInput(run_dir, search.history, search.options, search.domain, None, is_running=False))


KINDS = {
    "recipe": Kind(lambda: _recipe().to_yaml().encode(), _read_recipe),
    "study": Kind(lambda: dump_yaml(DEFINITION).encode(), _read_study),
    "records of a study": Kind(_study_records, _read_study_records),
    "record of a landscape": Kind(_landscape, _read_landscape),
    "options of a search": Kind(_search_options, _read_search_config),
    "options of a training": Kind(_train_config, _read_train_config),
    "training": Kind(_training, _read_training),
    "training of a supernet": Kind(
        _supernet_training, lambda path: validate(train_supernet.RecordedSupernetTraining, read_yaml(path), str(path))
    ),
    "checkpoint's counts": Kind(_counts, _read_counts),
    "records": Kind(_records, _read_records),
    "records of a finished search": Kind(_finished_search, _read_finished_search),
}
