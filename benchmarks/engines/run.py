"""What engines cost: seconds per job that is not computing, and what a second worker brings.

    python -m benchmarks.engines.run [--jobs 100] [--work-jobs 4] [--work-seconds 30] [--quick] [--anew]

Empty jobs on two workers, then jobs of a fixed amount of computing on one worker and on two, with each of: this very
process, the local engine, the Ray engine, Ray Tune whose searcher hands out jobs one by one (what the Ray engine might
have been), and `tune.Tuner` with OptunaSearch as most people write it. Each measurement is a process of its own, whose
start and end are told apart from its jobs. The overhead of a job is what its worker spends on it beyond computing. On a
busy machine neither that nor the speed-up can be trusted. Writes results/engines.json and engines.md after every
measurement; what is there is not measured again, unless with other settings or `--anew`.
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
from benchmarks.engines.work import products_in
from benchmarks.machine import describe_machine
from sret_nas.files import write_atomically

BENCHMARKS = Path(__file__).resolve().parent.parent
RESULTS = BENCHMARKS / "results"
SYSTEMS = ("inline", "local engine", "Ray engine", "Tune driven by jobs", "Tune with OptunaSearch")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100, help="empty jobs of each system (default %(default)s)")
    parser.add_argument("--work-jobs", type=int, default=4, help="jobs that compute (default %(default)s)")
    parser.add_argument("--work-seconds", type=float, default=30.0, help="processor time of each (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="ten empty jobs, two of 0.3 s: to see that it runs")
    parser.add_argument("--anew", action="store_true", help="forget what was measured")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="default: benchmarks/results")
    given = parser.parse_args()
    if given.quick:
        given.jobs, given.work_jobs, given.work_seconds = 10, 2, 0.3
    return given


def measure(system: str, workers: int, num_jobs: int, products: int) -> dict[str, Any]:
    """Returns one row. All seconds are of the wall clock."""
    options = {"system": system, "workers": workers, "num_jobs": num_jobs, "products": products}
    with tempfile.TemporaryDirectory() as home:
        environment = {
            **os.environ,
            "HOME": home,
            "PYTHONPATH": str(BENCHMARKS.parent),
        }
        command = [sys.executable, "-m", "benchmarks.engines.measure", json.dumps(options)]
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
    """Returns the tables of a result, as far as it goes."""
    machine, settings = result["machine"], result["settings"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines = [
        "# What engines cost",
        "",
        f"`python -m benchmarks.engines.run`, {machine['date']}, {machine['cores']} cores ({machine['cpu']}),",
        f"{versions}. Load when it began: {result['load']}.",
        "",
        "- **Overhead**: what a worker spends on a job beyond computing, waiting for the next one included.",
        "- **Start** until the first job could run, **close** until everything that was started is gone.",
        "- **Tune driven by jobs**: `tune.Tuner` whose searcher hands out jobs as they come; reused actors, no logs.",
        "- **Tune with OptunaSearch**: as most people write it, everything by default.",
        "",
        f"## {settings['jobs']} empty jobs on 2 workers",
        "",
        "| | overhead, ms per job | start, s | close, s |",
        "| --- | --- | --- | --- |",
    ]
    for row in result["empty"]:
        overhead, start, close = (row[name] for name in ("overhead_ms_per_job", "start_seconds", "close_seconds"))
        lines.append(f"| {row['system']} | {overhead:g} | {start:g} | {close:g} |")
    lines += [
        "",
        f"## {settings['work_jobs']} jobs of {settings['work_seconds']:g} s of computing (aims: 5 %, 1.8)",
        "",
        "| | overhead on 2 workers, ms per job | of a job | seconds on 1 worker | on 2 | speed-up |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    rows = {(row["system"], row["workers"]): row for row in result["work"]}
    for system in SYSTEMS[1:]:
        if (system, 1) in rows and (system, 2) in rows:
            one, two = rows[system, 1], rows[system, 2]
            share = two["overhead_ms_per_job"] * two["jobs"] / 1000 / two["computing_seconds"]
            lines.append(
                f"| {system} | {two['overhead_ms_per_job']:g} | {share:.1%} | {one['jobs_seconds']:.1f} "
                f"| {two['jobs_seconds']:.1f} | {one['jobs_seconds'] / two['jobs_seconds']:.2f} |"
            )
    return "\n".join(lines) + "\n"


def begun(path: Path, settings: dict[str, Any], is_anew: bool) -> dict[str, Any]:
    """Returns what was measured with these settings so far, or nothing yet."""
    known = json.loads(path.read_text()) if path.exists() and not is_anew else {}
    if known.get("settings") == settings:
        return dict(known)
    return {
        "machine": describe_machine("ray", "optuna", "numpy"),
        "load": ", ".join(f"{number:.1f}" for number in os.getloadavg()),
        "settings": settings,
        "products_per_job": products_in(settings["work_seconds"]),
        "empty": [],
        "work": [],
    }


def main() -> None:
    given = arguments()
    settings = {"jobs": given.jobs, "work_jobs": given.work_jobs, "work_seconds": given.work_seconds}
    result = begun(given.out / "engines.json", settings, given.anew)
    plan = [("empty", system, 1 if system == "inline" else 2, given.jobs, 0) for system in SYSTEMS]
    products = result["products_per_job"]
    plan += [("work", system, workers, given.work_jobs, products) for system in SYSTEMS[1:] for workers in (1, 2)]
    for part, system, workers, jobs, number in plan:
        if not any((row["system"], row["workers"]) == (system, workers) for row in result[part]):
            result[part].append(measure(system, workers, jobs, number))
            write_atomically(given.out / "engines.json", json.dumps(result, indent=1) + "\n")
            write_atomically(given.out / "engines.md", markdown(result))


if __name__ == "__main__":
    main()
