"""The small real searches that are disturbed, as processes, and what is found in their run directories."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trials.runs.history import History, read_history
from trials.runs.objectives import best_of, pareto_front
from trials.runs.trial import Trial

REPOSITORY = Path(__file__).resolve().parents[2]
PLAIN, FAULTY = ("cli.py",), ("-m", "benchmarks.faults.faulty_search")
"""What Python runs, in the repository's root: the command line as it is, or with workers that fail."""

COMMON = (
    "--space=smoke", "--seed=7", "--max-train-images=256", "--max-val-images=100", "--max-test-images=100",
    "--image-size=32", "--batch-size=32", "--workers=2", "--device=cpu",
)  # fmt: skip
KINDS = {
    "supernet": ("--supernet-images=800", "--trials=12", "--train-images=256", "--finalists=2", "--controls=1"),
    "from scratch": ("--no-supernet", "--trials=10", "--train-images=128", "--strategy=nsga2", "--population=4"),
}
"""The digits in both. With a supernet: training it, twelve scores, four finals; without: ten trainings, final tests."""

RECOMMENDING = "recommending"
OPTIONS = {
    **KINDS,
    RECOMMENDING: (
        "--space=sret_tiny", "--flops-budget=200M", "--strategy=random", "--supernet-images=320", "--trials=12",
        "--train-images=256", "--finalists=1", "--controls=0",
    ),
}  # fmt: skip
"""With one kind more, for faults in what is recommended: of a trillion networks twelve are drawn, so that what the
model finds best is untried, and is evaluated by trials of its own."""

MARK = "FAULTY_SEARCH"
"""Environment variable that a process inherits from the search that started it."""
EXIT_USER_ERROR, EXIT_INTERRUPTED = 2, 130


@dataclass
class Search:
    """One search in one run directory, which several processes may begin, disturb and carry on."""

    kind: str
    run_dir: Path
    engine: str = "local"
    address: str | None = None
    """Of the cluster it runs on, if it does."""
    script: tuple[str, ...] = PLAIN
    environment: dict[str, str] = field(default_factory=dict)
    family: Family = field(init=False)
    """The processes of the last start."""

    def command(self, *more: str) -> list[str]:
        """Returns the command that begins it, or, with `--resume`, carries it on."""
        engine = () if self.engine == "local" else (f"--engine={self.engine}",)
        if self.address is not None:
            engine = (*engine, f"--ray-address={self.address}")
        if "--resume" in more:
            return [sys.executable, *PLAIN, "search", "--resume", str(self.run_dir), *more[1:]]
        options = (*COMMON, *OPTIONS[self.kind], *engine, *more)
        return [sys.executable, *self.script, "search", *options, f"--out={self.run_dir}"]

    def start(self, *more: str, prefix: Sequence[str] = ()) -> subprocess.Popen[str]:
        """Starts it as a terminal does: in a session, and a group of processes, of its own."""
        mark = uuid.uuid4().hex
        self.family = Family(mark)
        return subprocess.Popen(
            [*prefix, *self.command(*more)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True, cwd=REPOSITORY, env={**os.environ, **self.environment, MARK: mark},
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
        """Returns how often each trial's result is on record."""
        return Counter(event["number"] for event in self.events("finished"))

    def most_at_once(self, until: float = math.inf) -> int:
        """Returns how many of the trials that finished ran at the same time at most, among those that ended before a
        time."""
        finished = [event for event in self.events("finished") if event["time"] <= until]
        spans = [(event["time"] - event["seconds"], event["time"]) for event in finished]
        return max((sum(begin <= start < end for begin, end in spans) for start, _ in spans), default=0)

    def found(self) -> list[Any]:
        """Returns all that it found, trial by trial and in its finals, to the last bit."""
        trials = self.history().trials
        return [_found(trial) for _, trial in sorted(trials.items())]

    def front(self) -> list[Any]:
        """Returns its front and its best network, to the last bit."""
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


class Family:
    """A process and all that it started, in whatever sessions: known by a mark in their environment.

    Ray's workers write over theirs, and are known by their session, which is that of a marked process.
    """

    def __init__(self, mark: str) -> None:
        self._mark = f"{MARK}={mark}".encode()
        self._sessions: set[int] = set()

    def members(self) -> list[int]:
        """Returns those that live. Sessions are learned from those that carry the mark, so call it while these live."""
        own = {process: session for process, session in _sessions() if self._is_marked(process)}
        self._sessions |= set(own.values())
        return [process for process, session in _sessions() if process in own or session in self._sessions]

    def _is_marked(self, process: int) -> bool:
        try:
            return self._mark in Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
        except OSError:  # it has just ended
            return False

    def workers(self) -> list[int]:
        """Returns those that run jobs, of either engine."""
        return [process for process in self.members() if _is_worker(process)]

    def seconds_until_gone(self, patience: float, process: subprocess.Popen[str] | None = None) -> float | None:
        """Returns how long it takes until nothing of it lives; None if that takes longer than one will wait.

        `process` is its first one, if that is a child of this process.
        """
        started, pause = time.monotonic(), threading.Event()
        while time.monotonic() - started < patience:
            if process is not None:
                process.poll()  # or it would stay as a zombie
            if not self.members():
                return time.monotonic() - started
            pause.wait(0.02)
        return None

    def end(self) -> None:
        """Leaves nothing of it behind."""
        for survivor in self.members():
            with contextlib.suppress(ProcessLookupError):
                os.kill(survivor, signal.SIGKILL)


def _sessions() -> list[tuple[int, int]]:
    """Returns the session of every process that lives."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                state, *_, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            except OSError:  # it has just ended
                continue
            if state != "Z":
                found.append((int(folder.name), int(session)))
    return found


def _is_worker(process: int) -> bool:
    try:
        command = Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:  # it has just ended
        return False
    return b"spawn_main" in command or command.startswith(b"ray::Worker")
