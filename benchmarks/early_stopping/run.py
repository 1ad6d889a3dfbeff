"""Does early stopping pay? Searches from scratch with and without it, at equal seconds. One command for all of it.

    python -m benchmarks.early_stopping.run --data path/to/cifar10 [--workers 2]

Each search is a JSON line in results/, appended when it ends; what is there is not run again. Then
results/early_stopping.json, .md and .png are written; `--report` writes those alone.
"""

from __future__ import annotations

import argparse
import json

from benchmarks.early_stopping.report import draw, figures, markdown
from benchmarks.early_stopping.searches import ENTRIES, SEEDS, run_search
from benchmarks.end_to_end.setting import prepared
from benchmarks.machine import describe_machine
from benchmarks.recorded import RESULTS, arguments, begin, header_of, images_of, read_lines, run_all
from sret_nas.files import write_atomically

SEARCHES = RESULTS / "early_stopping_searches.jsonl"


def run(given: argparse.Namespace) -> None:
    """Runs everything that results/ lacks."""
    data, data_dir = images_of(given, prepared)
    summary = data.summary().replace(given.data, "cifar10")
    begin(SEARCHES, {**describe_machine("torch", "optuna", "numpy"), "data": summary})
    done = {(line["entry"], line["seed"]) for line in read_lines(SEARCHES)}
    runs = [(entry, seed) for seed in range(SEEDS) for entry in ENTRIES if (entry.name, seed) not in done]
    runs.sort(key=lambda run: run[0].strategy)
    run_all(SEARCHES, [(run_search, (*search, data_dir)) for search in runs], given.workers)


def report() -> None:
    """Writes the report, from the committed results alone."""
    result = {**header_of(SEARCHES), **figures(read_lines(SEARCHES))}
    write_atomically(RESULTS / "early_stopping.json", json.dumps(result, indent=1) + "\n")
    write_atomically(RESULTS / "early_stopping.md", markdown(result))
    draw(RESULTS / "early_stopping.png", result)


def main() -> None:
    given = arguments(__doc__, "end_to_end", "searches")
    if not given.report:
        run(given)
    report()


if __name__ == "__main__":
    main()
