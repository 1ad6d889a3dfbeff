"""Changes files of every kind by chance, reads each, and writes down what became of them.

    python -m benchmarks.faults.fuzz_files [--cases 20000] [--seed 0] [--out DIR]

A case is a good small file with one to three changes (`tests/foreign_files`), made from the seed, the kind and the
case's number alone. It goes as promised if the file is read or refused in one printable line, in under 2 s and 500 MB.
Cases run in processes that are forked once everything is imported, so that one that hangs or dies costs itself alone;
time is that of the process's CPU, since others may use the machine. The table is written to
results/fuzz_files.json and results/fuzz_files.md; ends with code 1 if a case did not go as promised.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import resource
import sys
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from benchmarks.machine import describe_machine
from sret_nas.errors import MAX_MESSAGE, UserError
from sret_nas.files import write_atomically
from tests.foreign_files import KINDS, Kind, mutated
from tests.foreign_files.exports import KINDS as EXPORTS

MAX_SECONDS, MAX_MEGABYTES = 2.0, 500.0
ALL_KINDS = {**KINDS, **EXPORTS}
HANGS_AFTER = 30.0
"""Seconds after which a case is given up."""
CASES_PER_PROCESS = 200


@dataclass
class Outcomes:
    """Of all cases of one kind of file."""

    read: int = 0
    refused: int = 0
    broken: dict[str, int] = field(default_factory=dict)
    """What else happened, with how often."""
    first_broken: dict[str, int] = field(default_factory=dict)
    """The number of the first case of each."""
    most_seconds: float = 0.0
    most_megabytes: float = 0.0

    def add(self, number: int, outcome: str, seconds: float, megabytes: float) -> None:
        self.most_seconds = max(self.most_seconds, seconds)
        self.most_megabytes = max(self.most_megabytes, megabytes)
        if seconds > MAX_SECONDS:
            outcome = f"took longer than {MAX_SECONDS:g} s"
        if megabytes > MAX_MEGABYTES:
            outcome = f"took more than {MAX_MEGABYTES:g} MB"
        if outcome == "read":
            self.read += 1
        elif outcome == "refused":
            self.refused += 1
        else:
            self.broken[outcome] = self.broken.get(outcome, 0) + 1
            self.first_broken.setdefault(outcome, number)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20_000, help="over all kinds (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=list(ALL_KINDS), default=list(ALL_KINDS), metavar="KIND")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "results", metavar="DIR")
    given = parser.parse_args()
    torch.set_num_threads(1)
    started = time.perf_counter()
    found: dict[str, Outcomes] = {}
    for position, kind in enumerate(given.only):
        number = given.cases // len(given.only) + (position < given.cases % len(given.only))
        found[kind] = run_kind(kind, ALL_KINDS[kind], number, given.seed)
        print(f"{kind}: {found[kind]}", flush=True)
        report(found, given.seed, time.perf_counter() - started, given.out)  # what is known so far is kept
    sys.exit(1 if any(outcomes.broken for outcomes in found.values()) else 0)


def run_kind(name: str, kind: Kind, number: int, seed: int) -> Outcomes:
    """Runs the cases 0 to `number` of a kind, a fresh process for every few and after each that hung or died."""
    outcomes, case, good = Outcomes(), 0, kind.good()
    with tempfile.TemporaryDirectory() as folder:  # what a first call imports counts for no case
        path = Path(folder) / "file"
        path.write_bytes(good)
        kind.read(path)
    fork = multiprocessing.get_context("fork")
    while case < number:
        ours, theirs = fork.Pipe(duplex=False)
        last = min(number, case + CASES_PER_PROCESS)
        process = fork.Process(target=run_cases, args=(name, good, range(case, last), seed, theirs))
        process.start()
        theirs.close()
        while case < last:
            try:
                if not ours.poll(HANGS_AFTER):
                    process.kill()
                    outcomes.add(case, f"hung for {HANGS_AFTER:g} s", 0.0, 0.0)
                    case += 1
                    break
                outcomes.add(case, *ours.recv())
            except EOFError:
                process.join()
                outcomes.add(case, f"died with code {process.exitcode}", 0.0, 0.0)
                case += 1
                break
            case += 1
        process.join()
        ours.close()
    return outcomes


def run_cases(name: str, good: bytes, cases: range, seed: int, to: Connection) -> None:
    """Sends the outcome of each case with its seconds and by how many MB it raised the most memory held so far."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "file"
            path.write_bytes(mutated(good, random.Random(f"{seed} {name} {case}")))
            started = time.process_time()
            outcome = outcome_of(ALL_KINDS[name], path)
            seconds = time.process_time() - started
        megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        to.send((outcome, seconds, megabytes))


def outcome_of(kind: Kind, path: Path) -> str:
    """Returns `read`, `refused`, or what else happened."""
    try:
        kind.read(path)
    except UserError as error:
        text = str(error)
        return "refused" if text.isprintable() and len(text) <= MAX_MESSAGE else "refused, but not in one line"
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} in {Path(place.filename).name}:{place.name}"
    return "read"


def report(found: dict[str, Outcomes], seed: int, seconds: float, out: Path) -> None:
    total = sum(o.read + o.refused + sum(o.broken.values()) for o in found.values())
    broken = sum(sum(o.broken.values()) for o in found.values())
    content = {
        "machine": describe_machine("torch", "pyyaml", "pydantic", "safetensors", "pillow"),
        "seed": seed,
        "cases": total,
        "seconds": round(seconds, 1),
        "kinds": {kind: asdict(outcomes) for kind, outcomes in found.items()},
    }
    write_atomically(out / "fuzz_files.json", json.dumps(content, indent=1) + "\n")
    lines = [
        "# Files changed by chance",
        "",
        f"{total:,} cases, seed {seed}: {broken:,} did not go as promised (read, or refused in one printable line; "
        f"under {MAX_SECONDS:g} s of CPU and {MAX_MEGABYTES:g} MB).",
        "",
        "| file | read | refused | else | most seconds | most MB |",
        "|---|---|---|---|---|---|",
    ]
    for kind, each in found.items():
        other = "; ".join(f"{n} x {what} (first: case {each.first_broken[what]})" for what, n in each.broken.items())
        lines.append(
            f"| {kind} | {each.read:,} | {each.refused:,} | {other or '-'} | {each.most_seconds:.2f} | "
            f"{each.most_megabytes:.0f} |"
        )
    write_atomically(out / "fuzz_files.md", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
