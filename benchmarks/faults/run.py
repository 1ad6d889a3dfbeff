"""Disturbs small real searches in every way that we know of, and writes down what became of them.

    python -m benchmarks.faults.run [--engine local ray] [--kills 20] [--ray-kills 10] [--only NAME ...] [--anew]

Every fault's outcome is added to results/faults.json and results/faults.md as it is known, and what is there is not
done again, unless `--anew`. Ends with code 1 if anything did not go as promised. The disk that is full is a small tmpfs
in a name space of its own, which needs root; the cluster is one of several nodes on this machine.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.faults.faults import Faults
from benchmarks.faults.rows import RECOMMENDED, Row
from benchmarks.faults.searches import KINDS, RECOMMENDING
from benchmarks.machine import describe_machine
from sret_nas.files import write_atomically

RESULTS = Path(__file__).resolve().parents[1] / "results"
SEED = 0
ENGINES = ("local", "ray")
NAMES = (
    "driver", "ctrl-c", "worker", "node", "memory", "hang", "nan", "exception", "disk", "permission", "second", "time"
)  # fmt: skip

Case = Callable[[], list[Row]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="of the driver, at random moments (default %(default)s)")
    parser.add_argument("--ray-kills", type=int, default=10, help="the same with Ray (default %(default)s)")
    parser.add_argument("--engine", nargs="+", choices=ENGINES, default=ENGINES, help="default: all")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help="kinds, in this order")
    parser.add_argument("--most", type=int, metavar="N", help="of each kind; default: all")
    parser.add_argument("--anew", action="store_true", help="forget what is known of these faults and engines")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="default: benchmarks/results")
    given = parser.parse_args()
    outcomes = Outcomes(given.out)
    if given.anew:
        outcomes.forget(given.engine, given.only)
    for engine in given.engine:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o755)
            kills = given.kills if engine == "local" else given.ray_kills
            disturb(Path(folder), engine, kills, given.only, given.most, outcomes)
    sys.exit(0 if outcomes.are_all_as_promised else 1)


class Outcomes:
    """What became of each fault, on disk as soon as it is known."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        path = folder / "faults.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        self._undisturbed: dict[str, Any] = known.get("undisturbed", {})
        self._rows: list[dict[str, Any]] = known.get("rows", [])

    def forget(self, engines: Sequence[str], faults: Sequence[str]) -> None:
        self._rows = [row for row in self._rows if row["engine"] not in engines or row["fault"] not in faults]

    def know(self, engine: str, fault: str, number: int) -> bool:
        return any((row["engine"], row["fault"], row["case"]) == (engine, fault, number) for row in self._rows)

    def undisturbed(self, engine: str, found: dict[str, Any]) -> None:
        """Records what searches that nothing disturbs take and find."""
        self._undisturbed.setdefault(engine, {}).update(
            {kind: {**each, "date": _today()} for kind, each in found.items()}
        )
        self._write()

    def add(self, engine: str, fault: str, number: int, row: Row) -> None:
        print(f"{engine}, {'as promised' if row.as_promised else 'NOT AS PROMISED'}: {row}", flush=True)
        self._rows.append({"engine": engine, "fault": fault, "case": number, "date": _today(), **row.as_dict()})
        self._rows.sort(key=lambda row: (row["engine"], NAMES.index(row["fault"]), row["case"]))
        self._write()

    @property
    def are_all_as_promised(self) -> bool:
        return all(row["as_promised"] for row in self._rows)

    def _write(self) -> None:
        machine = describe_machine("torch", "ray", "optuna", "numpy")
        result = {"machine": machine, "seed": SEED, "undisturbed": self._undisturbed, "rows": self._rows}
        self._folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._folder / "faults.json", json.dumps(result, indent=1) + "\n")
        write_atomically(self._folder / "faults.md", markdown(result))


def disturb(folder: Path, engine: str, kills: int, only: Sequence[str], most: int | None, outcomes: Outcomes) -> None:
    """Tries the faults that nothing is known of yet, at most so many of each kind.

    The first of each kind come first, in the order of `only`, so that a part of all says something of every kind.
    """
    faults = Faults(folder, engine)
    cases = cases_of(faults, kills, engine)
    missing = [
        (name, number, case)
        for name in only
        for number, case in enumerate(cases[name][:most])
        if not outcomes.know(engine, name, number)
    ]
    missing.sort(key=lambda one: one[1])
    if not missing:
        return
    faults.find_undisturbed()
    outcomes.undisturbed(engine, {kind: describe(faults, kind) for kind in faults.whole})
    for name, number, case in missing:
        faults.rng.seed(f"{SEED} {name} {number}")
        for row in case():
            outcomes.add(engine, name, number, row)
    outcomes.undisturbed(engine, {kind: describe(faults, kind) for kind in faults.whole})  # those asked for meanwhile


def describe(faults: Faults, kind: str) -> dict[str, Any]:
    """Returns a digest: equal ones are equal findings, to the last bit."""
    found = json.dumps(faults.whole[kind].found(), default=str)
    return {
        "seconds": round(faults.seconds[kind], 1),
        "trials": len(faults.whole[kind].finished()),
        "digest": hashlib.sha256(found.encode()).hexdigest()[:12],
    }


def cases_of(faults: Faults, kills: int, engine: str) -> dict[str, list[Case]]:
    kinds = tuple(KINDS)

    def job(what: str, kind: str, times: int, cause: str, job: str = "trial") -> Case:
        return lambda: [faults.job_fault(what, kind, times, cause, job)]

    def ctrl_c(kind: str, phase: str, beginning: str) -> Case:
        return lambda: [faults.interrupted_twice(kind, phase, beginning)]

    def one(fault: Callable[..., Row], *given: Any) -> Case:
        return lambda: [fault(*given)]

    return {
        "driver": [one(faults.driver_killed, kinds[number % 2]) for number in range(kills)],
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
            *(lambda kind=kind: [faults.workers_killed(kind, kills=4)] for kind in kinds),
            job("worker killed", RECOMMENDING, 1, "worker died", job=RECOMMENDED),
            job("worker killed", RECOMMENDING, 9, "worker died", job=RECOMMENDED),
        ],
        "node": [] if engine == "local" else [
            *(lambda kind=kind: [faults.node_lost(kind)] for kind in kinds),
            lambda: [faults.node_joins("from scratch")],  # the other's trials are over before a node has joined
            lambda: [faults.no_cluster("from scratch")],
        ],
        "memory": [
            job("memory", "from scratch", 1, "out of memory"),
            job("memory", "from scratch", 9, "out of memory"),
            job("memory", "supernet", 1, "out of memory"),
        ],
        "hang": [
            *(job("hang", kind, 9, "timed out") for kind in kinds),
            job("hang", RECOMMENDING, 9, "timed out", job=RECOMMENDED),
        ],
        "nan": [job("nan", kind, 9, "diverged") for kind in kinds],
        "exception": [job("exception", kind, 9, "exception") for kind in kinds],
        "disk": [
            one(faults.disk_full, kind, kilobytes)
            for kind, kilobytes in (
                ("from scratch", 1000), ("supernet", 2000), ("supernet", 4), ("supernet", 40), ("supernet", 400),
                ("supernet", 2600), ("from scratch", 40), ("from scratch", 400),
            )[: None if engine == "local" else 3]  # what writes to the disk knows nothing of engines
        ],
        "permission": [lambda: [faults.no_permission("supernet")]],
        "second": [partial(faults.two_at_once, kind) for kind in kinds],
        "time": [lambda: [faults.time_budget("from scratch")]],
    }  # fmt: skip


def markdown(result: dict[str, Any]) -> str:
    """Returns the outcomes as a table; what did not go as promised comes first."""
    machine, rows = result["machine"], result["rows"]
    promised = sum(row["as_promised"] for row in rows)
    dates = Counter(row["date"] for row in rows)
    when = ", ".join(f"{count} on {date}" for date, count in sorted(dates.items(), reverse=True))
    lines = [
        "# What faults do", "",
        f"`python -m benchmarks.faults.run`, {machine['cores']} cores ({machine['cpu']}), Ray "
        f"{machine['versions']['ray']}. {promised} of {len(rows)} as promised: {when}. Searches of one day are "
        "compared with undisturbed ones of that day.", "",
        "| undisturbed | search | last on | seconds | trials | what was found, as a digest |",
        "|---|---|---|---|---|---|",
        *(
            f"| {engine} | {kind} | {found['date']} | {found['seconds']:.0f} | {found['trials']} | {found['digest']} |"
            for engine, kinds in result["undisturbed"].items() for kind, found in kinds.items()
        ),
        "",
        "| engine | done | search | recorded, or said | went on | front as undisturbed | as promised | date |",
        "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in sorted(rows, key=lambda row: row["as_promised"]):
        front = "(a trial fewer)" if row["same_front"] is None and row["went_on"] else _yes(bool(row["same_front"]))
        told = [row["engine"], row["done"], row["search"], row["recorded"].replace("|", "/").replace("\n", " ")]
        lines.append(
            f"| {' | '.join(told)} | {_yes(row['went_on'])} | {front} | {_yes(row['as_promised'])} | {row['date']} |"
        )
    return "\n".join(lines) + "\n"


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"


if __name__ == "__main__":
    main()
