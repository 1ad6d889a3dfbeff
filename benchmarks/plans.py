"""How long searches say they will take, beside how long they take.

    python -m benchmarks.plans [--cifar10 DIR] [--only NAME ...]

Every search is the command line's, in a process of its own, in a temporary folder. The plan is the whole time on the
line `Plan: ...`; the actual time is that of the process, start-up included. When each line came says where the time
went. A plan follows from what the machine does while it is measured, so the load is written beside it. Adds to
results/plans.json, and writes the table results/plans.md of it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine
from sret_nas.files import write_atomically
from sret_nas.quantities import format_seconds

REPOSITORY = Path(__file__).resolve().parent.parent
RESULT = Path(__file__).parent / "results" / "plans.json"

TINY, SMALL = "--space sret_tiny --flops-budget 1G", "--space sret_tiny --flops-budget 600M --image-size 24"
SEARCHES = {
    "supernet": f"{TINY} --image-size 32 --supernet-images 4000 --trials 60 --finalists 2 --controls 1 "
    "--train-images 1500",
    "supernet, one worker": f"{SMALL} --supernet-images 8000 --trials 100 --finalists 1 --controls 1 "
    "--train-images 2000 --workers 1",
    "supernet alone": f"{SMALL} --supernet-images 8000 --trials 40 --finalists 0 --controls 0",
    "many trials": f"{SMALL} --supernet-images 2000 --trials 400 --finalists 0 --controls 0",
    "from scratch": f"{SMALL} --no-supernet --train-images 600 --trials 10",
    "from scratch, NSGA-II": "--space smoke --image-size 32 --no-supernet --train-images 1000 --trials 12 "
    "--strategy nsga2 --workers 1",
    "from scratch, rungs": f"{SMALL} --no-supernet --train-images 900 --trials 12 --rungs 2",
    "latency": f"{SMALL} --supernet-images 4000 --trials 80 --finalists 0 --controls 0 --objectives error,latency",
    "Ray": f"{SMALL} --supernet-images 4000 --trials 100 --finalists 1 --controls 0 --train-images 2000 --engine ray",
    "CIFAR-10": f"{TINY} --max-train-images 4000 --max-val-images 1000 --max-test-images 1000 --supernet-images 4000 "
    "--trials 60 --finalists 1 --controls 0",
}
PHASES = {
    "start-up": "Plan:",
    "supernet": "trial 0 ",
    "trials": "Recommending",
    "recommending": "Finals:",
    "finals": "Pareto-optimal in",
    "end": None,
}
"""Phases, each with the beginning of the line that ends it; None is the end of the process."""


def measured(name: str, options: str, cifar10: Path | None) -> dict[str, Any]:
    """Returns the planned and the actual seconds of a search, and those of its phases."""
    data = [] if "CIFAR-10" not in name else ["--data", str(cifar10)]
    command = [sys.executable, "-u", str(REPOSITORY / "cli.py"), "search", *options.split(), *data]
    load, planned, plan, ends = os.getloadavg()[0], None, "", dict[str, float]()
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        process = subprocess.Popen(
            [*command, "--out", f"{folder}/run"], cwd=folder, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "COLUMNS": "400"},
        )  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            for phase, ending in PHASES.items():
                if ending is not None and line.startswith(ending):
                    ends.setdefault(phase, time.monotonic() - started)
            if (found := re.search(r"^Plan: .*: about (.*) in all", line)) is not None:
                planned, plan = seconds_of(found[1]), line.strip()
        if process.wait() != 0:
            sys.exit(f"{name}: the search ended with code {process.returncode}")
        ends["end"] = time.monotonic() - started
    assert planned is not None
    phases, before = {}, 0.0
    for phase in PHASES:
        if phase in ends:
            phases[phase], before = round(ends[phase] - before, 1), ends[phase]
    return {
        "name": name, "options": options, "planned_seconds": planned, "actual_seconds": round(ends["end"], 1),
        "phases": phases, "plan": plan, "load": [round(load, 1), round(os.getloadavg()[0], 1)],
    }  # fmt: skip


def seconds_of(text: str) -> float:
    """Returns the seconds of a time as searches print it, e.g. `1 min 34 s`."""
    units = {"h": 3600.0, "min": 60.0, "s": 1.0}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+) (h|min|s)\b", text))


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| search | planned | actual | actual / planned | load, before and after |", "|---|--:|--:|--:|--:|"]
    for row in rows:
        planned, actual = row["planned_seconds"], row["actual_seconds"]
        lines.append(
            f"| {row['name']} | {format_seconds(planned)} | {format_seconds(actual)} | {actual / planned:.2f} | "
            f"{row['load'][0]:.0f}, {row['load'][1]:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--cifar10", type=Path, metavar="DIR", help="folder of CIFAR-10's images, in one folder per class"
    )
    parser.add_argument(
        "--only", nargs="+", choices=SEARCHES, default=[*SEARCHES], help="names of searches (default: all)"
    )
    given = parser.parse_args()
    rows = {row["name"]: row for row in json.loads(RESULT.read_text())["rows"]} if RESULT.exists() else {}
    for name in given.only:
        if name == "CIFAR-10" and given.cifar10 is None:
            continue
        rows[name] = measured(name, SEARCHES[name], given.cifar10)
        print(json.dumps(rows[name]), flush=True)
        ordered = [rows[known] for known in SEARCHES if known in rows]
        result = {"machine": describe_machine("torch", "numpy"), "seed": 0, "rows": ordered}
        write_atomically(RESULT, json.dumps(result, indent=1) + "\n")
        heading = (
            "# Plans of searches, beside what they took\n\nMade by `python -m benchmarks.plans`, which says how.\n\n"
        )
        write_atomically(RESULT.with_suffix(".md"), f"{heading}{table(ordered)}\n")


if __name__ == "__main__":
    main()
