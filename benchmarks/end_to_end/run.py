"""Which search finds better networks in the same time, the supernet's training included? One command for all of it.

    python -m benchmarks.end_to_end.run --data path/to/cifar10 [--workers 2] [--again]

Runs every search, then trains what each recommends from scratch and tests it. Each search and each training is a JSON
line in results/, appended when it ends; what is there is not run again. Then results/end_to_end.json, .md and .png are
written; `--report` writes those alone. Searches are timed by the processor time of their one core. `--again` has other
seeds, fewer searches and one more, and files of its own.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.end_to_end.report import draw, figures, markdown
from benchmarks.end_to_end.searches import run_search
from benchmarks.end_to_end.setting import ADDITIVE, AGAIN, BOTH, FIRST, FULL, Comparison, prepared
from benchmarks.end_to_end.standalone import train_and_test, trainings
from benchmarks.machine import describe_machine
from benchmarks.recorded import RESULTS, arguments, begin, header_of, images_of, read_lines, run_all
from sret_nas.files import write_atomically


def run(given: argparse.Namespace, comparison: Comparison) -> None:
    """Runs everything that results/ lacks."""
    path_of_searches, path_of_trainings = files_of(comparison)
    data, data_dir = images_of(given, prepared)
    summary = data.summary().replace(given.data, "cifar10")
    begin(path_of_searches, {**describe_machine("torch", "optuna", "numpy"), "data": summary})
    done = {(line["entry"], line["seed"]) for line in read_lines(path_of_searches)}
    runs = [
        (entry, seed) for seed in comparison.seeds for entry in comparison.entries if (entry.name, seed) not in done
    ]
    searches = sorted(runs, key=lambda run: run[0] not in (ADDITIVE, FULL, BOTH))  # what the question is about first
    run_all(path_of_searches, [(run_search, (*search, data_dir)) for search in searches], given.workers)
    trained = {(line["arch_id"], line["seed"]) for line in read_lines(path_of_trainings)}
    needed = {key: arch for key, arch in trainings(read_lines(path_of_searches)).items() if key not in trained}
    run_all(
        path_of_trainings, [(train_and_test, (arch, seed, data_dir)) for (_, seed), arch in needed.items()],
        given.workers,
    )  # fmt: skip


def report(comparison: Comparison) -> None:
    """Writes the report, from the committed results alone."""
    searches, trained = files_of(comparison)
    result = {**header_of(searches), **figures(read_lines(searches), read_lines(trained))}
    write_atomically(RESULTS / f"{comparison.name}.json", json.dumps(result, indent=1) + "\n")
    write_atomically(RESULTS / f"{comparison.name}.md", markdown(result, is_again=comparison is AGAIN))
    draw(RESULTS / f"{comparison.name}.png", result)


def files_of(comparison: Comparison) -> tuple[Path, Path]:
    """Returns the files of searches and of trainings."""
    return RESULTS / f"{comparison.name}_searches.jsonl", RESULTS / f"{comparison.name}_trainings.jsonl"


def main() -> None:
    again = {"--again": "other seeds and searches (see above)"}
    given = arguments(__doc__, "end_to_end", "searches or trainings", again)
    comparison = AGAIN if given.again else FIRST
    if not given.report:
        run(given, comparison)
    report(comparison)


if __name__ == "__main__":
    main()
