"""The append-only record of a search: the truth from which front, tables and the Optuna journal are derived.

One JSON object per line; every line is flushed to disk before the search goes on, so a kill at any moment loses at
most the running trials, and a full disk at most the event that it has no room for. The first line is the header; then,
per trial, `asked`, `retried` for every attempt that failed and was to be followed by another, `rung` for every one that
it came to before its end, and `finished`, `stopped` or `failed`; at the end `tested` per member of the front (or, with
a supernet, which is on record as `supernet` before the first trial, `final` per finalist and role), `measured` where
latency counts; `interrupted` after Ctrl-C; and `resumed` wherever the search was carried on, with the options from then
on.

What `failed` says is final: the strategy has been told. What `retried` says is not, so a search that ended before the
next attempt makes it when it is resumed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from sret_nas.arch.config import ArchConfig
from sret_nas.errors import UserError
from sret_nas.space.search_space import DepthSchedule
from trials.engines.messages import Failure, FrontTestResult, RetrainResult, SupernetSource, TrialResult
from trials.interruption import defer_interrupts
from trials.runs.compute_budget import ComputeUsage
from trials.runs.full_disk import StorageError
from trials.strategies.strategy import Candidate

FORMAT = 1
RECORDS_FILE = "records.jsonl"
LOCK_FILE = "lock"
HEADER_KEYS = ("command", "options", "space", "space_digest", "proxy", "data", "device", "versions")


FinalistRole = Literal["fine-tuned", "from scratch", "rival"]
"""A finalist with inherited weights trained on; the same trained from scratch; a random network of equal cost, too."""


@dataclass
class Trial:
    """One candidate of a search and what became of it; neither result nor failure while it runs."""

    number: int
    candidate: Candidate
    origin: str = ""
    """Where the strategy had it from, e.g. its design or one of its models; empty where it does not say."""
    result: TrialResult | None = None
    failure: Failure | None = None
    retried: list[Failure] = field(default_factory=list)
    """Why earlier attempts at it failed, the first one first."""
    partial: list[TrialResult] = field(default_factory=list)
    """What was found at the rungs before its end."""
    is_stopped: bool = False
    """Whether it went no further than the last of these."""
    test: FrontTestResult | None = None
    finals: dict[FinalistRole, RetrainResult] = field(default_factory=dict)
    """With a supernet: what became of the network in the end, and of its rival."""
    measured_us: float | None = None
    """Measured latency of the target, in microseconds, if it was measured in the end."""

    @property
    def has_ended(self) -> bool:
        return self.result is not None or self.failure is not None or self.is_stopped


@dataclass
class History:
    """What a records file holds: the header, and the trials by number."""

    header: dict[str, Any]
    trials: dict[int, Trial] = field(default_factory=dict)
    supernet: SupernetSource | None = None
    """The supernet that trials inherit from, once it is trained."""
    spending: ComputeUsage = field(default_factory=ComputeUsage)

    def apply(self, event: dict[str, Any]) -> None:
        """Takes in one event. Raises `KeyError`, `TypeError` or `ValueError` if it is not one of ours."""
        self._apply(event)
        self.spending.apply(event)

    def _apply(self, event: dict[str, Any]) -> None:
        if event["event"] == "interrupted":
            return
        if event["event"] == "resumed":
            self.header["options"] = event["options"]
            return
        if event["event"] == "supernet":
            self.supernet = SupernetSource.model_validate(event["source"])
            return
        number = event["number"]
        if event["event"] == "asked":
            arch = ArchConfig.from_dict(event["architecture"], RECORDS_FILE)
            schedule: DepthSchedule = event["depth_schedule"]
            self.trials[number] = Trial(number, Candidate(arch, schedule), event.get("origin", ""))
        elif event["event"] == "finished":
            self.trials[number].result = TrialResult.model_validate(event["result"])
        elif event["event"] == "rung":
            self.trials[number].partial.append(TrialResult.model_validate(event["result"]))
        elif event["event"] == "stopped":
            self.trials[number].is_stopped = True
        elif event["event"] == "failed":
            self.trials[number].failure = Failure.model_validate(event["failure"])
        elif event["event"] == "retried":
            self.trials[number].retried.append(Failure.model_validate(event["failure"]))
        elif event["event"] == "tested":
            self.trials[number].test = FrontTestResult.model_validate(event["result"])
        elif event["event"] == "final":
            role: FinalistRole = event["role"]
            self.trials[number].finals[role] = RetrainResult.model_validate(event["result"])
        elif event["event"] == "measured":
            self.trials[number].measured_us = float(event["latency_us"])
        else:
            raise ValueError(f"unknown event {event['event']!r}")


def _refuse_occupied(run_dir: Path) -> None:
    """Raises `UserError` for a directory that holds a search (at least the header of one, whole), or anything else."""
    path = run_dir / RECORDS_FILE
    if path.is_file() and b"\n" in path.read_bytes():
        raise UserError(f"{run_dir} holds a search already: carry it on with --resume {run_dir}, or name another --out")
    others = sorted(entry.name for entry in run_dir.iterdir() if entry.name not in (RECORDS_FILE, LOCK_FILE))
    if others:
        raise UserError(f"{run_dir} is not empty (it holds {others[0]}): name an --out that does not exist yet")


def read_history(run_dir: Path) -> History:
    """The history in a run directory, whole lines only. Raises `UserError` if it is missing or not a record of ours."""
    path = run_dir / RECORDS_FILE
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{run_dir} is no run directory: {path.name} cannot be read ({error.strerror})") from None
    lines = content[: content.rfind(b"\n") + 1].splitlines()
    if not lines:
        raise UserError(f"{path} is empty: the search ended before it began; start a new one")
    history: History | None = None
    for number, line in enumerate(lines, start=1):
        try:
            event = json.loads(line)
            if history is None:
                history = History(_checked_header(event))
                history.spending.apply(event)
            else:
                history.apply(event)
        except (ValueError, KeyError, TypeError, UserError) as error:
            raise UserError(f"{path}, line {number}: not a record of this tool ({error})") from None
    assert history is not None
    return history


def _checked_header(event: dict[str, Any]) -> dict[str, Any]:
    if event["event"] != "header" or event["format"] != FORMAT:
        raise ValueError(f"expected a header of format {FORMAT}")
    missing = [key for key in HEADER_KEYS if key not in event]
    if missing:
        raise ValueError(f"the header lacks {', '.join(missing)}")
    return event


class Records:
    """The records file of a run, open for appending by this process alone."""

    def __init__(self, run_dir: Path, must_exist: bool = False) -> None:
        """Takes the run directory's lock, for a new search or, with `must_exist`, for one that is there.

        Raises `UserError` if another search holds it, if it cannot be written, or if there is something else in it.
        """
        self.run_dir = run_dir
        self.spending = ComputeUsage()
        """Of the whole search, up to date with every event."""
        self.began = time.time()
        """When this session of the search began, in seconds since the epoch: the `time` of its first event."""
        self._file: int | None = None
        self._size = 0
        """Of the whole lines, in bytes."""
        self._made: list[Path] = []
        try:
            if not must_exist and run_dir.exists():
                _refuse_occupied(run_dir)
            self._made = [path for path in (run_dir, *run_dir.parents) if not path.exists()]
            if must_exist and not (run_dir / RECORDS_FILE).is_file():
                raise UserError(f"{run_dir} is no run directory: there is no {RECORDS_FILE} in it")
            run_dir.mkdir(parents=True, exist_ok=True)
            self._lock = open(run_dir / LOCK_FILE, "a+")  # noqa: SIM115 - held until `close`
        except OSError as error:
            raise UserError(f"{run_dir} cannot be written: {error.strerror}") from None
        self._take_lock()
        if not must_exist:
            _refuse_occupied(run_dir)  # again, now that nobody else can begin here

    def _take_lock(self) -> None:
        """The system frees the lock when its holder dies, however it dies: no stale lock is ever waited for."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.seek(0)
            holder = self._lock.read().strip()
            self._lock.close()
            raise UserError(f"{self.run_dir} is in use by another search ({holder})") from None
        self._lock.truncate(0)
        self._lock.write(f"process {os.getpid()} on {socket.gethostname()}")
        self._lock.flush()

    def start(self, header: dict[str, Any]) -> History:
        """Begins a new file, in the place of one that was torn before its header was whole."""
        path = self.run_dir / RECORDS_FILE
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
        header = {"event": "header", "format": FORMAT, "time": self.began, **header}
        try:
            self._append(header)
        except OSError:
            self._forget(path)
            raise
        return History(header, spending=self.spending)

    def _forget(self, path: Path) -> None:
        """A file without a header is no search."""
        assert self._file is not None
        os.close(self._file)
        self._file = None
        path.unlink()

    def reopen(self) -> History:
        """Continues an existing file: a torn last line is cut off. Raises `UserError` as `read_history` does."""
        history = read_history(self.run_dir)
        path = self.run_dir / RECORDS_FILE
        self._size = path.read_bytes().rfind(b"\n") + 1
        os.truncate(path, self._size)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND)
        self.spending = history.spending
        return history

    def resumed(self, options: dict[str, Any], versions: dict[str, str]) -> None:
        """That the search is carried on from here, with these options and versions."""
        self._append({"event": "resumed", "time": self.began, "options": options, "versions": versions})

    def interrupted(self) -> None:
        """That the session was ended here, by Ctrl-C or its like."""
        self._append({"event": "interrupted", "time": time.time()})

    def asked(
        self,
        number: int,
        candidate: Candidate,
        flops: int,
        params: int,
        latency_us: int | None = None,
        origin: str = "",
    ) -> None:
        """A candidate with its costs, predicted latency where the search looks at it, and where it comes from."""
        arch = candidate.arch
        self._append(
            {
                "event": "asked",
                "number": number,
                "time": time.time(),
                "arch_id": arch.arch_id,
                "flops": flops,
                "params": params,
                **({} if latency_us is None else {"latency_us": latency_us}),
                **({"origin": origin} if origin else {}),
                "depth_schedule": candidate.depth_schedule,
                "architecture": arch.to_dict(),
            }
        )

    def ended(
        self, number: int, result: TrialResult | None, failure: Failure | None, seconds: float, part: float = 1.0
    ) -> None:
        """A trial's result, or its failure, how long the attempt took, and which share of a whole trial it was."""
        if result is not None:
            body: dict[str, Any] = {"event": "finished", "result": result.model_dump(mode="json")}
        else:
            assert failure is not None
            body = {"event": "failed", "failure": failure.model_dump(mode="json")}
        shared = {} if part == 1 else {"part": part}
        self._append({**body, "number": number, "time": time.time(), "seconds": round(seconds, 3), **shared})

    def rung(self, number: int, result: TrialResult, seconds: float, part: float) -> None:
        """What was found at a rung, how long the way there took, and which share of a whole trial that was."""
        body = {"event": "rung", "number": number, "time": time.time(), "seconds": round(seconds, 3), "part": part}
        self._append({**body, "result": result.model_dump(mode="json")})

    def stopped(self, number: int) -> None:
        """That a trial goes no further than the rung it has come to."""
        self._append({"event": "stopped", "number": number, "time": time.time()})

    def retried(self, number: int, attempt: int, failure: Failure, seconds: float) -> None:
        """That an attempt, counted from 1, failed, and that another one is to follow."""
        body = {"event": "retried", "number": number, "attempt": attempt, "failure": failure.model_dump(mode="json")}
        self._append({**body, "time": time.time(), "seconds": round(seconds, 3)})

    def tested(self, number: int, result: FrontTestResult) -> None:
        event = {"event": "tested", "number": number, "time": time.time(), "result": result.model_dump(mode="json")}
        self._append(event)

    def supernet(self, source: SupernetSource, seconds: float) -> None:
        """The supernet that all trials from here on inherit from, and how long this search trained it, in all."""
        body = {"event": "supernet", "time": time.time(), "seconds": round(seconds, 3)}
        self._append({**body, "source": source.model_dump(mode="json")})

    def final(self, number: int, role: FinalistRole, result: RetrainResult) -> None:
        """What became in the end of a finalist, or of its rival."""
        body = {"event": "final", "number": number, "role": role, "time": time.time()}
        self._append({**body, "result": result.model_dump(mode="json")})

    def measured(self, number: int, latency_us: float) -> None:
        self._append({"event": "measured", "number": number, "time": time.time(), "latency_us": latency_us})

    def _append(self, event: dict[str, Any]) -> None:
        """Adds an event whole, whatever is pressed meanwhile. Raises `StorageError` if it cannot be written."""
        line = json.dumps(event, allow_nan=False).encode() + b"\n"
        with defer_interrupts() as interruptions:
            self._write(line)
            self.spending.apply(event)
        if interruptions:
            raise KeyboardInterrupt

    def _write(self, line: bytes) -> None:
        """To disk, or not at all: a torn line is cut off."""
        assert self._file is not None
        written = 0
        try:
            while written < len(line):  # a disk that becomes full first takes what it still can
                written += os.write(self._file, line[written:])
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, self._size)
            raise StorageError(error.errno, error.strerror, str(self.run_dir / RECORDS_FILE)) from error
        self._size += len(line)

    def withdraw(self) -> None:
        """Leaves no trace of a search that never began."""
        if self._file is None:
            (self.run_dir / LOCK_FILE).unlink(missing_ok=True)
            for folder in self._made:
                with contextlib.suppress(OSError):  # it holds something else, so it stays
                    folder.rmdir()

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
