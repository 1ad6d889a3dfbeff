"""What the README's first command takes: seconds, and memory of all its processes together.

    python -m benchmarks.first_command

Runs `cli.py search --flops-budget 1G` in a temporary folder, reads the proportional set size (memory shared between
processes counted once) of the process tree from /proc twice a second. Writes results/first_command.json, the terminal's
text as .txt and the front's picture as .png. Linux.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.machine import describe_machine

REPOSITORY = Path(__file__).resolve().parent.parent
RESULT = Path(__file__).parent / "results" / "first_command.json"
COLUMNS = 100
SAMPLE_SECONDS = 0.5


def process_tree(root: int) -> list[int]:
    """Returns a process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):  # it ended while we looked
                continue
            children.setdefault(parent, []).append(int(entry.name))
    tree = [root]
    for process in tree:
        tree += children.get(process, [])
    return tree


def resident_mb(root: int) -> float:
    """Returns the proportional set size of a process tree in MB."""
    kilobytes = 0
    for process in process_tree(root):
        try:
            rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
        except OSError:  # it ended while we looked
            continue
        kilobytes += next((int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")), 0)
    return kilobytes * 1024 / 1e6


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, open(f"{folder}/output.txt", "w+") as output:
        command = [
            sys.executable,
            str(REPOSITORY / "cli.py"),
            "search",
            "--flops-budget",
            "1G",
            "--out",
            f"{folder}/run",
        ]
        started, peak = time.monotonic(), 0.0
        environment = {**os.environ, "COLUMNS": str(COLUMNS)}
        process = subprocess.Popen(command, stdout=output, env=environment)
        pause = threading.Event()
        while process.poll() is None:
            peak = max(peak, resident_mb(process.pid))
            pause.wait(SAMPLE_SECONDS)
        if process.returncode:
            sys.exit(f"the search ended with code {process.returncode}")
        seconds = time.monotonic() - started
        RESULT.with_suffix(".png").write_bytes((Path(folder) / "run" / "front.png").read_bytes())
        RESULT.with_suffix(".txt").write_text((Path(folder) / "output.txt").read_text().replace(f"{folder}/", "runs/"))
        finished = (Path(folder) / "run" / "records.jsonl").read_text().count('"event": "finished"')
    result = {
        **describe_machine("torch", "optuna", "numpy"),
        "command": "cli.py search --flops-budget 1G",
        "seed": 0,
        "finished_trials": finished,
        "wall_seconds": round(seconds, 1),
        "peak_memory_mb": round(peak),
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
