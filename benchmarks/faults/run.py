"""Disturbs small real searches in every way that we know of, and writes down what became of them.

    python benchmarks/faults/run.py [--kills 20] [--engine local]

Writes results/faults.json and results/faults.md; of another engine faults_ENGINE.json and .md. Ends with code 1 if
anything did not go as promised. The disk that is full is a small tmpfs in a name space of its own, which needs root.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]
from faults import Faults, Row  # noqa: E402

from machine import describe_machine  # noqa: E402

RESULTS = HERE.parent / "results"
SEED = 0
NAMES = ("driver", "ctrl-c", "worker", "memory", "hang", "nan", "exception", "disk", "permission", "second", "time")

Case = Callable[[], list[Row]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="of the driver, at random moments (default %(default)s)")
    parser.add_argument("--engine", default="local", help="default: %(default)s")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help="kinds of faults")
    parser.add_argument("--most", type=int, metavar="N", help="of each kind; default: all")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="default: benchmarks/results")
    given = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        faults = Faults(Path(folder), given.engine, random.Random(SEED))
        rows = list(rows_of(faults, given.kills, given.engine, given.only, given.most))
    name = "faults" if given.engine == "local" else f"faults_{given.engine}"
    result = {
        **describe_machine("torch", "optuna", "numpy"),
        "seed": SEED,
        "engine": given.engine,
        "wall_seconds": round(time.monotonic() - started),
        "undisturbed_seconds": {kind: round(seconds, 1) for kind, seconds in faults.seconds.items()},
        "rows": [row.as_dict() for row in rows],
    }
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    (given.out / f"{name}.md").write_text(markdown(rows))
    sys.exit(0 if all(row.as_promised for row in rows) else 1)


def rows_of(faults: Faults, kills: int, engine: str, only: Sequence[str], most: int | None) -> Iterator[Row]:
    """The faults one after the other, each told as it ends; of each kind of them at most so many."""
    for name, cases in cases_of(faults, kills, engine).items():
        if name not in only:
            continue
        for case in cases[:most]:
            for row in case():
                print(f"{'as promised' if row.as_promised else 'NOT AS PROMISED'}: {row}", flush=True)
                yield row


def cases_of(faults: Faults, kills: int, engine: str) -> dict[str, list[Case]]:
    kinds = list(faults.whole)

    def job(what: str, kind: str, times: int, cause: str, job: str = "trial") -> Case:
        return lambda: [faults.job_fault(what, kind, times, cause, job)]

    def ctrl_c(kind: str, phase: str, beginning: str) -> Case:
        return lambda: [faults.interrupted_twice(kind, phase, beginning)]

    return {
        "driver": [lambda kind=kinds[number % 2]: [faults.driver_killed(kind)] for number in range(kills)],
        "ctrl-c": [
            ctrl_c("supernet", "while the supernet trains", "Training the supernet"),
            ctrl_c("supernet", "in the finals", "Finals: "),
            ctrl_c("from scratch", "in the trials", "trial "),
            ctrl_c("supernet", "in the trials", "trial "),
            ctrl_c("from scratch", "while it plans", "Data: "),
        ],
        "worker": [
            job("worker killed", "from scratch", 2, "worker died"),
            job("worker killed", "from scratch", 9, "worker died"),
            job("worker killed", "supernet", 1, "worker died"),
            job("worker killed", "supernet", 1, "worker died", job="final"),
            *(lambda kind=kind: [faults.workers_killed(kind, kills=4)] for kind in kinds if engine == "local"),
        ],
        "memory": [
            job("memory", "from scratch", 1, "out of memory"),
            job("memory", "from scratch", 9, "out of memory"),
            job("memory", "supernet", 1, "out of memory"),
        ],
        "hang": [job("hang", kind, 9, "timed out") for kind in kinds],
        "nan": [job("nan", kind, 9, "diverged") for kind in kinds],
        "exception": [job("exception", kind, 9, "exception") for kind in kinds],
        "disk": [
            lambda kind=kind, kilobytes=kilobytes: [faults.disk_full(kind, kilobytes)]
            for kind, kilobytes in (
                ("from scratch", 1000), ("supernet", 2000), ("supernet", 4), ("supernet", 40), ("supernet", 400),
                ("supernet", 4000), ("from scratch", 40), ("from scratch", 400),
            )
        ],
        "permission": [lambda: [faults.no_permission("supernet")]],
        "second": [lambda kind=kind: faults.two_at_once(kind) for kind in kinds],
        "time": [lambda: [faults.time_budget("from scratch")]],
    }  # fmt: skip


def markdown(rows: list[Row]) -> str:
    """The rows as a table; what did not go as promised comes first."""
    lines = [
        "| done | search | recorded, or said | went on | front as undisturbed | as promised |",
        "|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: row.as_promised):
        front = "(a trial fewer)" if row.same_front is None and row.went_on else _yes(bool(row.same_front))
        lines.append(
            f"| {row.done} | {row.search} | {row.recorded} | {_yes(row.went_on)} | {front} | {_yes(row.as_promised)} |"
        )
    promised = sum(row.as_promised for row in rows)
    return "\n".join([*lines, "", f"{promised} of {len(rows)} as promised.", ""])


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"


if __name__ == "__main__":
    main()
