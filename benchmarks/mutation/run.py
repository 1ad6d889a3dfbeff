"""Do the tests notice? Puts small faults into modules, one at a time, and runs the tests of each.

    python -m benchmarks.mutation.run [--rooms NAME ...] [--modules FILE ...] [--size 40] [--survivors] [--report]

Needs `pip install -e '.[test,mutation]'`. Every module's outcome is added to results/mutation.json and mutation.md as
it is known. `--survivors` runs again only what survived before, where new tests or modules have come; `--report` runs
nothing. What survives and is harmless is explained in explained.yaml.

Each mutant has a process of its own, forked from this one, which has imported the libraries but nothing of ours. It
works in a copy of the checkout, the quickest tests first, until one fails. A mutant that takes too long is noticed too:
by its seconds of CPU, as others may use the machine as well, or by ten times as many on the clock if it only waits,
without those in which it waited for a processor.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.machine import describe_machine
from benchmarks.mutation.mutants import Mutant, sampled
from benchmarks.mutation.rooms import ONLY, ROOMS

HERE = Path(__file__).resolve().parent

REPOSITORY = HERE.parents[1]
RESULTS = HERE.parent / "results"
EXPLAINED = HERE / "explained.yaml"
SEED = 0
COPIED = (
    "sret_nas",
    "trials",
    "tests",
    "search_spaces",
    "recipes",
    "studies",
    "benchmarks",
    "docs",
    "cli.py",
    "pyproject.toml",
    "README.md",
)
LIBRARIES = ("hypothesis", "matplotlib.pyplot", "moocore", "numpy", "optuna", "pyarrow.fs", "pydantic", "rich.console",
             "rich.progress", "rich.table", "scipy.linalg", "scipy.optimize", "sklearn", "torch", "yaml")  # fmt: skip
MAX_MEMORY = 6 * 2**30
"""Bytes that a mutant may ask for: some ask for all there are."""
MAX_CLOCK_PER_CPU = 10
"""Seconds on the clock that tests may take for each second of CPU that they may use."""

Line = dict[str, Any]


class Quickest:
    """A plugin of pytest: within each file the quickest tests come first, by the seconds that they took before."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.before, self.seconds = seconds, dict[str, float]()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        files = list(dict.fromkeys(item.path for item in items))
        items.sort(key=lambda item: (files.index(item.path), self.before.get(item.nodeid, 0.0)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration


class Checkout:
    """A copy of the checkout in which mutants are tried."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._output = path / "output.txt"
        for name in COPIED:
            source = REPOSITORY / name
            if source.is_dir():
                shutil.copytree(source, path / name, ignore=shutil.ignore_patterns("__pycache__", "results"))
            else:
                shutil.copy(source, path / name)

    def try_tests(self, tests: tuple[str, ...]) -> tuple[float, dict[str, float]]:
        """Returns the seconds of CPU that all tests take, and each on the clock. Ends the command if one fails of
        itself."""
        timings = self.path / "timings.json"
        status, seconds = self._forked(tests, {}, 600, timings)
        if status != "survived":
            sys.exit(f"these tests fail without a mutant: {' '.join(tests)}\n{self._output.read_text()[-3000:]}")
        return seconds, json.loads(timings.read_text())

    def try_mutant(
        self, file: str, mutant: Mutant, tests: tuple[str, ...], seconds: float, each: dict[str, float]
    ) -> str:
        """Returns `killed`, `timed out` or `survived`."""
        path = self.path / file
        original = path.read_text(encoding="utf-8")
        shutil.rmtree(path.parent / "__pycache__", ignore_errors=True)
        path.write_text(mutant.source, encoding="utf-8")
        try:
            return self._forked(tests, each, int(5 + 3 * seconds), None)[0]
        finally:
            path.write_text(original, encoding="utf-8")

    def _forked(
        self, tests: tuple[str, ...], each: dict[str, float], limit: int, timings: Path | None
    ) -> tuple[str, float]:
        """Returns how the tests end within `limit` seconds of CPU, and how many they used."""
        child = os.fork()
        if child == 0:
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
            self._run_pytest(tests, each, timings)
        started, is_late = time.monotonic(), False
        while True:
            ended, status, used = os.wait4(child, os.WNOHANG)
            if ended:
                is_late |= os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU
                outcome = "timed out" if is_late else "killed" if status else "survived"
                return outcome, used.ru_utime + used.ru_stime
            if not is_late and time.monotonic() - started - seconds_queued(child) > MAX_CLOCK_PER_CPU * limit:
                is_late = True
                os.killpg(child, signal.SIGKILL)
            time.sleep(0.02)

    def _run_pytest(self, tests: tuple[str, ...], each: dict[str, float], timings: Path | None) -> None:
        """Runs tests and never returns: the process ends with pytest's exit code."""
        from hypothesis import Phase, settings

        code = 70
        try:
            os.setpgid(0, 0)
            os.chdir(self.path)
            output = os.open(self._output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            resource.setrlimit(resource.RLIMIT_DATA, (MAX_MEMORY, MAX_MEMORY))
            sys.dont_write_bytecode = timings is None  # a mutant's must not be taken for the module's
            os.environ.update(PYTHONPATH=str(self.path), PYTHONDONTWRITEBYTECODE="1")
            sys.path[:] = [
                str(self.path),
                *(path for path in sys.path if path),
            ]
            settings.register_profile(
                "mutants", phases=[Phase.explicit, Phase.generate], database=None, derandomize=True, deadline=None
            )
            settings.load_profile("mutants")
            plugin = Quickest(each)
            options = [
                "-x",
                "-q",
                "-p",
                "no:cacheprovider",
                "--tb=line",
                "-W",
                "ignore::pytest.PytestAssertRewriteWarning",
            ]
            code = int(pytest.main([*options, *tests], [plugin]))
            if timings is not None:
                timings.write_text(json.dumps(plugin.seconds))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def seconds_queued(process: int) -> float:
    """Returns how long a process was ready and had no processor, which says nothing about what it runs."""
    return int(Path(f"/proc/{process}/schedstat").read_text(encoding="utf-8").split()[1]) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rooms", nargs="+", choices=ROOMS, default=list(ROOMS), metavar="NAME", help="default: all")
    parser.add_argument("--modules", nargs="+", metavar="FILE", help="of the rooms; default: all")
    parser.add_argument("--size", type=int, default=40, help="mutants of each module (default %(default)s)")
    parser.add_argument("--survivors", action="store_true", help="run again what survived, and nothing else")
    parser.add_argument("--report", action="store_true", help="run nothing: report what is there")
    parser.add_argument("--results", type=Path, default=RESULTS, help="a folder (default: the committed results)")
    given = parser.parse_args()
    path = given.results / "mutation.json"
    modules = [
        (room, file, tests) for room in given.rooms for file, tests in ROOMS[room].items()
        if given.modules is None or file in given.modules
    ]  # fmt: skip
    if not given.report:
        for library in LIBRARIES:
            importlib.import_module(library)
        with tempfile.TemporaryDirectory() as folder:
            checkout = Checkout(Path(folder))
            for room, file, tests in modules:
                if given.survivors:
                    old = read(path)["modules"].get(file, {"mutants": []})
                    if not any(row["outcome"] == "survived" for row in old["mutants"]):
                        continue
                    outcome = run_survivors(checkout, file, tests, old)
                else:
                    outcome = run_module(checkout, file, tests, given.size)
                result = read(path)  # anew, as others may have been added in the meantime
                result["modules"][file] = {"room": room, **outcome}
                write(path, result | {"machine": describe_machine("mutmut", "pytest", "hypothesis"), "seed": SEED})
    write(path, read(path))


def read(path: Path) -> Line:
    """Returns the outcomes so far."""
    result: Line = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"modules": {}}
    return result


def run_module(checkout: Checkout, file: str, tests: tuple[str, ...], size: int) -> Line:
    """Tries a sample of a module's mutants."""
    source = (REPOSITORY / file).read_text(encoding="utf-8")
    seconds, each = checkout.try_tests(tests)
    print(f"{file}: tests take {seconds:.1f} s", flush=True)
    rows = []
    for mutant in sampled(source, size, SEED, ONLY.get(file)):
        started = time.monotonic()
        outcome = checkout.try_mutant(file, mutant, tests, seconds, each)
        rows.append({"line": mutant.line, "before": mutant.before, "after": mutant.after, "outcome": outcome})
        if outcome != "killed":
            print(f"  {outcome}, {file}:{mutant.line} ({time.monotonic() - started:.0f} s)", flush=True)
            print(f"    - {mutant.before}\n    + {mutant.after}", flush=True)
    return {"tests": list(tests), "mutants": rows}


def run_survivors(checkout: Checkout, file: str, tests: tuple[str, ...], old: Line) -> Line:
    """Tries again what survived; what is killed now is said to be so by a new test."""
    every = sampled((REPOSITORY / file).read_text(encoding="utf-8"), 10**9, SEED)
    seconds, each = checkout.try_tests(tests)
    for row in old["mutants"]:
        same = [mutant for mutant in every if (mutant.before, mutant.after) == (row["before"], row["after"])]
        if row["outcome"] != "survived" or not same:
            continue
        mutant = min(same, key=lambda mutant: abs(mutant.line - row["line"]))
        outcome = checkout.try_mutant(file, mutant, tests, seconds, each)
        row.update(line=mutant.line, outcome=outcome if outcome == "survived" else "killed by a new test")
        print(f"{row['outcome']}, {file}:{mutant.line}\n    - {mutant.before}\n    + {mutant.after}", flush=True)
    return {"tests": list(tests), "mutants": old["mutants"]}


def write(path: Path, result: Line) -> None:
    """Writes the outcomes, with the explanations of what survived, as JSON and as a table."""
    why = {(e["module"], e["before"], e["after"]): e["why"] for e in yaml.safe_load(EXPLAINED.read_text()) or []}
    for file, module in result["modules"].items():
        for row in module["mutants"]:
            row.pop("why", None)
            if row["outcome"] == "survived" and (file, row["before"], row["after"]) in why:
                row["why"] = why[file, row["before"], row["after"]]
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(markdown(result), encoding="utf-8")


def markdown(result: Line) -> str:
    """Returns a table of rooms and modules, then each mutant that no test noticed at first."""
    machine = result["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    lines = [
        "# Do the tests notice a fault?", "",
        f"`python -m benchmarks.mutation.run`, {machine['date']}, {machine['cores']} cores ({machine['cpu']}), seed "
        f"{result['seed']}, {versions}. A sample of small faults in each module, made by mutmut's operators; a fault "
        "is noticed if a test fails or takes far too long. Left out: annotations, imports, and what errors say.", "",
        "| module | mutants | killed | by a new test | timed out | survived | explained | noticed |",
        "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for room in ROOMS:
        modules = {file: entry["mutants"] for file, entry in result["modules"].items() if entry["room"] == room}
        if modules:
            lines.append(_counts(f"**{room}**", [row for rows in modules.values() for row in rows]))
            lines.extend(_counts(file, rows) for file, rows in modules.items())
    lines += ["", "## What no test noticed at first", "", "| where | was | became | now |", "|---|---|---|---|"]
    for file, entry in result["modules"].items():
        for row in entry["mutants"]:
            if row["outcome"] not in ("killed", "timed out"):
                now = row.get("why", row["outcome"])
                cells = [f"{file}:{row['line']}", f"`{row['before']}`", f"`{row['after']}`", now]
                lines.append(f"| {' | '.join(cell.replace('|', '/').replace(chr(10), ' ') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def _counts(name: str, rows: list[Line]) -> str:
    outcomes = [row["outcome"] for row in rows]
    new, late, survived = map(outcomes.count, ("killed by a new test", "timed out", "survived"))
    explained = sum("why" in row for row in rows)
    cells = [len(rows), outcomes.count("killed") + new, new, late, survived, explained]
    return f"| {name} | {' | '.join(map(str, cells))} | {1 - survived / max(len(rows), 1):.0%} |"


if __name__ == "__main__":
    main()
