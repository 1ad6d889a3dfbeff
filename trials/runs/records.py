"""The append-only records of a search, from which the front, tables and the Optuna journal are derived.

`records.jsonl` has one JSON object per line. Every line is flushed to disk before the search goes on. So a kill loses
at most the running trials, and a full disk at most the event that did not fit. The lines are:

- the header, always first;
- `supernet`, once it is trained, before the first trial;
- per trial: `asked`, `retried` for each failed attempt that is repeated, `rung` for each rung reached before the end,
  and finally `finished`, `stopped` or `failed`;
- `recommended`, once all trials have ended, with the networks that the search recommends;
- `finals` once what comes at the end begins: `final` per finalist and role or, without a supernet, `tested` per member
  of the front, and `measured` if the search uses latency; `ended` once all results are written;
- `interrupted` after Ctrl-C, and `resumed` with the options from then on.

After `failed` the strategy has been told, so the trial is never run again. After `retried` it has not, so a resumed
search makes the missing attempt.

Every line ends in a checksum of what comes before it, so that damage on the disk is noticed. Lines of earlier versions
have none.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sret_nas.bounded_files import read_lines
from sret_nas.errors import UserError
from sret_nas.files import write_atomically
from sret_nas.json_files import MAX_BYTES

from ..engines.jobs import SupernetSource
from ..engines.results import Failure, FrontTestResult, RetrainResult, TrialResult
from ..lost_directory import LostDirectoryError, is_same_file, lost_message, rescue
from ..program_name import resume_command
from ..strategies.strategy import Candidate
from .checksums import with_checksum
from .compute_budget import ComputeUsage
from .directory import LOCK_FILE, RECORDS_FILE
from .events import (
    FORMAT,
    AskedEvent,
    EndedEvent,
    Event,
    FailedEvent,
    FinalEvent,
    FinalistRole,
    FinalsEvent,
    FinishedEvent,
    InterruptedEvent,
    MeasuredEvent,
    RecommendedEvent,
    ResumedEvent,
    RetriedEvent,
    RungEvent,
    StoppedEvent,
    SupernetEvent,
    TestedEvent,
    TrialEvent,
    parse_event,
)
from .history import History, read_history, refuse_file
from .recommendation import Recommendations
from .record_file import LineFile
from .run_kinds import instead

LOCK_TRIES, LOCK_SECONDS = 20, 0.02
"""How often the lock of a run is asked for, and the pause between."""

HEADER_KEYS = ("command", "options", "space", "space_digest", "proxy", "data", "device", "versions")


def _refuse_occupied(run_dir: Path) -> None:
    """Raises `UserError` if a directory holds a search (at least its whole header), or any other file."""
    path = run_dir / RECORDS_FILE
    if path.exists() and next(read_lines(path, MAX_BYTES), None) is not None:
        if other := instead(run_dir, "search"):
            raise UserError(f"{run_dir} is not empty{other}; name another --out")
        raise UserError(f"{run_dir} holds a search already: carry it on with --resume {run_dir}, or name another --out")
    others = sorted(entry.name for entry in run_dir.iterdir() if not _is_left_over(entry))
    if others:
        raise UserError(f"{run_dir} is not empty (it holds {others[0]}): name an --out that does not exist yet")


def _is_left_over(path: Path) -> bool:
    """Returns whether a file was left by a search that ended before its header was written."""
    if path.name not in (RECORDS_FILE, LOCK_FILE) or not path.is_file():
        return False
    content, begins = path.read_bytes()[:100], b"process " if path.name == LOCK_FILE else b'{"event": "header", '
    return content.startswith(begins[: len(content)])


class Records:
    """The records file of a run, locked and open for appending."""

    def __init__(self, run_dir: Path, must_exist: bool = False) -> None:
        """Locks the run directory, for a new search or, with `must_exist`, for an existing one.

        Raises `UserError` if another search holds the lock, or if the directory cannot be written or is not empty.
        """
        self.run_dir = run_dir
        self.usage = ComputeUsage()
        """Usage of the whole search, updated with every event."""
        self.began = time.time()
        """When this session of the search began, in seconds since the epoch: the `time` of its first event."""
        self._monotonic_began = time.monotonic()
        self._file: LineFile | None = None
        self._made: list[Path] = []
        """Directories that did not exist before, innermost first."""
        self._supernet: str | None = None
        """Name of the supernet's file, if it lies in the run directory."""
        try:
            if not must_exist and run_dir.exists():
                _refuse_occupied(run_dir)
            self._made = [path for path in (run_dir, *run_dir.parents) if not path.exists()]
            if must_exist:
                refuse_file(run_dir)
            if must_exist and not (run_dir / RECORDS_FILE).is_file():
                raise UserError(
                    f"{run_dir} is no run directory: there is no {RECORDS_FILE} in it{instead(run_dir, 'search')}"
                )
            run_dir.mkdir(parents=True, exist_ok=True)
            self._lock = open(run_dir / LOCK_FILE, "a+")  # noqa: SIM115 - held until `close`
        except OSError as error:
            raise UserError(f"{run_dir} cannot be written: {error.strerror}") from None
        self._take_lock()
        if not must_exist:
            _refuse_occupied(run_dir)  # again, now that nobody else can begin here

    def _take_lock(self) -> None:
        """Takes the lock, which the system frees whenever its holder dies, so none is ever stale.

        `runs list` holds it for an instant to see who does, so it is asked for more than once. Raises `UserError` if
        another process holds it.
        """
        for left in reversed(range(LOCK_TRIES)):
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if left > 0:
                    time.sleep(LOCK_SECONDS)
                    continue
                self._lock.seek(0)
                holder = self._lock.read().strip()
                self._lock.close()
                raise UserError(f"{self.run_dir} is in use by another search ({holder})") from None
        self._lock.truncate(0)
        self._lock.write(f"process {os.getpid()} on {socket.gethostname()}")
        self._lock.flush()

    def now(self) -> float:
        """Returns seconds since the epoch by a clock that was set when the session began, and is never set again."""
        return self.began + time.monotonic() - self._monotonic_began

    def start(self, header: dict[str, Any]) -> History:
        """Begins a new file; one without a whole header is replaced."""
        path = self.run_dir / RECORDS_FILE
        if self.is_lost:
            raise self.lost()
        self._file = LineFile(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644))
        content = {"event": "header", "format": FORMAT, "time": self.began, **header}
        try:
            self._append(parse_event(content))
        except OSError:
            self._forget(path)
            raise
        return History(content, usage=self.usage)

    def _forget(self, path: Path) -> None:
        """Deletes the file, since one without a header is not a search."""
        assert self._file is not None
        self._file.close()
        self._file = None
        path.unlink()

    def reopen(self) -> History:
        """Opens an existing file and cuts off a torn last line. Raises `UserError` as `read_history` does."""
        history = read_history(self.run_dir)
        path = self.run_dir / RECORDS_FILE
        size = sum(len(line) + 1 for line in read_lines(path, MAX_BYTES))
        os.truncate(path, size)
        self._file = LineFile(path, os.open(path, os.O_RDWR | os.O_APPEND), size)
        self.usage = history.usage
        self._note(history.supernet)
        return history

    def _note(self, source: SupernetSource | None) -> None:
        if source is not None and not Path(source.path).is_absolute():
            self._supernet = source.path

    def resumed(
        self, options: dict[str, Any], versions: dict[str, str], *, limits_cluster: bool = False
    ) -> None:  # fmt: skip
        """Records that the search was resumed with these options and versions.

        Args:
            limits_cluster: `EngineOptions.limits_cluster`.
        """
        event = ResumedEvent(time=self.began, options=options, versions=versions, limits_cluster=limits_cluster)
        self._append(event)

    def interrupted(self) -> None:
        """Records that the session ended here, by Ctrl-C or another signal."""
        self._append(InterruptedEvent(time=self.now()))

    def finals(self) -> None:
        """Records that all trials have ended, and that what comes at the end begins."""
        self._append(FinalsEvent(time=self.now()))

    def ended_search(self) -> None:
        """Records that the search has come to its end."""
        self._append(EndedEvent(time=self.now()))

    def asked(
        self,
        number: int,
        candidate: Candidate,
        flops: int,
        params: int,
        latency_us: int | None = None,
        origin: str = "",
    ) -> None:
        """Records a candidate with its costs, its predicted latency (if the search uses it) and its origin."""
        arch = candidate.arch
        self._append(
            AskedEvent(
                number=number,
                time=self.now(),
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
        self, number: int, result: TrialResult | None, failure: Failure | None, seconds: float, fraction: float = 1.0
    ) -> TrialEvent:
        """Records a trial's result or failure, the attempt's seconds, and its fraction of a whole trial.

        Like `rung`, `stopped` and `retried`, it returns the event, which `Trial.apply` takes.
        """
        now, seconds = self.now(), round(seconds, 3)
        event: FinishedEvent | FailedEvent
        if result is not None:
            event = FinishedEvent(result=result, number=number, time=now, seconds=seconds, fraction=fraction)
        else:
            assert failure is not None
            event = FailedEvent(failure=failure, number=number, time=now, seconds=seconds, fraction=fraction)
        self._append(event)
        return event

    def rung(self, number: int, result: TrialResult, seconds: float, fraction: float) -> TrialEvent:
        """Records the result at a rung, the seconds since the rung before, and their fraction of a whole trial."""
        event = RungEvent(number=number, time=self.now(), seconds=round(seconds, 3), fraction=fraction, result=result)
        self._append(event)
        return event

    def stopped(self, number: int) -> TrialEvent:
        """Records that a trial was stopped at the rung that it reached last."""
        event = StoppedEvent(number=number, time=self.now())
        self._append(event)
        return event

    def retried(self, number: int, attempt: int, failure: Failure, seconds: float) -> TrialEvent:
        """Records that an attempt, counted from 1, failed and will be repeated."""
        now, seconds = self.now(), round(seconds, 3)
        event = RetriedEvent(number=number, attempt=attempt, failure=failure, time=now, seconds=seconds)
        self._append(event)
        return event

    def tested(self, number: int, result: FrontTestResult) -> None:
        """Records the score of a member of the front on the test part."""
        self._append(TestedEvent(number=number, time=self.now(), result=result))

    def supernet(self, source: SupernetSource, seconds: float) -> None:
        """Records the supernet that all trials from here on inherit from, and how long this search trained it."""
        self._note(source)
        self._append(SupernetEvent(time=self.now(), seconds=round(seconds, 3), source=source))

    def recommended(self, recommended: Recommendations) -> None:
        """Records what the search recommends."""
        self._append(RecommendedEvent(time=self.now(), recommended=recommended))

    def final(self, number: int, role: FinalistRole, result: RetrainResult) -> None:
        """Records the result of a finalist or of its control."""
        self._append(FinalEvent(number=number, role=role, time=self.now(), result=result))

    def measured(self, number: int, latency_us: float) -> None:
        """Records the measured latency of a trial's target."""
        self._append(MeasuredEvent(number=number, time=self.now(), latency_us=latency_us))

    def _append(self, event: Event) -> None:
        """Appends an event, whole even if Ctrl-C is pressed meanwhile.

        Raises `StorageError` if it cannot be written, and `LostDirectoryError`, with the event rescued, if the file is
        no longer in its place.
        """
        if isinstance(event, FailedEvent | RetriedEvent):
            self.require_in_place()  # the failure may come of the lost directory: a resumed search repeats the trial
        assert self._file is not None
        self._file.append(with_checksum(event.to_json()), lambda: self._written(event))

    def _written(self, event: Event) -> None:
        self.require_in_place()
        self.usage.apply(event)

    def require_in_place(self) -> None:
        """Raises `LostDirectoryError` if the run directory was deleted, moved or replaced, after rescuing all records.

        That is possible because an open file keeps its content after it is deleted.
        """
        assert self._file is not None
        if self.is_lost:
            raise self.lost()
        size = os.fstat(self._file.descriptor).st_size
        if size != self._file.size:
            raise LostDirectoryError(
                f"{self._file.path} was changed by something else while the search ran: it has {size:,} bytes and not "
                f"the {self._file.size:,} that were written; put a copy of it back, or start a new search"
            )

    @property
    def is_lost(self) -> bool:
        """Whether the run directory was deleted, moved or replaced."""
        if self._file is None:
            return not is_same_file(self.run_dir / LOCK_FILE, self._lock.fileno())
        return not self._file.is_in_place

    def lost(self, rescued: Path | None = None) -> LostDirectoryError:
        """Rescues all records into another run directory, and returns the error that says how to resume from there.

        Before the first record there is nothing to rescue.
        """
        if self._file is None:
            return LostDirectoryError(
                f"{lost_message(self.run_dir)}; the search had not begun, so nothing is lost: start it again"
            )
        content = self._file.content()
        error = rescue(self.run_dir, lambda folder: write_atomically(folder / RECORDS_FILE, content), rescued)
        if error.rescued is None:
            return error
        advice = f"carry on with: {resume_command('search', error.rescued)}"
        if self._supernet is not None:
            copy = error.rescued / self._supernet
            advice = f"the trained supernet was on disk alone; with a copy of it as {copy}, {advice}"
        return LostDirectoryError(f"{error}; {advice}", error.rescued)

    def withdraw(self) -> None:
        """Removes the lock and the directories that were made, if the search never began."""
        if self._file is None and not self.is_lost:
            (self.run_dir / LOCK_FILE).unlink(missing_ok=True)
            for folder in self._made:
                with contextlib.suppress(OSError):  # it holds something else, so it stays
                    folder.rmdir()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
