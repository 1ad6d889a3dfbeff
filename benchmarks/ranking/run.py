"""Does inherited accuracy rank networks as training each by itself does? One command for all of it.

    python -m benchmarks.ranking.run --data path/to/cifar10 [--workers 2]

Trains the networks of the table one by one, then supernets in several ways for equal time, and scores the networks with
what they inherit. Each result is a JSON line in results/, appended when it is there; what is there is not run again.
Then results/ranking.json, ranking.md and pictures are written; `--report` writes those alone. A training on an idle
core is as long as planned; on a busy one the work is the same and the wall clock is not. The teacher of one variant
needs `pip install timm`; it is trained first.
"""

from __future__ import annotations

import argparse
import json

from benchmarks.machine import describe_machine
from benchmarks.ranking import standalone, supernets
from benchmarks.ranking.pass_times import pass_times
from benchmarks.ranking.plots import draw_networks, draw_times, draw_variants
from benchmarks.ranking.report import Table, figures, figures_within, groups_of, markdown
from benchmarks.ranking.setting import PROXY, SEEDS, prepared
from benchmarks.recorded import RESULTS, Line, arguments, begin, images_of, read_lines
from sret_nas.files import write_atomically
from trials.data import PreparedData

SHOWN = "error"
"""The metric of the pictures."""
TABLE, SUPERNETS = RESULTS / "ranking_standalone.jsonl", RESULTS / "ranking_supernets.jsonl"
TEACHER = RESULTS / "ranking_teacher.json"


def train(given: argparse.Namespace) -> None:
    """Trains everything that results/ lacks."""
    data, data_dir = images_of(given, prepared)
    begin(TABLE, header(data, given.data))
    standalone.train_all(TABLE, data_dir, data.digest, SEEDS, given.workers)
    times = pass_times(given.work / "pass_times.json", data, supernets.RECIPE["batch_size"])
    left, teacher = supernets.missing(supernets.RUNS, SUPERNETS), None
    if any(run.variant == supernets.TAUGHT for run in left):
        from benchmarks.ranking.teacher import prepared_teacher  # timm, which nothing else needs

        teacher = prepared_teacher(given.work / "teacher.pt", TEACHER, data, times)
    supernets.train_all(left, SUPERNETS, given.work, data_dir, times, teacher, given.workers)


def header(data: PreparedData, source: str) -> Line:
    return {
        **describe_machine("torch", "numpy"),
        "data": data.summary().replace(source, "cifar10"),
        "proxy": PROXY.model_dump(mode="json"),
    }


def report() -> None:
    """Writes the report, from the committed results alone."""
    table, lines = Table.of(read_lines(TABLE)), read_lines(SUPERNETS)
    result = {**describe_machine("torch", "numpy"), "networks": len(table.trainings), **figures(table, lines)}
    result["within_budget"] = figures_within(table, lines, supernets.TIGHT)
    write_atomically(RESULTS / "ranking.json", json.dumps(result, indent=1) + "\n")
    write_atomically(RESULTS / "ranking.md", markdown(result, supernets.SECONDS))
    of_shown = result[SHOWN]["supernets"]
    draw_variants(RESULTS / "ranking_variants.png", result[SHOWN], groups_of(of_shown, supernets.SECONDS))
    longest = max(
        (line for line in lines if line["variant"] == supernets.BEST and line.get("flops_max") is None),
        key=lambda line: line["seconds"],
    )
    title = f"Supernet trained for {longest['seconds']} s of one core, {longest['steps']:,} steps"
    draw_networks(RESULTS / "ranking_networks.png", table, longest, title)
    best = [line for line in of_shown if line["variant"] == supernets.BEST]
    draw_times(RESULTS / "ranking_times.png", result[SHOWN], best)


def main() -> None:
    given = arguments(__doc__, "ranking", "trainings")
    if not given.report:
        train(given)
    report()


if __name__ == "__main__":
    main()
