"""Which search finds better networks in the same time, the supernet's training included? One command for all of it.

    python -m benchmarks.end_to_end.run --data path/to/cifar10 [--workers 2]

Runs every search, then trains what each recommends from scratch and tests it. Each search and each training is a JSON
line in results/, appended when it ends; what is there is not run again. Then results/end_to_end.json, .md and .png are
written; `--report` writes those alone. Searches are timed by the processor time of their one core.
"""

from __future__ import annotations

import argparse
import json

from benchmarks.end_to_end.report import draw, figures, markdown
from benchmarks.end_to_end.searches import run_search
from benchmarks.end_to_end.setting import ADDITIVE, ENTRIES, FULL, SEEDS, prepared
from benchmarks.end_to_end.standalone import train_and_test, trainings
from benchmarks.machine import describe_machine
from benchmarks.recorded import RESULTS, arguments, begin, header_of, images_of, read_lines, run_all
from sret_nas.files import write_atomically

SEARCHES, TRAININGS = RESULTS / "end_to_end_searches.jsonl", RESULTS / "end_to_end_trainings.jsonl"


def run(given: argparse.Namespace) -> None:
    """Runs everything that results/ lacks."""
    data, data_dir = images_of(given, prepared)
    summary = data.summary().replace(given.data, "cifar10")
    begin(SEARCHES, {**describe_machine("torch", "optuna", "numpy"), "data": summary})
    done = {(line["entry"], line["seed"]) for line in read_lines(SEARCHES)}
    runs = [(entry, seed) for seed in range(SEEDS) for entry in ENTRIES if (entry.name, seed) not in done]
    searches = sorted(runs, key=lambda run: run[0] not in (ADDITIVE, FULL))  # what the question is about comes first
    run_all(SEARCHES, [(run_search, (*search, data_dir)) for search in searches], given.workers)
    trained = {(line["arch_id"], line["seed"]) for line in read_lines(TRAININGS)}
    needed = {key: arch for key, arch in trainings(read_lines(SEARCHES)).items() if key not in trained}
    run_all(TRAININGS, [(train_and_test, (arch, seed, data_dir)) for (_, seed), arch in needed.items()], given.workers)


def report() -> None:
    """Writes the report, from the committed results alone."""
    result = {**header_of(SEARCHES), **figures(read_lines(SEARCHES), read_lines(TRAININGS))}
    write_atomically(RESULTS / "end_to_end.json", json.dumps(result, indent=1) + "\n")
    write_atomically(RESULTS / "end_to_end.md", markdown(result))
    draw(RESULTS / "end_to_end.png", result)


def main() -> None:
    given = arguments(__doc__, "end_to_end", "searches or trainings")
    if not given.report:
        run(given)
    report()


if __name__ == "__main__":
    main()
