"""Compares search strategies on public benchmarks, controls and this project's own table: one command for all of it.

    python -m benchmarks.search.run --shared path/to/public/benchmarks [--seeds 20] [--workers 2]

Searches are appended, one JSON line each, to `--runs` as they end, and those already there are not run again. Then
results/search.json, search.md, one picture per problem and the searches themselves, compressed, are written.
`--report` writes those from the committed searches alone. `qlognehvi` and `parego` run if they are named, with BoTorch
and SMAC. Seconds of asking, in processor time, are all that depends on the machine, but for rounding.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import describe_machine
from benchmarks.search.best_known import best_known
from benchmarks.search.plots import draw_problem
from benchmarks.search.problems import FACTORIES, problem_of
from benchmarks.search.runs import ENTRIES, Key, Line, append_line, bundle, is_current, key_of, read_lines, search
from benchmarks.search.summary import Known, markdown, summarised
from sret_nas.files import write_atomically

BENCHMARKS = Path(__file__).resolve().parent.parent
RESULTS = BENCHMARKS / "results"
RAW, FRONTS = RESULTS / "search_runs.jsonl.xz", RESULTS / "search_fronts.npz"
RUNNABLE = [name for name, entry in ENTRIES.items() if not entry.is_past]
BY_DEFAULT = [name for name in RUNNABLE if name not in ("additive-8", "qlognehvi", "parego")]
MIN_EVALUATIONS = 20
PACKAGES = ("numpy", "scipy", "optuna", "moocore", "sret-nas")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="how many, from 0 (default %(default)s)")
    parser.add_argument("--evaluations", type=int, default=200, help="per search (default %(default)s)")
    parser.add_argument("--strategies", nargs="+", choices=RUNNABLE, default=BY_DEFAULT, metavar="NAME")
    parser.add_argument("--problems", nargs="+", choices=FACTORIES, default=list(FACTORIES), metavar="NAME")
    parser.add_argument("--shared", type=Path, default=BENCHMARKS.parent.parent / "shared" / "benchmarks")
    parser.add_argument("--runs", type=Path, default=BENCHMARKS.parent / "runs" / "search.jsonl")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--report", action="store_true", help="run nothing: report the committed searches")
    parser.add_argument("--no-pictures", action="store_true", help="write the tables alone, which is much quicker")
    given = parser.parse_args()
    if given.evaluations < MIN_EVALUATIONS:
        parser.error(f"--evaluations must be at least {MIN_EVALUATIONS}, the first checkpoint, got {given.evaluations}")
    if missing := [name for name in ("hwgpt", "vitbench101") if not (given.shared / name).is_dir()]:
        parser.error(f"--shared must hold the folders hwgpt and vitbench101, {given.shared} lacks {', '.join(missing)}")
    return given


def run_all(given: argparse.Namespace) -> dict[Key, Line]:
    """Runs what is not finished, seed by seed, so that an early stop leaves pairs. Returns all that is finished."""
    given.runs.parent.mkdir(parents=True, exist_ok=True)
    finished = read_lines(given.runs)
    done = {key: line for key, line in finished.items() if is_current(line, given.evaluations, given.shared)}
    wanted = [
        (problem, strategy, seed)
        for seed in range(given.seeds)
        for problem in given.problems
        for strategy in given.strategies
    ]
    left = [key for key in wanted if key not in done]
    print(f"{len(wanted)} searches, {len(left)} of them still to run", flush=True)
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # for the workers: each has one core
    started = time.monotonic()
    with ProcessPoolExecutor(given.workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(search, *key, given.evaluations, given.shared) for key in left]
        for number, future in enumerate(as_completed(futures), 1):
            line = future.result()
            append_line(given.runs, line)
            done[key_of(line)] = line
            seconds = time.monotonic() - started
            print(
                f"[{number}/{len(left)}] {line['problem']} {line['strategy']} seed {line['seed']}: "
                f"{line['seconds']:.1f} s in asking; about {seconds / number * (len(left) - number):.0f} s left",
                flush=True,
            )
    return done


def known_of(names: list[str], shared: Path) -> dict[str, Known]:
    """Returns the best-known fronts: searched for where results/search_fronts.npz lacks them; of tables, read anew."""
    cached: dict[str, Any] = dict(np.load(FRONTS)) if FRONTS.exists() else {}
    known = {}
    for name in names:
        problem = problem_of(name, shared)
        if problem.front_name not in cached or problem.landscape is None:
            cached[problem.front_name], evaluations = best_known(problem)
            print(f"best-known front of {problem.front_name}: {evaluations:,} evaluations", flush=True)
        known[name] = Known(problem, cached[problem.front_name])
    np.savez_compressed(FRONTS, **dict(sorted(cached.items())))
    return known


def extended(known: dict[str, Known], lines: dict[Key, Line]) -> dict[str, Known]:
    """Returns every problem's front with all that was evaluated on it, whatever the noise of the labels."""
    by_front: dict[str, list[Line]] = {}
    for line in lines.values():
        by_front.setdefault(known[line["problem"]].problem.front_name, []).append(line)
    return {name: it.extended(by_front.get(it.problem.front_name, [])) for name, it in known.items()}


def report(given: argparse.Namespace, lines: dict[Key, Line]) -> None:
    names = [name for name in FACTORIES if any(problem == name for problem, _, _ in lines)]
    known = extended(known_of(names, given.shared), lines)
    problems: dict[str, Any] = {}
    for name in names:
        of_problem = {
            entry: {
                seed: line for (problem, strategy, seed), line in lines.items() if (problem, strategy) == (name, entry)
            }
            for entry in ENTRIES
        }
        figures = summarised(known[name], of_problem)
        if not given.no_pictures:
            draw_problem(RESULTS / f"search_{name}.png", known[name], of_problem)
        problems[name] = figures
        print(f"reported {name}", flush=True)
    seeds = sorted({seed for _, _, seed in lines})
    result = {**describe_machine(*PACKAGES), "seeds": seeds, "problems": problems}
    write_atomically(RESULTS / "search.json", json.dumps(result, indent=1) + "\n")
    write_atomically(RESULTS / "search.md", markdown(result))


def main() -> None:
    given = arguments()
    if given.report:
        report(given, read_lines(RAW))
        return
    lines = run_all(given)
    bundle(lines.values(), RAW)
    report(given, lines)


if __name__ == "__main__":
    main()
