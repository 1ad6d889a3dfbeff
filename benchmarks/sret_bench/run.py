"""Makes the tables of SReT-Bench, piece by piece: it can be killed at any time, and carries on where it stopped.

    python -m benchmarks.sret_bench.run --data path/to/cifar10 [--work DIR] [--plan]

One process, one thread, some ten core-hours. Order: a supernet, its inherited scores, trainings from scratch, short
trainings, the other supernet and its scores, second seeds, precision. Lines are appended to tables in the work
directory; `python -m benchmarks.sret_bench.publish` writes what is there into results/.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from benchmarks.machine import describe_machine
from benchmarks.recorded import BENCHMARKS, RESULTS
from benchmarks.sret_bench import inherited
from benchmarks.sret_bench.setting import Setting, published
from benchmarks.sret_bench.tables import Line, Table
from trials.data import PreparedData


def inherited_table(work: Path, results: Path = RESULTS) -> Table:
    return Table(results / "sret_bench_inherited.jsonl.gz", work / "inherited.jsonl", inherited.KEY)


def header(setting: Setting, data: PreparedData) -> Line:
    return {
        **describe_machine("torch", "numpy"),
        "data": data.summary().replace(setting.source, "cifar10"),
        "supernet": setting.supernet_config.model_dump(mode="json"),
        "image_size": setting.image_size,
        "precision": setting.precision,
    }


def run(setting: Setting, work: Path, results: Path = RESULTS) -> None:
    """Runs all that the tables lack."""
    data = setting.prepared(work / "data")
    supernets = inherited_table(work, results)
    supernets.begin(header(setting, data))
    first, *others = setting.supernet_seeds
    for seed in (first, *others):
        path = inherited.train(setting, seed, data, work)
        inherited.score(setting, seed, path, data, supernets)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="CIFAR-10 as a folder of class folders in train and val")
    parser.add_argument("--work", type=Path, default=BENCHMARKS.parent / "runs" / "sret_bench", help="for what is large")
    given = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    run(published(given.data), given.work)


if __name__ == "__main__":
    main()
