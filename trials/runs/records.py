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

Every line ends in a checksum of what comes before it, so that a byte that changes on the disk is noticed. Lines of
earlier versions have none.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import socket
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sret_nas.bounded_files import MissingFileError, read_lines
from sret_nas.errors import ConfigError, UserError
from sret_nas.files import write_atomically
from sret_nas.json_files import MAX_BYTES, parse_json

from ..engines.messages import Failure, FrontTestResult, RetrainResult, SupernetSource, TrialResult
from ..interruption import defer_interrupts
from ..lost_directory import LostDirectoryError, is_same_file, rescue
from ..strategies.strategy import Candidate
from .compute_budget import ComputeUsage
from .events import (
    FORMAT,
    AskedEvent,
    Event,
    FailedEvent,
    FinalEvent,
    FinalistRole,
    FinishedEvent,
    HeaderEvent,
    InterruptedEvent,
    MeasuredEvent,
    ResumedEvent,
    RetriedEvent,
    RungEvent,
    StoppedEvent,
    SupernetEvent,
    TestedEvent,
    TrialEvent,
    parse_event,
)
from .full_disk import StorageError

RECORDS_FILE = "records.jsonl"
LOCK_FILE = "lock"
CHECKSUM = "crc32"
"""Last key of a line: eight hexadecimal digits over the bytes of the line without it."""
HEADER_KEYS = ("command", "options", "space", "space_digest", "proxy", "data", "device", "versions")


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

    def apply(self, event: TrialEvent) -> None:
        """Takes in what happened to the trial after it was asked for."""
        match event:
            case FinishedEvent():
                self.result = event.result
            case RungEvent():
                self.partial.append(event.result)
            case StoppedEvent():
                self.is_stopped = True
            case FailedEvent():
                self.failure = event.failure
            case RetriedEvent():
                self.retried.append(event.failure)
            case TestedEvent():
                self.test = event.result
            case FinalEvent():
                self.finals[event.role] = event.result
            case MeasuredEvent():
                self.measured_us = event.latency_us


@dataclass
class History:
    """What a records file holds: the header, and the trials by number."""

    header: dict[str, Any]
    trials: dict[int, Trial] = field(default_factory=dict)
    supernet: SupernetSource | None = None
    """The supernet that trials inherit from, once it is trained."""
    spending: ComputeUsage = field(default_factory=ComputeUsage)

    def apply(self, event: Event) -> None:
        """Takes in one event. Raises `KeyError` for a trial that was never asked for, `ValueError` for a header."""
        match event:
            case HeaderEvent():
                raise ValueError("a second header")
            case InterruptedEvent():
                pass
            case ResumedEvent():
                self.header["options"] = event.options
            case SupernetEvent():
                self.supernet = event.source
            case AskedEvent():
                candidate = Candidate(event.architecture, event.depth_schedule)
                self.trials[event.number] = Trial(event.number, candidate, event.origin)
            case _:
                self.trials[event.number].apply(event)
        self.spending.apply(event)


def _refuse_occupied(run_dir: Path) -> None:
    """Raises `UserError` for a directory that holds a search (at least the header of one, whole), or anything else."""
    path = run_dir / RECORDS_FILE
    if path.exists() and next(read_lines(path, MAX_BYTES), None) is not None:
        raise UserError(f"{run_dir} holds a search already: carry it on with --resume {run_dir}, or name another --out")
    others = sorted(entry.name for entry in run_dir.iterdir() if not _is_left_over(entry))
    if others:
        raise UserError(f"{run_dir} is not empty (it holds {others[0]}): name an --out that does not exist yet")


def _is_left_over(path: Path) -> bool:
    """Whether a file is what a search leaves that ended before its first record was whole, and nobody else's."""
    if path.name not in (RECORDS_FILE, LOCK_FILE) or not path.is_file():
        return False
    content, begins = path.read_bytes()[:100], b"process " if path.name == LOCK_FILE else b'{"event": "header", '
    return content.startswith(begins[: len(content)])


def _with_checksum(event: dict[str, Any]) -> bytes:
    """An event as a line of the file."""
    plain = json.dumps(event, allow_nan=False).encode()
    return plain[:-1] + f', "{CHECKSUM}": "{zlib.crc32(plain):08x}"}}\n'.encode()


_CHECKSUM_AT_END = re.compile(rb', "crc32": "([0-9a-f]{8})"}$')


def _without_checksum(line: bytes, source: str, must_be_checked: bool) -> tuple[bytes, bool]:
    """Returns a line without its checksum, and whether it had one; files of earlier versions have none.

    Raises `ConfigError` if the line has changed since it was written.
    """
    found = _CHECKSUM_AT_END.search(line)
    if found is None:
        if must_be_checked:
            raise ConfigError(source, "", "not a record of this tool: it has no checksum, unlike the lines before it")
        return line, False
    plain = line[: found.start()] + b"}"
    if zlib.crc32(plain) != int(found[1], 16):
        problem = "its checksum says that it has changed since it was written"
        raise ConfigError(source, "", f"not a record of this tool: {problem}")
    return plain, True


def read_history(run_dir: Path) -> History:
    """The history in a run directory, whole lines only. Raises `UserError` if it is missing or not a record of ours."""
    path = run_dir / RECORDS_FILE
    history: History | None = None
    is_checked = False
    try:
        for number, line in enumerate(read_lines(path, MAX_BYTES), start=1):
            source = f"{path}, line {number}"
            plain, is_checked = _without_checksum(line, source, must_be_checked=is_checked)
            content = parse_json(plain, source)
            event = parse_event(content, source)
            if isinstance(event, HeaderEvent) != (history is None):
                raise ConfigError(source, "event", "not a record of this tool: the header must come first, and once")
            if history is None:
                history = History(content)
                history.spending.apply(event)
                continue
            try:
                history.apply(event)
            except KeyError as error:
                raise UserError(f"{source}: not a record of this tool: trial {error} was never asked for") from None
    except MissingFileError:
        raise UserError(f"{run_dir} is no run directory: there is no {path.name} in it") from None
    if history is None:
        raise UserError(f"{path} is empty: the search ended before it began; start a new one")
    return history


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
        self._supernet: str | None = None
        """File in the run directory that trials inherit from."""
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
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
        content = {"event": "header", "format": FORMAT, "time": self.began, **header}
        try:
            self._append(parse_event(content))
        except OSError:
            self._forget(path)
            raise
        return History(content, spending=self.spending)

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
        self._size = sum(len(line) + 1 for line in read_lines(path, MAX_BYTES))
        os.truncate(path, self._size)
        self._file = os.open(path, os.O_RDWR | os.O_APPEND)
        self.spending = history.spending
        self._note(history.supernet)
        return history

    def _note(self, source: SupernetSource | None) -> None:
        if source is not None and not Path(source.path).is_absolute():
            self._supernet = source.path

    def resumed(self, options: dict[str, Any], versions: dict[str, str]) -> None:
        """Records that the search was resumed with these options and versions."""
        self._append(ResumedEvent(time=self.began, options=options, versions=versions))

    def interrupted(self) -> None:
        """Records that the session was ended here, by Ctrl-C or its like."""
        self._append(InterruptedEvent(time=time.time()))

    def asked(
        self,
        number: int,
        candidate: Candidate,
        flops: int,
        params: int,
        latency_us: int | None = None,
        origin: str = "",
    ) -> None:
        """Records a candidate with its costs, predicted latency where the search looks at it, and its origin."""
        arch = candidate.arch
        self._append(
            AskedEvent(
                number=number,
                time=time.time(),
                arch_id=arch.arch_id,
                flops=flops,
                params=params,
                latency_us=latency_us,
                origin=origin,
                depth_schedule=candidate.depth_schedule,
                architecture=arch,
            )
        )

    def ended(
        self, number: int, result: TrialResult | None, failure: Failure | None, seconds: float, part: float = 1.0
    ) -> None:
        """Records a trial's result, or its failure, how long the attempt took, and its share of a whole trial."""
        now, seconds = time.time(), round(seconds, 3)
        if result is not None:
            self._append(FinishedEvent(result=result, number=number, time=now, seconds=seconds, part=part))
        else:
            assert failure is not None
            self._append(FailedEvent(failure=failure, number=number, time=now, seconds=seconds, part=part))

    def rung(self, number: int, result: TrialResult, seconds: float, part: float) -> None:
        """Records what was found at a rung, how long the way there took, and its share of a whole trial."""
        self._append(RungEvent(number=number, time=time.time(), seconds=round(seconds, 3), part=part, result=result))

    def stopped(self, number: int) -> None:
        """Records that a trial goes no further than the rung it has come to."""
        self._append(StoppedEvent(number=number, time=time.time()))

    def retried(self, number: int, attempt: int, failure: Failure, seconds: float) -> None:
        """Records that an attempt, counted from 1, failed, and that another one is to follow."""
        now, seconds = time.time(), round(seconds, 3)
        self._append(RetriedEvent(number=number, attempt=attempt, failure=failure, time=now, seconds=seconds))

    def tested(self, number: int, result: FrontTestResult) -> None:
        """Records how a member of the front does on the test part."""
        self._append(TestedEvent(number=number, time=time.time(), result=result))

    def supernet(self, source: SupernetSource, seconds: float) -> None:
        """Records the supernet that all trials from here on inherit from, and how long this search trained it."""
        self._note(source)
        self._append(SupernetEvent(time=time.time(), seconds=round(seconds, 3), source=source))

    def final(self, number: int, role: FinalistRole, result: RetrainResult) -> None:
        """Records what became in the end of a finalist, or of its rival."""
        self._append(FinalEvent(number=number, role=role, time=time.time(), result=result))

    def measured(self, number: int, latency_us: float) -> None:
        """Records the measured latency of a trial's target."""
        self._append(MeasuredEvent(number=number, time=time.time(), latency_us=latency_us))

    def _append(self, event: Event) -> None:
        """Adds an event whole, whatever is pressed meanwhile. Raises `StorageError` if it cannot be written.

        Raises `LostDirectoryError`, with the event rescued, if the file is no longer where it was. A trial that failed
        then may have failed for that, so it is left to be run again.
        """
        if isinstance(event, FailedEvent | RetriedEvent):
            self.require_in_place()
        line = _with_checksum(event.to_json())
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
        self.require_in_place()

    def require_in_place(self) -> None:
        """Raises `LostDirectoryError` if the run directory was deleted, moved or replaced; all records are rescued.

        Their file is open, so its content lives on without a name.
        """
        assert self._file is not None
        path = self.run_dir / RECORDS_FILE
        if self.is_lost:
            raise self.lost()
        size = os.fstat(self._file).st_size
        if size != self._size:
            raise LostDirectoryError(
                f"{path} was changed by something else while the search ran: it has {size:,} bytes and not "
                f"the {self._size:,} that were written; put a copy of it back, or start a new search"
            )

    @property
    def is_lost(self) -> bool:
        """Whether the run directory was deleted, moved or replaced."""
        return self._file is not None and not is_same_file(self.run_dir / RECORDS_FILE, self._file)

    def lost(self, rescued: Path | None = None) -> LostDirectoryError:
        """Rescues all records into a run directory from where the search can be resumed; returns what to raise."""
        assert self._file is not None
        content = os.pread(self._file, self._size, 0)
        error = rescue(self.run_dir, lambda folder: write_atomically(folder / RECORDS_FILE, content), rescued)
        if error.rescued is None:
            return error
        advice = f"carry on with: python cli.py search --resume {error.rescued}"
        if self._supernet is not None:
            copy = error.rescued / self._supernet
            advice = f"the trained supernet was on disk alone; with a copy of it as {copy}, {advice}"
        return LostDirectoryError(f"{error}; {advice}", error.rescued)

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
