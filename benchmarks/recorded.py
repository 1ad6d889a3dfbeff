"""What benchmarks on images share: arguments, images, and tasks in processes, each of which leaves a JSON line."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trials.data import PreparedData

BENCHMARKS = Path(__file__).resolve().parent
RESULTS = BENCHMARKS / "results"
Line = dict[str, Any]
Task = tuple[Callable[..., Line], tuple[Any, ...]]


def arguments(
    description: str | None, work: str, at_once: str, flags: Mapping[str, str] | None = None
) -> argparse.Namespace:
    """Returns the arguments of a benchmark that runs what its results lack, several at once, and reports all.

    Args:
        description: Of the benchmark.
        work: Name of its folder for large files.
        at_once: What `--workers` counts.
        flags: Options of its own that are given or not, with the help of each.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="CIFAR-10 as a folder of class folders in train and val")
    parser.add_argument("--work", type=Path, default=BENCHMARKS.parent / "runs" / work, help="for what is large")
    parser.add_argument("--workers", type=int, default=2, help=f"{at_once} at once, one thread each")
    parser.add_argument("--report", action="store_true", help="run nothing: report the committed results")
    for flag, meaning in (flags or {}).items():
        parser.add_argument(flag, action="store_true", help=meaning)
    given = parser.parse_args()
    if not given.report and given.data is None:
        parser.error("--data is needed, except with --report")
    return given


def images_of(given: argparse.Namespace, prepared: Callable[[str, Path], PreparedData]) -> tuple[PreparedData, Path]:
    """Returns the images of a command, and where they lie. From here on every process computes on one core."""
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    data_dir = (given.work / "data").absolute()
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    return prepared(given.data, data_dir), data_dir


def run_all(path: Path, tasks: Sequence[Task], workers: int) -> None:
    """Runs tasks in processes, and appends what each returns as it ends."""
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(function, *given) for function, given in tasks]
        for count, future in enumerate(as_completed(futures), 1):
            line = future.result()
            append(path, line)
            shown = {name: value for name, value in line.items() if not isinstance(value, (list, dict))}
            print(f"[{count}/{len(futures)}] {shown}", flush=True)


def begin(path: Path, header: Line) -> None:
    """Writes the first line of a file that is not there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        append(path, header)


def append(path: Path, line: Line) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def header_of(path: Path) -> Line:
    """Returns what the first line says, of the machine and the images."""
    header: Line = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
    return header


def read_lines(path: Path) -> list[Line]:
    """Returns what is on record, without the header: all of it was run from a seed."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [line for line in map(json.loads, text.splitlines()) if "seed" in line]
