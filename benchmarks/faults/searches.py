"""The small real searches that are disturbed, as processes, and what is found in their run directories."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trials.objectives import best_of, pareto_front
from trials.records import History, Trial, read_history

HERE = Path(__file__).resolve().parent
PLAIN, FAULTY = HERE.parents[1] / "cli.py", HERE / "faulty_search.py"

COMMON = (
    "--space=smoke", "--seed=7", "--max-train=256", "--max-val=100", "--max-test=100", "--image-size=32",
    "--batch-size=32", "--workers=2", "--device=cpu",
)  # fmt: skip
KINDS = {
    "supernet": ("--supernet-images=800", "--trials=12", "--train-images=256", "--finalists=2", "--rivals=1"),
    "from scratch": ("--no-supernet", "--trials=10", "--train-images=128", "--strategy=nsga2", "--population=4"),
}
"""The digits in both. With a supernet: training it, twelve scores, four finals; without: ten trainings, final tests."""

EXIT_USER_ERROR, EXIT_INTERRUPTED = 2, 130


@dataclass
class Search:
    """One search in one run directory, which several processes may begin, disturb and carry on."""

    kind: str
    run_dir: Path
    engine: str = "local"
    script: Path = PLAIN
    environment: dict[str, str] = field(default_factory=dict)

    def command(self, *more: str) -> list[str]:
        """To begin it, or, with `--resume`, to carry it on."""
        engine = () if self.engine == "local" else (f"--engine={self.engine}",)
        if "--resume" in more:
            return [sys.executable, str(PLAIN), "search", "--resume", str(self.run_dir), *more[1:]]
        options = (*COMMON, *KINDS[self.kind], *engine, *more)
        return [sys.executable, str(self.script), "search", *options, f"--out={self.run_dir}"]

    def start(self, *more: str, prefix: Sequence[str] = ()) -> subprocess.Popen[str]:
        """As a terminal does it: in a session, and a group of processes, of its own."""
        return subprocess.Popen(
            [*prefix, *self.command(*more)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True, env={**os.environ, **self.environment},
        )  # fmt: skip

    def run(self, *more: str, prefix: Sequence[str] = ()) -> Ended:
        return ended(self.start(*more, prefix=prefix))

    def resume(self, *more: str) -> Ended:
        """Carries it on, or begins it anew where it never began."""
        return self.run("--resume", *more) if self.events("header") else self.run()

    def history(self) -> History:
        return read_history(self.run_dir)

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        path = self.run_dir / "records.jsonl"
        lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
        events = [json.loads(line) for line in lines if line.endswith(b"\n")]
        return [event for event in events if event["event"] in kinds]

    def finished(self) -> Counter[int]:
        """How often each trial's result is on record."""
        return Counter(event["number"] for event in self.events("finished"))

    def found(self) -> list[Any]:
        """All that it found, trial by trial and in its finals, to the last bit."""
        trials = self.history().trials
        return [_found(trial) for _, trial in sorted(trials.items())]

    def front(self) -> list[Any]:
        """Its front and its best network, to the last bit."""
        trials = list(self.history().trials.values())
        front = pareto_front(trials, ("error", "flops"))
        return [_found(trial)[1:] for trial in [*front, best_of(trials, ("error", "flops"))]]


@dataclass(frozen=True)
class Ended:
    """A process that has ended."""

    code: int
    output: str

    @property
    def last_line(self) -> str:
        lines = self.output.strip().splitlines()
        return lines[-1] if lines else ""

    @property
    def is_one_line(self) -> bool:
        """Whether it says what is wrong in one line, without a traceback."""
        return "Traceback" not in self.output and self.output.count("error: ") == 1


def ended(process: subprocess.Popen[str]) -> Ended:
    output, _ = process.communicate()
    return Ended(process.returncode, output)


def _found(trial: Trial) -> Any:
    result = trial.result and (trial.result.error, trial.result.cross_entropy)
    test = trial.test and (trial.test.error, trial.test.cross_entropy)
    finals = {role: (final.error, final.test_error) for role, final in trial.finals.items()}
    return trial.number, trial.candidate.key, result, test, finals


def read_until(process: subprocess.Popen[str], beginning: str, times: int = 1) -> bool:
    """Reads lines until one begins so, for the last of so many times; False if none does."""
    assert process.stdout is not None
    for line in process.stdout:
        times -= line.startswith(beginning)
        if times == 0:
            return True
    return False


def read_on(process: subprocess.Popen[str]) -> list[str]:
    """Lets a process write what it likes; the list is what it wrote, once it has ended."""
    written: list[str] = []

    def read() -> None:
        assert process.stdout is not None
        written.extend(process.stdout)

    threading.Thread(target=read, daemon=True).start()
    return written


def processes_of_session(session: int) -> list[int]:
    """Those that live, the session's first process and all that it started included."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                state, *_, own = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            except OSError:  # it has just ended
                continue
            if int(own) == session and state != "Z":
                found.append(int(folder.name))
    return found


def seconds_until_gone(process: subprocess.Popen[str], patience: float) -> float | None:
    """How long it takes until nothing of a process's session lives; None if that takes longer than one will wait."""
    started, pause = time.monotonic(), threading.Event()
    while time.monotonic() - started < patience:
        process.poll()  # or it would stay as a zombie
        if not processes_of_session(process.pid):
            return time.monotonic() - started
        pause.wait(0.02)
    return None


def end_session(process: subprocess.Popen[str]) -> None:
    """Leaves nothing behind of a process that was started in a session of its own."""
    for survivor in processes_of_session(process.pid):
        os.kill(survivor, signal.SIGKILL)
    process.wait()
