"""Publishes the tables of a work directory, and what they say: results/sret_bench*.

    python -m benchmarks.sret_bench.report [--work DIR]

Tables that grow in the work directory are merged with the published ones. Without a work directory, the published ones
alone are read. Then `python -m docs.generate` renews docs/results.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.machine import describe_machine
from benchmarks.ranking.metrics import FloatArray
from benchmarks.recorded import RESULTS
from benchmarks.sret_bench import figures
from benchmarks.sret_bench.effects import kinds_of_effects
from benchmarks.sret_bench.plan import SPEED
from benchmarks.sret_bench.run import WORK, Tables
from benchmarks.sret_bench.setting import Setting, published
from benchmarks.sret_bench.tables import Line
from sret_nas.files import write_atomically


def report(setting: Setting, work: Path, results: Path = RESULTS) -> figures.Figures:
    """Writes the compressed tables and the figures. Returns the figures."""
    tables = Tables.open(work, results)
    for table in tables.all:
        table.publish()
    inherited = tables.inherited.lines
    by_supernet = {
        seed: sorted((line for line in inherited if line["supernet"] == seed), key=lambda line: int(line["number"]))
        for seed in setting.supernet_seeds
    }
    # The first supernet chose the networks that were trained. What is said of supernets is said of the others.
    others = {seed: lines for seed, lines in by_supernet.items() if seed != setting.supernet_seeds[0]}
    others = {seed: lines for seed, lines in others.items() if len(lines) >= figures.MIN_NETWORKS}
    judge = next(iter(others.values()), [])
    speed = json.loads((results / SPEED).read_text()) if (results / SPEED).exists() else None
    found: figures.Figures = {
        **describe_machine("numpy", "scipy"),
        "progress": progress(setting, tables),
        "speed": speed,
        "additivity": {str(seed): figures.additivity(setting.space, lines) for seed, lines in by_supernet.items()},
        "effects": {str(seed): kinds_of_effects(lines) for seed, lines in by_supernet.items()},
        "between_supernets": figures.between_supernets(inherited),
        "structures": figures.structures(tables.scratch.lines),
        "unseen_models": figures.unseen_models(
            tables.scratch.lines, {str(seed): partial(predicted, setting, lines) for seed, lines in others.items()}
        ),
        "lengths": figures.lengths(tables.scratch.lines),
        "equal_seconds": None if speed is None else figures.equal_seconds(
            judge, tables.scratch.lines, speed, setting.supernet_images, partial(predicted, setting)
        ),
        "precision": figures.precision_effect(tables.precision.lines),
    }  # fmt: skip
    write_atomically(results / "sret_bench.json", json.dumps(found, indent=1) + "\n")
    return found


def progress(setting: Setting, tables: Tables) -> dict[str, list[int]]:
    """Returns for every kind of piece how many are done, and of how many."""
    networks = setting.num_stratified + setting.num_in_window
    number = setting.num_costs * 3
    longest = setting.lengths[-1]

    def ended(seed: int, schedules: Sequence[int]) -> int:
        ends = {(line["schedule_images"], line["images"]) for line in tables.scratch.lines}
        wanted = {(schedule, schedule) for schedule in schedules} & ends
        return sum(
            (line["schedule_images"], line["images"]) in wanted and line["seed"] == seed
            for line in tables.scratch.lines
        )

    return {
        **{
            f"networks scored with supernet {seed}": [
                sum(line["supernet"] == seed for line in tables.inherited.lines), setting.ended.get(seed, networks)
            ]
            for seed in setting.supernet_seeds
        },
        f"trainings of {longest:,} images": [ended(0, [longest]), number],
        f"trainings of {' and '.join(f'{length:,}' for length in setting.short_lengths)} images": [
            ended(0, setting.short_lengths), number * len(setting.short_lengths)
        ],
        "second seeds": [ended(1, [longest]), setting.num_repeated],
        "scores in other precisions": [len(tables.precision.lines), 4 * setting.precision_networks],
    }  # fmt: skip


def predicted(setting: Setting, known: Sequence[Line], asked: Sequence[Line]) -> FloatArray:
    """Returns predictions of inherited errors of lines, by the additive model of a supernet's scores."""
    errors = np.array([line["error"] for line in known])
    points, unseen = figures.points_of(setting.space, known), figures.points_of(setting.space, asked)
    return figures.predict(setting.space, "with pairs", points, errors, unseen)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=WORK, help="the work directory of `run`")
    found = report(published("cifar10"), parser.parse_args().work)
    for name, (done, number) in found["progress"].items():
        print(f"{name}: {done} of {number}")


if __name__ == "__main__":
    main()
