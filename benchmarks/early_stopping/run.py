"""Does early stopping pay? Searches from scratch with and without it, at equal seconds. One command for all of it.

    python benchmarks/early_stopping/run.py --data path/to/cifar10 [--workers 2]

Each search is a JSON line in results/, appended when it ends; what is there is not run again. Then
results/early_stopping.json, .md and .png are written; `--report` writes those alone.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from early_stopping.report import draw, figures, markdown
from early_stopping.searches import ENTRIES, SEEDS, run_search
from end_to_end.run import append, read_lines, run_all
from end_to_end.setting import prepared

from machine import describe_machine
from sret_nas.files import write_atomically

BENCHMARKS = Path(__file__).resolve().parent.parent
RESULTS = BENCHMARKS / "results"
SEARCHES = RESULTS / "early_stopping_searches.jsonl"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="CIFAR-10 as a folder of class folders in train and val")
    parser.add_argument("--work", type=Path, default=BENCHMARKS.parent / "runs" / "end_to_end", help="for the images")
    parser.add_argument("--workers", type=int, default=2, help="searches at once, one thread each")
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
        summary = data.summary().replace(given.data, "cifar10")
        append(SEARCHES, {**describe_machine("torch", "optuna", "numpy"), "data": summary})
    done = {(line["entry"], line["seed"]) for line in read_lines(SEARCHES)}
    runs = [(entry, seed) for seed in range(SEEDS) for entry in ENTRIES if (entry.name, seed) not in done]
    runs.sort(key=lambda run: run[0].strategy)
    run_all(SEARCHES, [(run_search, (*search, data_dir)) for search in runs], given.workers)


def report() -> None:
    """From the committed results alone."""
    header = json.loads(SEARCHES.read_text(encoding="utf-8").splitlines()[0])
    result = {**header, **figures(read_lines(SEARCHES))}
    write_atomically(RESULTS / "early_stopping.json", json.dumps(result, indent=1) + "\n")
    write_atomically(RESULTS / "early_stopping.md", markdown(result))
    draw(RESULTS / "early_stopping.png", result)


def main() -> None:
    given = arguments()
    if not given.report:
        run(given)
    report()


if __name__ == "__main__":
    main()
