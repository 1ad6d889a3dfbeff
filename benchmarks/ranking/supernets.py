"""Supernets trained in different ways for the same time, and what each says of the networks of the table."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.ranking.pass_times import PassTimes
from benchmarks.ranking.setting import PROXY, SPACE, within
from benchmarks.recorded import Line, read_lines, run_all
from sret_nas.arch.budget import Budget
from trials.data import PreparedData
from trials.supernet.config import SupernetConfig
from trials.training.recipe import TrainingConfig

if TYPE_CHECKING:
    from benchmarks.ranking.teacher import Teacher  # torch, which the driver does not need

RECIPE: dict[str, Any] = {"batch_size": 128, "learning_rate": 5e-3}
SCORED_IMAGES = 4_000
"""Validation images that inherited weights are scored on."""
SCORED_AT_ONCE = 250

BASE: dict[str, Any] = {
    "subnet_sampling": "stratified",
    "step_rule": "single",
    "random_networks": 1,
    "depth_schedule": "full",
}
VARIANTS: dict[str, dict[str, Any]] = {
    "single": {},
    "alternate": {"step_rule": "alternate"},
    "sandwich": {"step_rule": "sandwich"},
    "sandwich, no distillation": {"step_rule": "sandwich", "distil": False},
    "balanced draws": {"subnet_sampling": "balanced"},
    "uniform draws": {"subnet_sampling": "uniform"},
    **{f"depths {schedule}": {"depth_schedule": schedule} for schedule in ("random", "growing", "sandwich", "joint")},
}
"""What each differs in from `BASE`, which trains one random network a step, spread over cost, as the first does."""
TAUGHT = "balanced draws, timm teacher"
"""As "balanced draws", but learns the soft labels of a teacher (teacher.py) in place of the true ones."""
BEST = "single"
"""The one that is trained for other times, too."""


@dataclass(frozen=True)
class Run:
    """One supernet: how it is trained, from which seed, for how many seconds of one core, inside which budget."""

    variant: str
    seed: int
    seconds: int
    flops_max: int | None = None

    @property
    def name(self) -> str:
        within = "" if self.flops_max is None else f"-within-{self.flops_max}"
        return f"{self.variant.replace(',', '').replace(' ', '-')}-{self.seconds}s-seed{self.seed}{within}"

    @property
    def changes(self) -> dict[str, Any]:
        return VARIANTS["balanced draws" if self.variant == TAUGHT else self.variant]

    @property
    def key(self) -> tuple[str, int, int, int | None]:
        return self.variant, self.seed, self.seconds, self.flops_max


SECONDS = 120
"""Of one idle core, for every variant."""
TIGHT = 2_200_000
"""A budget, in FLOPs, of a third of the largest network's: most of what it allows is narrow."""

RUNS = [
    Run(BEST, 0, SECONDS),
    Run(BEST, 0, 4 * SECONDS),
    *(Run(variant, 0, SECONDS) for variant in VARIANTS if variant != BEST),
    *(Run(variant, 1, SECONDS) for variant in (BEST, "alternate", "uniform draws", "depths random")),
    *(Run(BEST, 0, SECONDS * factor // 2) for factor in (1, 4)),
    Run("balanced draws", 1, SECONDS),
    *(Run("balanced draws", seed, 4 * SECONDS) for seed in range(3)),
    *(Run(TAUGHT, seed, SECONDS) for seed in (0, 1)),
    Run(TAUGHT, 0, 4 * SECONDS),
    *(Run(variant, 0, SECONDS * factor // 2, TIGHT) for factor in (1, 4) for variant in (BEST, "balanced draws")),
]


def missing(runs: Sequence[Run], path: Path) -> list[Run]:
    """Returns those that a file of JSON lines lacks."""
    done = {(line["variant"], line["seed"], line["seconds"], line.get("flops_max")) for line in read_lines(path)}
    return [run for run in runs if run.key not in done]


def train_all(
    left: Sequence[Run], path: Path, work: Path, data_dir: Path, times: PassTimes, teacher: Teacher | None, workers: int
) -> None:
    """Trains and scores supernets, and appends a JSON line for each as it ends. A teacher if any is `TAUGHT`."""
    recorded = read_lines(path)
    run_all(path, [(_train_and_score, (run, work, data_dir, recorded, times, teacher)) for run in left], workers)


def config_of(changes: Mapping[str, Any], images: int) -> SupernetConfig:
    training = TrainingConfig(images=images, **RECIPE)
    return SupernetConfig.model_validate({"training": training.model_dump(), **BASE, **changes})


def images_at_pace(run: Run, recorded: Sequence[Line]) -> int | None:
    """Returns images of a training at the pace of the first on record of its variant and budget; None if there is none.

    So trainings of one variant are equal work per second on every machine, whatever it can do.
    """
    for line in recorded:
        if (line["variant"], line.get("flops_max")) == (run.variant, run.flops_max):
            return round(line["steps"] * run.seconds / line["seconds"]) * int(RECIPE["batch_size"])
    return None


def _planned_images(
    run: Run, recorded: Sequence[Line], times: PassTimes, budget: Budget, teacher: Teacher | None
) -> int:
    images = images_at_pace(run, recorded)
    if images is not None:
        return images
    planned = config_of(run.changes, RECIPE["batch_size"])
    return times.images(planned, run.seconds, budget, teaching=teacher.seconds if teacher else 0)


def trained_supernet(run: Run, work: Path, data_dir: Path, images: int) -> Path:
    """Returns the file of a supernet that learns the true labels; it is trained, in this process on one thread, if
    missing."""
    from rich.console import Console

    from trials.supernet.spec import TrainingSpec
    from trials.supernet.training import train_supernet

    directory = work / run.name
    directory.mkdir(parents=True, exist_ok=True)
    config, budget = config_of(run.changes, images), Budget(flops_max=run.flops_max)
    spec = TrainingSpec(space=SPACE, budget=budget, proxy=PROXY, config=config, seed=run.seed)
    with (directory / "training.log").open("a", encoding="utf-8") as log:
        return train_supernet(
            directory, spec, PreparedData.open(data_dir), device="cpu", threads=1, console=Console(file=log)
        )


def _train_and_score(
    run: Run, work: Path, data_dir: Path, recorded: Sequence[Line], times: PassTimes, teacher: Teacher | None
) -> Line:
    """Takes one supernet from its plan to the scores of its subnets, in this process, on one thread."""
    from rich.console import Console

    from sret_nas.nn.supernet import Supernet

    teacher = teacher if run.variant == TAUGHT else None
    budget = Budget(flops_max=run.flops_max)
    images = _planned_images(run, recorded, times, budget, teacher)
    config, data = config_of(run.changes, images), PreparedData.open(data_dir)
    began = time.process_time()
    if teacher:
        directory = work / run.name
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / "training.log").open("a", encoding="utf-8") as log:
            path = teacher.train_supernet(directory, budget, config, data, run.seed, Console(file=log))
    else:
        path = trained_supernet(run, work, data_dir, images)
    seconds = time.process_time() - began
    _, record = Supernet.load(path)
    return {
        "variant": run.variant, "seed": run.seed, "seconds": run.seconds, "flops_max": run.flops_max,
        "config": config.model_dump(mode="json"),
        "steps": record["steps"], "images": record["images"],
        "cpu_seconds": round(seconds, 1),  # of this process: less than all for a training that was carried on
        **scores(path, data, budget),
    }  # fmt: skip


def scores(supernet_path: Path, data: PreparedData, budget: Budget) -> dict[str, Any]:
    """Returns error and cross-entropy, with inherited weights, of the table's networks inside a budget, and of its two
    ends."""
    from sret_nas.nn.supernet import Supernet
    from trials.supernet.inherit import SubnetScorer
    from trials.supernet.networks import extreme

    supernet, _ = Supernet.load(supernet_path)
    scorer = SubnetScorer(supernet.eval(), data, SCORED_AT_ONCE, SCORED_IMAGES)
    archs = [*within(budget), extreme(SPACE, budget, "cheapest"), extreme(SPACE, budget, "most_expensive")]
    found = [scorer.score(arch) for arch in archs]
    *table, smallest, largest = [{"error": score.error, "cross_entropy": score.cross_entropy} for score in found]
    return {"networks": table, "smallest": smallest, "largest": largest}
