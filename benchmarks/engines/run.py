"""What engines cost: seconds per job that is not computing, and what a second worker brings.

    python benchmarks/engines/run.py [--jobs 100] [--work-jobs 12] [--work-seconds 3]

Empty jobs on two workers, then jobs of a fixed amount of computing on one worker and on two, with each of: this very
process, the local engine, the Ray engine, Ray Tune whose searcher hands out jobs one by one (what the Ray engine might
have been), and `tune.Tuner` with OptunaSearch as most people write it. Each measurement is a process of its own, whose
start and end are told apart from its jobs. The overhead of a job is what its worker spends on it beyond computing. On a
busy machine neither that nor the speed-up can be trusted. Writes results/engines.json and engines.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # for every process
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from engines.work import products_in

from machine import describe_machine
from sret_nas.files import write_atomically

BENCHMARKS = Path(__file__).resolve().parent.parent
RESULTS = BENCHMARKS / "results"
SYSTEMS = ("inline", "local engine", "Ray engine", "Tune driven by jobs", "Tune with OptunaSearch")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100, help="empty jobs of each system")
    parser.add_argument("--work-jobs", type=int, default=12, help="jobs that compute, of each system")
    parser.add_argument("--work-seconds", type=float, default=3.0, help="processor time of a job that computes")
    return parser.parse_args()


def measure(system: str, workers: int, num_jobs: int, products: int) -> dict[str, Any]:
    """One row. All seconds are of the wall clock."""
    options = {"system": system, "workers": workers, "num_jobs": num_jobs, "products": products}
    with tempfile.TemporaryDirectory() as home:
        environment = {
            **os.environ,
            "HOME": home,
            "PYTHONPATH": os.pathsep.join([str(BENCHMARKS), str(BENCHMARKS.parent)]),
        }
        command = [sys.executable, "-m", "engines.measure", json.dumps(options)]
        finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        sys.exit(f"{system} failed:\n{finished.stderr}")
    told = json.loads(finished.stdout.splitlines()[-1])
    computing = sum(told["jobs"])
    row = {
        "system": system,
        "workers": workers,
        "jobs": num_jobs,
        "start_seconds": round(told["start"], 2),
        "jobs_seconds": round(told["seconds"], 4),
        "computing_seconds": round(computing, 3),
        "overhead_ms_per_job": round(1000 * (told["seconds"] * workers - computing) / num_jobs, 2),
        "close_seconds": round(told["close"], 2),
    }
    print(json.dumps(row), flush=True)
    return row


def markdown(result: dict[str, Any]) -> str:
    """The tables of a result."""
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines = [
        "# What engines cost",
        "",
        f"`python benchmarks/engines/run.py`, {machine['date']}, {machine['cores']} cores ({machine['cpu']}),",
        f"{versions}. Load when it began: {result['load']}.",
        "",
        "- **Overhead**: what a worker spends on a job beyond computing, waiting for the next one included.",
        "- **Start** until the first job could run, **close** until everything that was started is gone.",
        "- **Tune driven by jobs**: `tune.Tuner` whose searcher hands out jobs as they come; reused actors, no logs.",
        "- **Tune with OptunaSearch**: as most people write it, everything by default.",
        "",
        f"## {result['empty'][0]['jobs']} empty jobs on 2 workers",
        "",
        "| | overhead, ms per job | start, s | close, s |",
        "| --- | --- | --- | --- |",
    ]
    for row in result["empty"]:
        overhead, start, close = (row[name] for name in ("overhead_ms_per_job", "start_seconds", "close_seconds"))
        lines.append(f"| {row['system']} | {overhead:g} | {start:g} | {close:g} |")
    lines += [
        "",
        f"## {result['work'][0]['jobs']} jobs of {result['work_seconds']:g} s of computing",
        "",
        "| | overhead on 2 workers, ms per job | seconds on 1 worker | on 2 | speed-up |",
        "| --- | --- | --- | --- | --- |",
    ]
    rows = {(row["system"], row["workers"]): row for row in result["work"]}
    for system in SYSTEMS[1:]:
        one, two = rows[system, 1], rows[system, 2]
        lines.append(
            f"| {system} | {two['overhead_ms_per_job']:g} | {one['jobs_seconds']:.1f} | {two['jobs_seconds']:.1f} "
            f"| {one['jobs_seconds'] / two['jobs_seconds']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    given = arguments()
    load = ", ".join(f"{number:.1f}" for number in os.getloadavg())
    products = products_in(given.work_seconds)
    result = {
        "machine": describe_machine("ray", "optuna", "numpy"),
        "load": load,
        "work_seconds": given.work_seconds,
        "products_per_job": products,
        "empty": [measure(system, 1 if system == "inline" else 2, given.jobs, 0) for system in SYSTEMS],
        "work": [measure(system, workers, given.work_jobs, products) for system in SYSTEMS[1:] for workers in (1, 2)],
    }
    write_atomically(RESULTS / "engines.json", json.dumps(result, indent=1) + "\n")
    write_atomically(RESULTS / "engines.md", markdown(result))


if __name__ == "__main__":
    main()
