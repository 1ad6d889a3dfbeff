"""What a trial costs with `--engine tune`, beside `--engine ray`.

    python -m benchmarks.engines.tune [--jobs 100] [--repeats 3]

Empty jobs on two workers, on both engines in turn, each measurement in a process of its own. On a machine with other
work the wall time says little, so the driver's processor time and the load are written beside it. Writes
results/engine_tune.json.
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
from benchmarks.machine import describe_machine
from sret_nas.files import write_atomically

BENCHMARKS = Path(__file__).resolve().parent.parent
ENGINES = {"ray": "Ray engine", "tune": "Ray Tune engine"}
WORKERS = 2


def measured(system: str, jobs: int) -> dict[str, Any]:
    """Returns the milliseconds of an empty job: of the wall clock, and of the driver's processor time."""
    options = {"system": system, "workers": WORKERS, "num_jobs": jobs, "products": 0}
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "HOME": home, "PYTHONPATH": str(BENCHMARKS.parent)}
        command = [sys.executable, "-m", "benchmarks.engines.measure", json.dumps(options)]
        finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        sys.exit(f"{system} failed:\n{finished.stderr}")
    told = json.loads(finished.stdout.splitlines()[-1])
    return {
        "wall_ms_per_job": round(1000 * told["seconds"] / jobs, 2),
        "driver_cpu_ms_per_job": round(1000 * told["driver_cpu"] / jobs, 2),
        "start_seconds": round(told["start"], 2),
        "load": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100, help="empty jobs of each measurement (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="measurements of each engine (default %(default)s)")
    given = parser.parse_args()
    rows = []
    for repeat in range(given.repeats):
        for engine, system in ENGINES.items():
            rows.append({"engine": engine, "repeat": repeat, **measured(system, given.jobs)})
            print(json.dumps(rows[-1]), flush=True)
    result = {"machine": describe_machine("ray"), "workers": WORKERS, "jobs": given.jobs, "rows": rows}
    write_atomically(BENCHMARKS / "results" / "engine_tune.json", json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
