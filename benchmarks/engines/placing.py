"""What it takes to get two processes of a training to meet on a Ray: `TorchTrainer`, and the actors that we use.

    python -m benchmarks.engines.placing [--repeats 3]

Each measurement is a process of its own, with a Ray of its own on this machine. `start_seconds` is from a Ray that runs
to both processes having averaged a first tensor; `end_seconds` from there until they are gone. Then Ctrl-C is sent to a
training under way, and noted whether a process came to tidy up (as it must, to write a checkpoint), and in how many
seconds the driver was gone. Nothing is random. On a busy machine all of it takes longer: see the load. Writes
results/placing.json.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # for every process

from benchmarks.machine import describe_machine
from sret_nas.files import write_atomically

BENCHMARKS = Path(__file__).resolve().parent.parent
SYSTEMS = ("TorchTrainer", "actors")
PROCESSES = 2


def meet_and_work(seconds: float, note: str) -> None:
    """Does what a process does: averages a tensor with the other, says so, and works until it is told to end."""
    import torch
    import torch.distributed as dist

    from trials.interruption import defer_interrupts

    dist.all_reduce(torch.ones(1))
    Path(note).with_suffix(f".met{os.getpid()}").write_text(str(time.time()))
    with defer_interrupts() as interruptions:
        try:
            until = time.monotonic() + seconds
            while time.monotonic() < until and not interruptions:
                time.sleep(0.05)
        finally:
            if seconds > 0:
                Path(note).with_suffix(f".tidied{os.getpid()}").write_text("")


def with_actors(seconds: float, note: str) -> None:
    import ray

    from trials.distributed import ray_group as on_ray
    from trials.distributed.ray_member import RankActor
    from trials.interruption import handle_interruptions

    class Worker(RankActor):
        def work(self, seconds: float, note: str) -> None:
            meet_and_work(seconds, note)

    handle_interruptions()
    vars(on_ray)["RankActor"] = Worker
    group = on_ray.ProcessGroup(on_ray.Needs(PROCESSES, 1, 0), "cpu", "this machine")
    running = [actor.work.remote(seconds, note) for actor in group.actors]
    try:
        ray.get(running)
    except KeyboardInterrupt:
        ray.get([actor.stop.remote() for actor in group.actors])
        ray.get(running)
    group.end()


def with_trainer(seconds: float, note: str) -> None:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    storage = RunConfig(storage_path=tempfile.mkdtemp(), failure_config=FailureConfig(max_failures=0))
    scaling = ScalingConfig(num_workers=PROCESSES)
    TorchTrainer(lambda: meet_and_work(seconds, note), scaling_config=scaling, run_config=storage).fit()


def measured(system: str, seconds: float, note: str) -> None:
    """Measures in a process of its own."""
    from trials.engines.ray_session import OwnRay

    session = OwnRay(PROCESSES)
    started = time.time()
    Path(note).write_text(str(started))
    (with_trainer if system == "TorchTrainer" else with_actors)(seconds, note)
    Path(note).with_suffix(".ended").write_text(str(time.time()))
    session.end()


def spawn(system: str, seconds: float, note: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.engines.placing", "--measured", system, str(seconds), str(note)],
        env={**os.environ, "PYTHONPATH": str(BENCHMARKS.parent)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def start_and_end(system: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        note = Path(folder) / "note"
        said = spawn(system, 0.0, note).communicate()[0]
        met = [float(path.read_text()) for path in Path(folder).glob("note.met*")]
        if len(met) < PROCESSES or not note.with_suffix(".ended").exists():
            sys.exit(f"{system} failed:\n{said}")
        ended = float(note.with_suffix(".ended").read_text())
        start = max(met) - float(note.read_text())
        return {"start_seconds": round(start, 2), "end_seconds": round(ended - max(met), 2)}


def interrupted(system: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        note = Path(folder) / "note"
        process = spawn(system, 600.0, note)
        while len(list(Path(folder).glob("note.met*"))) < PROCESSES and process.poll() is None:
            time.sleep(0.1)
        pressed = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.communicate()
        return {
            "processes_that_tidied_up": len(list(Path(folder).glob("note.tidied*"))),
            "driver_gone_after_seconds": round(time.monotonic() - pressed, 2),
            "exit_code": process.returncode,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measured", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measured:
        measured(given.measured[0], float(given.measured[1]), given.measured[2])
        return
    rows = []
    load = os.getloadavg()[0]
    for system in SYSTEMS:
        times = [start_and_end(system) for _ in range(given.repeats)]
        middle = {name: median(each[name] for each in times) for name in times[0]}
        rows.append({"system": system, "median": middle, "all": times, "after_ctrl_c": interrupted(system)})
        print(json.dumps(rows[-1]), flush=True)
    result = {"machine": describe_machine("ray", "torch"), "load": round(load, 1), "processes": PROCESSES, "rows": rows}
    write_atomically(BENCHMARKS / "results" / "placing.json", json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
