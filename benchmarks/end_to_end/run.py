"""Which search finds better networks in the same time, the supernet's training included? One command for all of it.

    python benchmarks/end_to_end/run.py --data path/to/cifar10 [--workers 2]

Runs every search, then trains what each recommends from scratch and tests it. Each search and each training is a JSON
line in results/, appended when it ends; what is there is not run again. Then results/end_to_end.json, .md and .png are
written; `--report` writes those alone. Searches are timed by the processor time of their one core.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from end_to_end.report import draw, figures, markdown
from end_to_end.searches import run_search
from end_to_end.setting import ADDITIVE, ENTRIES, SEEDS, prepared
from end_to_end.standalone import train_and_test, trainings

from machine import describe_machine
from sret_nas.files import write_atomically

BENCHMARKS = Path(__file__).resolve().parent.parent
RESULTS = BENCHMARKS / "results"
SEARCHES, TRAININGS = RESULTS / "end_to_end_searches.jsonl", RESULTS / "end_to_end_trainings.jsonl"
Line = dict[str, Any]
Task = tuple[Callable[..., Line], tuple[Any, ...]]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="CIFAR-10 as a folder of class folders in train and val")
    parser.add_argument("--work", type=Path, default=BENCHMARKS.parent / "runs" / "end_to_end", help="for the images")
    parser.add_argument("--workers", type=int, default=2, help="searches or trainings at once, one thread each")
    parser.add_argument("--report", action="store_true", help="run nothing: report the committed results")
    given = parser.parse_args()
    if not given.report and given.data is None:
        parser.error("--data is needed to search")
    return given


def run(given: argparse.Namespace) -> None:
    """Everything that results/ lacks."""
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # for the workers: each has one core
    given.work.mkdir(parents=True, exist_ok=True)
    data_dir = (given.work / "data").absolute()
    data = prepared(given.data, data_dir)
    if not SEARCHES.exists():
        append(
            SEARCHES,
            {**describe_machine("torch", "optuna", "numpy"), "data": data.summary().replace(given.data, "cifar10")},
        )
    done = {(line["entry"], line["seed"]) for line in read_lines(SEARCHES)}
    runs = [(entry, seed) for seed in range(SEEDS) for entry in ENTRIES if (entry.name, seed) not in done]
    searches = sorted(runs, key=lambda run: run[0] == ADDITIVE)  # what the question is about comes first
    run_all(SEARCHES, [(run_search, (*search, data_dir)) for search in searches], given.workers)
    trained = {(line["arch_id"], line["seed"]) for line in read_lines(TRAININGS)}
    needed = {key: arch for key, arch in trainings(read_lines(SEARCHES)).items() if key not in trained}
    run_all(TRAININGS, [(train_and_test, (arch, seed, data_dir)) for (_, seed), arch in needed.items()], given.workers)


def run_all(path: Path, tasks: Sequence[Task], workers: int) -> None:
    """Runs tasks in processes, and appends what each returns as it ends."""
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(function, *arguments) for function, arguments in tasks]
        for count, future in enumerate(as_completed(futures), 1):
            line = future.result()
            append(path, line)
            shown = {name: value for name, value in line.items() if not isinstance(value, (list, dict))}
            print(f"[{count}/{len(futures)}] {shown}", flush=True)


def read_lines(path: Path) -> list[Line]:
    """What is on record, without the header."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [line for line in map(json.loads, text.splitlines()) if "seed" in line]


def append(path: Path, line: Line) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def report() -> None:
    """From the committed results alone."""
    header = json.loads(SEARCHES.read_text(encoding="utf-8").splitlines()[0])
    result = {**header, **figures(read_lines(SEARCHES), read_lines(TRAININGS))}
    write_atomically(RESULTS / "end_to_end.json", json.dumps(result, indent=1) + "\n")
    write_atomically(RESULTS / "end_to_end.md", markdown(result))
    draw(RESULTS / "end_to_end.png", result)


def main() -> None:
    given = arguments()
    if not given.report:
        run(given)
    report()


if __name__ == "__main__":
    main()
