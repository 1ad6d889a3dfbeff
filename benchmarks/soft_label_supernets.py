"""Supernets that learn a teacher's stored labels: what a step costs, and what the labels are worth.

Run `python -m benchmarks.soft_label_supernets --data DIR` from the repository's root, with CIFAR-10 as class folders in
`train` and `val`. Space, images and networks are those of `benchmarks.ranking`, whose trainings from scratch are the
truth; so is the teacher, a small ResNet that is trained first. One process on one thread trains and times everything.

Times are those of the CPU that the process itself used, because the machine is shared. Steps without a teacher, with
its stored labels and with the teacher take turns, and train the same networks. A supernet with stored labels is trained
on as many images as one on the classes, and on as many as fit into the same time if making its labels counts. Labels
are made once, of the views of seed 0, which the supernets of other seeds see in another order.

What results/ has is not run again.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table as Shown
from torch import Tensor, nn

from benchmarks.machine import describe_machine
from benchmarks.ranking import teacher as ranking_teacher
from benchmarks.ranking.metrics import tau_b
from benchmarks.ranking.report import Table
from benchmarks.ranking.setting import BUDGET, PROXY, SPACE, prepared
from benchmarks.ranking.supernets import RECIPE, VARIANTS, config_of, scores
from benchmarks.recorded import RESULTS, arguments, images_of, read_lines
from sret_nas.files import write_atomically
from sret_nas.nn.model_directory import Preprocessing
from trials.data import PreparedData
from trials.data.batching import AugmentedEpoch
from trials.distributed.processes import Processes
from trials.supernet.config import SupernetConfig
from trials.supernet.spec import TrainingSpec
from trials.supernet.step import SupernetStep
from trials.supernet.training import SupernetTraining, train_supernet
from trials.training.devices import compute_with
from trials.training.prepared_labels import SoftLabelSource, identify_prepared_views
from trials.training.soft_labels import SoftLabelHeader, SoftLabelWriter, fingerprints
from trials.training.teachers import Teacher

RESULT = RESULTS / "soft_label_supernets.json"
IMAGES = 77_440
"""Of a supernet: those that take a minute of an idle core, by `benchmarks.ranking`."""
TEACHER_IMAGES = 160_000
"""Of the teacher: a third of those of the ranking's, because the machine is shared."""
LABEL_SEED, SEEDS = 0, (0, 1)
BATCH: int = RECIPE["batch_size"]
NUM_UNTIMED, NUM_STEPS = 3, 40
CLASSES, EQUAL_IMAGES, EQUAL_TIME = "classes", "stored labels", "stored labels, their making counted"


def main() -> None:
    given = arguments(__doc__, "soft_label_supernets", "trainings")
    if not given.report:
        _measure(given.data, given.work, *images_of(given, prepared))
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    result["summary"] = summary(result)
    write_atomically(RESULT, json.dumps(result, indent=1) + "\n")
    _show(result)


def _measure(source: str, work: Path, data: PreparedData, data_dir: Path) -> None:
    compute_with(1)
    result = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else _begun(source, data)

    def keep() -> None:
        result["load_average"] = os.getloadavg()
        write_atomically(RESULT, json.dumps(result, indent=1) + "\n")

    weights, stored = work / "teacher.pt", work / "teacher.soft"
    if "seconds_per_step" not in result:
        result |= _timed(_teacher_of(ranking_teacher.build(data.num_classes).eval(), data), work, data)
        keep()
    if "teacher" not in result or not weights.exists():
        result["teacher"] = {
            "network": ranking_teacher.NAME, "shape": ranking_teacher.SHAPE,
            "recipe": {**ranking_teacher.RECIPE, "images": TEACHER_IMAGES},
            **ranking_teacher.train(weights, data, TEACHER_IMAGES),
        }  # fmt: skip
        keep()
    teacher = _teacher_of(ranking_teacher.Teacher(weights, 0).network(data.num_classes), data)
    if "labels" not in result or not stored.exists():
        result["labels"] = _make(stored, teacher, data, config_of({}, IMAGES).training.num_epochs(len(data.train)))
        keep()
    labels = SoftLabelSource.of(str(stored), data)
    images = _plan(result)
    pairs = [(kind, seed) for seed in SEEDS for kind in (CLASSES, EQUAL_IMAGES)]
    for kind, seed in [*pairs, *((EQUAL_TIME, seed) for seed in SEEDS)]:
        if (kind, seed) not in {(line["kind"], line["seed"]) for line in result["supernets"]}:
            spec = _spec(images[kind], seed, None if kind == CLASSES else labels)
            result["supernets"].append({"kind": kind, "seed": seed, **_trained(spec, work, kind, data)})
            keep()
            print(kind, seed, "done", flush=True)


def _begun(source: str, data: PreparedData) -> dict[str, Any]:
    return {
        **describe_machine("torch", "timm"), "threads": 1, "data": data.summary().replace(source, "cifar10"),
        "batch_size": BATCH, "supernets": [],
    }  # fmt: skip


class _InHalfPrecision(nn.Module):
    """The teacher of the ranking, whose passes in bf16 take half as long."""

    def __init__(self, network: nn.Module, classes: int) -> None:
        super().__init__()
        self.network, self.num_classes = network, classes

    def forward(self, images: Tensor) -> Tensor:
        return ranking_teacher.logits_of(self.network, images)


def _teacher_of(network: nn.Module, data: PreparedData) -> Teacher:
    size = data.config.image_size
    student = Preprocessing(image_size=size, mean=data.mean, std=data.std)
    taught = _InHalfPrecision(network, data.num_classes)
    return Teacher(taught, ranking_teacher.NAME, None, size, data.mean, data.std).adapt_to(student)


def _make(path: Path, teacher: Teacher, data: PreparedData, epochs: int) -> dict[str, Any]:
    """Writes the labels of some epochs. Returns their bytes, and what a batch took: augmenting, pass, file."""
    number = len(data.train)
    header = SoftLabelHeader(
        teacher=teacher.name, teacher_digest=None, temperature=1.0, classes=data.num_classes, top=data.num_classes,
        images=number, epochs=epochs, views=identify_prepared_views(data, LABEL_SEED), versions={},
    )  # fmt: skip
    seconds = []
    with SoftLabelWriter(path, header, force=True) as writer:
        for epoch in range(epochs):
            seen = AugmentedEpoch(data.train, seed=LABEL_SEED, epoch=epoch)
            for start in range(0, number, BATCH):
                began = time.process_time()
                images = seen.images(torch.arange(start, min(start + BATCH, number)))
                writer.append(teacher(images, 1.0).numpy(), fingerprints(images.numpy()))
                seconds.append(time.process_time() - began)
        writer.finish()
    return {
        "epochs": epochs, "bytes": path.stat().st_size, "cpu_seconds": sum(seconds),
        "seconds_per_batch": median(seconds),
    }  # fmt: skip


def _timed(teacher: Teacher, work: Path, data: PreparedData) -> dict[str, Any]:
    """Returns the CPU seconds of steps that take turns, all of the same networks in the same order.

    The teacher has new weights, which changes no time.
    """
    path = work / "timed.soft"
    making = _make(path, teacher, data, epochs=1)["seconds_per_batch"]
    labels = SoftLabelSource.of(str(path), data)
    alone = Processes(0, 1, torch.device("cpu"))
    steps = (NUM_UNTIMED + NUM_STEPS) * BATCH
    trainings = {
        kind: SupernetTraining(Path(), _spec(steps, 0, labels if kind == "stored" else None), data, alone)
        for kind in ("without", "stored", "teacher")
    }
    taught = trainings["teacher"].state
    taught.step = SupernetStep(taught.supernet, config_of({}, steps), alone, temperature=1.0)
    streams = {kind: training.batches(0) for kind, training in trainings.items()}
    seconds: dict[str, list[float]] = {kind: [] for kind in trainings}
    for _ in range(NUM_UNTIMED + NUM_STEPS):
        for kind, training in trainings.items():
            began = time.process_time()
            images, targets = next(streams[kind])
            training.train_step(images, teacher(images, 1.0) if kind == "teacher" else targets)
            seconds[kind].append(time.process_time() - began)
    timed = {kind: values[NUM_UNTIMED:] for kind, values in seconds.items()}
    return {
        "seconds_per_step": {kind: median(values) for kind, values in timed.items()},
        "seconds_to_make_per_batch": making,
        "seconds_more_than_without": {
            kind: median(more - less for more, less in zip(timed[kind], timed["without"], strict=True))
            for kind in ("stored", "teacher")
        },
        "seconds_per_step_all": timed,
    }


def _plan(result: dict[str, Any]) -> dict[str, int]:
    """Returns the training images of each kind of supernet."""
    step, making = fmean(result["seconds_per_step_all"]["without"]), result["seconds_to_make_per_batch"]
    fewer = round(IMAGES / BATCH * step / (step + making)) * BATCH
    return {CLASSES: IMAGES, EQUAL_IMAGES: IMAGES, EQUAL_TIME: fewer}


def _spec(images: int, seed: int, labels: SoftLabelSource | None) -> TrainingSpec:
    config: SupernetConfig = config_of(VARIANTS["balanced draws"], images)
    return TrainingSpec(space=SPACE, budget=BUDGET, proxy=PROXY, config=config, seed=seed, soft_labels=labels)


def _trained(spec: TrainingSpec, work: Path, kind: str, data: PreparedData) -> dict[str, Any]:
    """Trains a supernet, and returns what it says of the networks of the table."""
    directory = work / f"{kind.replace(',', '').replace(' ', '-')}-{spec.seed}"
    directory.mkdir(parents=True, exist_ok=True)
    began = time.process_time()
    with (directory / "training.log").open("a", encoding="utf-8") as log:
        path = train_supernet(
            directory, spec, data, device="cpu", threads=1, console=Console(file=log)
        )  # fmt: skip
    seconds = time.process_time() - began
    return {"images": spec.config.training.images, "cpu_seconds": round(seconds, 1), **scores(path, data, BUDGET)}


def summary(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns, for each supernet, how its errors rank the table of the ranking, and their mean over its networks."""
    table = Table.of(read_lines(RESULTS / "ranking_standalone.jsonl"))
    measured, bins = table.measured("error"), table.bins
    rows = []
    for line in result["supernets"]:
        errors = torch.tensor([network["error"] for network in line["networks"]], dtype=torch.float64).numpy()
        rows.append({
            "kind": line["kind"], "seed": line["seed"], "images": line["images"], "error": float(errors.mean()),
            "cross_entropy": fmean(network["cross_entropy"] for network in line["networks"]),
            "tau": tau_b(errors, measured), "tau_in_bins": tau_b(errors, measured, bins),
        })  # fmt: skip
    return rows


def _show(result: dict[str, Any]) -> None:
    console = Console()
    times = {**result["seconds_per_step"], "making": result["seconds_to_make_per_batch"]}
    console.print(", ".join(f"{kind} {1000 * seconds:.1f} ms" for kind, seconds in times.items()))
    table = Shown(title="Inherited errors of the 32 networks", title_justify="left")
    for heading in ("supernet", "seed", "images", "error", "cross-entropy", "tau", "tau, like FLOPs"):
        table.add_column(heading)
    for row in result["summary"]:
        numbers = (row["cross_entropy"], row["tau"], row["tau_in_bins"])
        table.add_row(
            row["kind"], str(row["seed"]), f"{row['images']:,}", f"{row['error']:.2%}", *(f"{n:.2f}" for n in numbers)
        )
    console.print(table)


if __name__ == "__main__":
    main()
