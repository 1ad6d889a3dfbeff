"""The remote copy of a run directory (`--storage`): updated while the search runs, and fetched to resume elsewhere.

The search does not know of it. A thread looks at the run directory every few seconds and copies what has changed:

1. the files that records may name (the supernet and its checkpoint, weights);
2. the whole lines that the records had before step 1, so that every file named in the copy exists there;
3. deletions of weights that left the front. Only what this search wrote into the copy is deleted there: the mark of the
   copy lists it, for later sessions.

Images are not copied. A storage failure is reported once and retried; it never fails the search, because the local run
directory is complete.
"""

from __future__ import annotations

import itertools
import json
import socket
import tempfile
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Self

from sret_nas.errors import UserError
from sret_nas.json_files import MAX_BYTES
from sret_nas.plurals import counted

from ..console import Console, print_line
from ..program_name import resume_command
from .directory import LOCK_FILE, RECORDS_FILE
from .optuna_journal import JOURNAL_FILE
from .remote_storage import RunStore, is_bucket, one_line, path_inside, split_address, store_for

COPY_SECONDS = 10.0
"""Seconds between updates; longer if copying would take more than a tenth of the time."""
LAST_ATTEMPTS = 3
"""Attempts at the last update; one after Ctrl-C."""
LAST_SECONDS = 120.0
"""Seconds that the end of a search waits for the next file of the last update."""
LAST_PAUSE = 5.0
"""Seconds between attempts at the last update."""

COPY_MARK = "copy.json"
"""The file that marks a folder or prefix as a copy, and names the run directory and the files that may be deleted."""
PROBE = "probe"
"""A file that is written and deleted to check permissions."""
PROBE_CONTENT = b"may be deleted"
MIRRORED = ("weights/", "pareto/", "recommended/", "checkpoints/", "tensorboard/")
"""Folders in which a deleted file is also deleted in the copy."""

Signature = tuple[int, ...]
"""Time of modification (ns), size (bytes) and inode of a file, which change with its content."""


def store_for_new_search(storage: str | None, run_dir: Path) -> RunStore | None:
    """Returns the store that a new search is copied to; None without a storage.

    Raises `UserError` if the store cannot be written or holds a search already.
    """
    if storage is None:
        return None
    store, stored = _opened(storage, run_dir)
    if stored is not None:
        raise UserError(
            f"{store.address} holds a search already: carry it on with --resume {store.address}, or give the new one "
            "an --out of another name"
        )
    return store


def store_for_resumed_search(storage: str | None, run_dir: Path) -> RunStore | None:
    """Returns the store that a resumed search is copied to; None without a storage.

    Raises `UserError` if the store cannot be written, or if the records in `run_dir` do not continue those in it.
    """
    if storage is None:
        return None
    store, stored = _opened(storage, run_dir)
    if stored is not None:
        _require_beginning(stored, run_dir, store.address)
    return store


def _opened(storage: str, run_dir: Path) -> tuple[RunStore, bytes | None]:
    """Returns a writable store, and the content of its records file. Raises `UserError` if it cannot be used."""
    if not is_bucket(storage) and (Path(storage) / run_dir.resolve().name).resolve() == run_dir.resolve():
        raise UserError(f"--storage {storage} is where the run directory {run_dir} itself lies: give another folder")
    try:
        store = store_for(storage, run_dir.resolve().name)
        files = store.sizes()
        stored = store.read(RECORDS_FILE) if RECORDS_FILE in files else None
        others = [] if stored is not None else sorted(name for name in files if not _is_left_over(store, name))
        if others:
            raise UserError(f"{store.address} is not empty (it holds {others[0]}): give another --storage")
        probe = PROBE  # one that a killed search left is written over, and another file of that name is a user's
        if PROBE in files and not _is_left_over(store, PROBE):
            probe = next(name for number in itertools.count(2) if (name := f"{PROBE}-{number}") not in files)
        store.write(probe, PROBE_CONTENT)
        store.delete(probe)
    except OSError as error:
        raise UserError(f"--storage {storage} cannot be used: {one_line(error)}") from None
    return store, stored


def _is_left_over(store: RunStore, name: str) -> bool:
    """Returns whether a file was left by a search that was killed before it copied its records."""
    if name == PROBE:
        return store.read(name) == PROBE_CONTENT
    return name == COPY_MARK and store.read(name).startswith(b'{"copy_of": ')


def _require_beginning(stored: bytes, run_dir: Path, address: str) -> None:
    """Raises `UserError` unless the records in a run directory equal or continue the stored ones."""
    local = whole_lines((run_dir / RECORDS_FILE).read_bytes())
    if local.startswith(stored):
        return
    if local.partition(b"\n")[0] != stored.partition(b"\n")[0]:
        raise UserError(f"{address} holds another search than {run_dir}: give another --storage")
    if stored.startswith(local):
        ahead = stored[len(local) :].count(b"\n")
        raise UserError(
            f"{address} is {counted(ahead, 'record')} ahead of {run_dir}, so the search was carried on elsewhere: "
            f"carry on from there with --resume {address} and an --out that does not exist yet"
        )
    raise UserError(
        f"{address} and {run_dir} have the same beginning and went different ways, so the search was carried on "
        f"twice: carry on from one, with --resume {address} and an --out that does not exist yet, or with --resume "
        f"{run_dir} and another --storage"
    )


def whole_lines(content: bytes) -> bytes:
    """Returns the content without an incomplete last line."""
    return content[: content.rfind(b"\n") + 1]


def is_copy(address: Path | str) -> bool:
    """Returns whether an address or folder is that of a copy, not a run directory."""
    return isinstance(address, str) or (address / COPY_MARK).is_file()


def fetched_to(name: str, out: Path | None) -> Path:
    """Returns the run directory that a copy of this name is fetched to."""
    return Path("runs") / name if out is None else out


def fetch_run(address: str, out: Path | None, console: Console) -> tuple[Path, str]:
    """Fetches the copy at `address` to `out` (default `runs/NAME`); returns the run directory and its storage.

    An existing run directory is not fetched again; `store_for_resumed_search` checks whether it matches the copy.
    Raises `UserError` if the copy cannot be fetched.
    """
    storage, name = split_address(address)
    run_dir = fetched_to(name, out)
    if (run_dir / RECORDS_FILE).is_file():
        print_line(console, f"{run_dir} is here already, so it is not fetched from {address}")
        return run_dir, storage
    try:
        store = store_for(storage, name)
        files = store.sizes()
    except OSError as error:
        raise UserError(f"{address} cannot be read: {one_line(error)}") from None
    if RECORDS_FILE not in files:
        raise UserError(f"{address} holds no search: there is no {RECORDS_FILE} in it")
    print_line(console, f"Fetching {address} to {run_dir}: {sum(files.values()) / 1e6:,.1f} MB")
    _fetch(store, [name for name in files if name != COPY_MARK], run_dir)
    return run_dir, storage


def _fetch(store: RunStore, names: list[str], run_dir: Path) -> None:
    """Fetches all files, or none and raises `UserError`."""
    try:
        run_dir.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=run_dir.parent, prefix=f".{run_dir.name}.") as temporary:
            fetched = Path(temporary) / run_dir.name
            for name in names:
                path = path_inside(fetched, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(store.read(name))
            fetched.rename(run_dir)
    except OSError as error:
        raise UserError(f"{store.address} cannot be fetched to {run_dir}: {one_line(error)}") from None


def _listed(store: RunStore) -> set[str]:
    """Returns the files of a copy that its mark lists: none for a mark of earlier versions, or one that is damaged."""
    files = store.sizes()
    if files.get(COPY_MARK, MAX_BYTES) >= MAX_BYTES:
        return set()
    try:
        mark = json.loads(store.read(COPY_MARK))
    except (ValueError, RecursionError):
        return set()
    listed = mark.get("files") if isinstance(mark, dict) else None
    names = {name for name in listed if isinstance(name, str)} if isinstance(listed, list) else set[str]()
    return {name for name in files.keys() & names if name.startswith(MIRRORED)}


def copied(store: RunStore | None, run_dir: Path, console: Console) -> AbstractContextManager[object]:
    """Returns a context in which the run directory is copied; without a store it does nothing."""
    return nullcontext() if store is None else RunCopy(store, run_dir, console)


class RunCopy:
    """Keeps the copy up to date in a thread while the context lasts, and completes it at its end."""

    def __init__(self, store: RunStore, run_dir: Path, console: Console) -> None:
        self._store, self._run_dir, self._console = store, run_dir, console
        self._copied: dict[str, Signature] = {}
        """Signatures of files when they were copied."""
        self._ours: set[str] | None = None
        """Names of files in `MIRRORED` folders that this search wrote; None before anything was copied."""
        self._stored: int | None = None
        """Bytes of the records in the copy, as this search wrote them."""
        self._problem: str | None = None
        """The reason of the last failure."""
        self._is_whole = self._is_taken = False
        self._ending = threading.Event()
        self._attempts = LAST_ATTEMPTS
        self._moved = time.monotonic()
        """Time of the last copied file, on the monotonic clock."""
        self._thread = threading.Thread(target=self._work, name="run copy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, KeyboardInterrupt):
            self._attempts = 1
        self._moved = time.monotonic()
        self._ending.set()
        while self._thread.is_alive() and time.monotonic() - self._moved < LAST_SECONDS:
            self._thread.join(0.1)
        print_line(self._console, self._last_words())

    def _last_words(self) -> str:
        address = self._store.address
        if self._is_whole:
            return f"Copy: {address}"
        reason = self._problem or f"nothing could be written for {LAST_SECONDS:g} s"
        advice = "" if self._is_taken else f"; to copy it again: {resume_command('search', self._run_dir)}"
        return f"warning: the copy of {self._run_dir} at {address} is not whole: {reason}{advice}"

    def _work(self) -> None:
        try:
            self._keep_up()
            self._finish()
        except UserError as error:  # another search writes there, and must not be overwritten
            self._is_taken = True
            self._tell_once("is left alone from here on", str(error))

    def _keep_up(self) -> None:
        pause = 0.0
        while not self._ending.wait(pause):
            began = time.monotonic()
            self._attempt(is_last=False)
            pause = max(COPY_SECONDS, 9 * (time.monotonic() - began))

    def _finish(self) -> None:
        for number in range(self._attempts):
            time.sleep(LAST_PAUSE if number > 0 else 0)
            if self._attempt(is_last=True):
                self._is_whole = True
                return

    def _attempt(self, is_last: bool) -> bool:
        """Copies what has changed, and returns whether the copy is up to date.

        Raises `UserError` if it is not this search's any more.
        """
        try:
            self._copy_changes(is_last)
        except OSError as error:
            self._tell_once("cannot be written now; trying again", one_line(error))
            return False
        return True

    def _tell_once(self, what: str, reason: str) -> None:
        if self._problem is None or self._is_taken:
            print_line(self._console, f"warning: the copy at {self._store.address} {what}: {reason}")
        self._problem = reason

    def _copy_changes(self, is_last: bool) -> None:
        self._require_ours()
        signature, lines = self._seen(RECORDS_FILE), whole_lines((self._run_dir / RECORDS_FILE).read_bytes())
        names = self._names(with_journal=is_last)
        here = {name for name in names if name.startswith(MIRRORED)}
        if self._ours is None:
            self._ours = self._begin(here)
        elif not here <= self._ours:
            self._mark(self._ours | here)
            self._ours |= here
        for name in sorted(names):
            self._copy(name)
        if self._copied.get(RECORDS_FILE) != signature:
            self._write_records(lines)
            self._copied[RECORDS_FILE] = signature
        for name in sorted(self._ours - names):
            self._store.delete(name)
            self._ours.remove(name)

    def _require_ours(self) -> None:
        """Raises `UserError` if another search wrote the stored records, and `OSError` if they are gone."""
        size = self._store.size(RECORDS_FILE)
        if size is None and self._stored is not None:
            raise FileNotFoundError(f"its {RECORDS_FILE} is gone")
        if size is not None and size != self._stored:
            _require_beginning(self._store.read(RECORDS_FILE), self._run_dir, self._store.address)
            self._stored = size

    def _begin(self, here: set[str]) -> set[str]:
        """Marks the store as a copy, writes the first line of the records, and returns what may be deleted there.

        Args:
            here: The names of all files in `MIRRORED` folders.
        """
        before = set[str]() if self._stored is None else _listed(self._store)
        self._mark(before | here)
        if self._stored is None:
            header, end, _ = (self._run_dir / RECORDS_FILE).read_bytes().partition(b"\n")
            self._write_records(header + end)
        return before | here

    def _mark(self, ours: set[str]) -> None:
        """Writes the mark of the copy, before the files: one that it does not list counts as a user's later."""
        mark = {"copy_of": str(self._run_dir.absolute()), "host": socket.gethostname(), "files": sorted(ours)}
        self._store.write(COPY_MARK, json.dumps(mark).encode() + b"\n")

    def _write_records(self, lines: bytes) -> None:
        self._store.write(RECORDS_FILE, lines)
        self._stored, self._moved = len(lines), time.monotonic()

    def _names(self, with_journal: bool) -> set[str]:
        """Returns the files to copy beside the records.

        The journal grows with every trial and can be rebuilt from the records, so it is copied at the end alone.
        """
        files = (path.relative_to(self._run_dir).as_posix() for path in self._run_dir.rglob("*") if path.is_file())
        others = {RECORDS_FILE, LOCK_FILE, f"{JOURNAL_FILE}.lock"} | (set() if with_journal else {JOURNAL_FILE})
        return {name for name in files if name not in others and not Path(name).name.startswith(".")}

    def _copy(self, name: str) -> None:
        """Copies a file unless it has not changed, or was deleted meanwhile."""
        try:
            signature = self._seen(name)
            content = None if self._copied.get(name) == signature else (self._run_dir / name).read_bytes()
        except FileNotFoundError:
            return
        if content is not None:
            self._store.write(name, content)
            self._copied[name], self._moved = signature, time.monotonic()

    def _seen(self, name: str) -> Signature:
        status = (self._run_dir / name).stat()
        return status.st_mtime_ns, status.st_size, status.st_ino
