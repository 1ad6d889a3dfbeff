"""Is it worth it? Networks that `search` finds against published, random and timm's, trained alike: all, in pieces.

    python -m benchmarks.against.run --data path/to/cifar10 [--work DIR] [--budgets N ...]
    python -m benchmarks.against.run --data path/to/cifar10 [--work DIR] --plan
    python -m benchmarks.against.run --report [--work DIR]

One process, one thread; processes with other `--budgets` may run beside it. It can be killed at any time, and carries
on where it stopped: searches resume, trainings have checkpoints, and each leaves a JSON line when it ends. `--plan`
times a few steps and says how long everything takes. `--report` publishes what is there: results/against*.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.against import searches, trainings
from benchmarks.against.report import draw, figures
from benchmarks.against.setting import Setting, published
from benchmarks.machine import describe_machine
from benchmarks.recorded import BENCHMARKS, RESULTS
from benchmarks.sret_bench.tables import Table
from sret_nas.files import write_atomically

WORK = BENCHMARKS.parent / "runs" / "against"
PACKAGES = "torch", "timm", "numpy"


def open_tables(work: Path, results: Path = RESULTS) -> tuple[Table, Table]:
    """Returns the tables of searches and of trainings."""
    return (
        Table(results / "against_searches.jsonl.gz", work / "searches.jsonl", searches.KEY),
        Table(results / "against_trainings.jsonl.gz", work / "trainings.jsonl", trainings.KEY),
    )


def order(setting: Setting) -> Iterator[tuple[str, int, int]]:
    """Yields kind, budget and seed of every training: a budget is whole, with all its seeds, before the next begins."""
    for budget in setting.budgets:
        for seed in setting.seeds:
            for kind in setting.kinds:
                yield kind, budget, seed


def run(setting: Setting, work: Path, results: Path = RESULTS, budgets: Sequence[int] | None = None) -> None:
    """Runs all that the tables lack, at some budgets or at all."""
    from trials.training.devices import compute_with

    compute_with(1)
    data = setting.prepared(work / "data")
    found, trained = open_tables(work, results)
    recipe = {"recipe": setting.training.model_dump(), "data": data.summary().replace(setting.source, "cifar10")}
    found.begin(describe_machine(*PACKAGES))
    trained.begin({**describe_machine(*PACKAGES), **recipe})
    chosen = [budget for budget in setting.budgets if budgets is None or budget in budgets]
    for budget in chosen:
        searches.run(setting, budget, work, found)
    for kind, budget, seed in order(setting):
        if budget not in chosen:
            continue
        print(kind, budget, seed, flush=True)
        arch = searches.found(found, budget) if kind == "found" else None
        trainings.run(setting, kind, budget, seed, arch, data, work, trained)


def report(setting: Setting, work: Path, results: Path = RESULTS) -> None:
    """Publishes the tables, and what they say."""
    tables = open_tables(work, results)
    for table in tables:
        table.publish()
    found, trained = tables
    content = {**describe_machine(*PACKAGES), **figures(setting, found.lines, trained.lines)}
    write_atomically(results / "against.json", json.dumps(content, indent=1) + "\n")
    if trained.lines:
        draw(results / "against.png", content)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="CIFAR-10 as a folder of class folders in train and val")
    parser.add_argument("--work", type=Path, default=WORK, help="for images, searches, checkpoints and growing tables")
    parser.add_argument("--budgets", type=int, nargs="+", help="train at these budgets only")
    parser.add_argument("--plan", action="store_true", help="measure, and say how long everything takes")
    parser.add_argument("--report", action="store_true", help="run nothing: publish what is there")
    given = parser.parse_args()
    if not given.report and given.data is None:
        parser.error("--data is needed, except with --report")
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    setting = published(given.data or "cifar10")
    if given.report:
        report(setting, given.work)
    elif given.plan:
        from benchmarks.against.plan import print_plan

        print_plan(setting)
    else:
        run(setting, given.work, budgets=given.budgets)


if __name__ == "__main__":
    main()
