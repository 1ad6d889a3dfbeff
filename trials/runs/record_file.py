"""An append-only file of JSON lines, locked by the process that writes it, every line on disk before work goes on."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sret_nas.bounded_files import read_lines
from sret_nas.errors import ConfigError, UserError
from sret_nas.files import write_atomically
from sret_nas.json_files import MAX_BYTES, parse_json

from ..interruption import StepAborted, defer_interrupts
from ..lost_directory import is_same_file, rescue
from .checksums import with_checksum, without_checksum
from .full_disk import StorageError


def read_record_file(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the content of every whole line, with its source for messages; a torn last line is left out.

    Raises `UserError` if the file cannot be read, and `ConfigError` for a line that has changed since it was written.
    """
    for number, line in enumerate(read_lines(path, MAX_BYTES), start=1):
        source = f"{path}, line {number}"
        plain, _ = without_checksum(line, source, must_be_checked=True)
        content = parse_json(plain, source)
        if not isinstance(content, dict):
            raise ConfigError(source, "", "not a record of this tool: must be a mapping")
        yield source, content


class LineFile:
    """A file that is open for whole lines to be appended."""

    def __init__(self, path: Path, descriptor: int, size: int = 0) -> None:
        """Takes the file over.

        Args:
            path: The file's, for messages.
            descriptor: Of the file, which is open for reading and appending.
            size: The bytes of its whole lines.
        """
        self.path, self.descriptor, self.size = path, descriptor, size

    @property
    def is_in_place(self) -> bool:
        """Whether the path still names this file."""
        return is_same_file(self.path, self.descriptor)

    def content(self) -> bytes:
        """Returns all whole lines, which an open file keeps after it is deleted."""
        return os.pread(self.descriptor, self.size, 0)

    def append(self, line: bytes, then: Callable[[], object]) -> None:
        """Appends a line, whole even if Ctrl-C is pressed meanwhile.

        Args:
            line: With its line break.
            then: Is done before an interruption is heard.

        Raises `StorageError` if it cannot be written.
        """
        with defer_interrupts() as interruptions:
            try:
                self._write(line)
                self.size += len(line)
            except StepAborted:  # a second signal: the line counts as never written
                os.ftruncate(self.descriptor, self.size)
                raise
            then()
        if interruptions:
            raise KeyboardInterrupt

    def _write(self, line: bytes) -> None:
        """Writes a line to disk, or cuts it off again and raises `StorageError`."""
        written = 0
        try:
            while written < len(line):  # a disk that becomes full first takes what it still can
                written += os.write(self.descriptor, line[written:])
            os.fsync(self.descriptor)
        except OSError as error:
            with contextlib.suppress(OSError):  # a read-only disk; a torn line is ignored when the file is read
                os.ftruncate(self.descriptor, self.size)
            raise StorageError(error.errno, error.strerror, str(self.path)) from error

    def close(self) -> None:
        os.close(self.descriptor)


class RecordFile:
    """A file of records, open for appending."""

    def __init__(self, path: Path) -> None:
        """Locks a file, creates it if it does not exist, and cuts off a torn last line.

        Raises `UserError` if another process holds the lock, or if the file cannot be written.
        """
        self.path = path
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            size = sum(len(line) + 1 for line in read_lines(path, MAX_BYTES))
            os.ftruncate(descriptor, size)
        except BlockingIOError:
            os.close(descriptor)
            raise UserError(f"{path.parent} is in use by another process") from None
        except BaseException:
            os.close(descriptor)
            raise
        self._file = LineFile(path, descriptor, size)

    def append(self, content: dict[str, Any]) -> None:
        """Appends a line, whole even if Ctrl-C is pressed meanwhile.

        Raises `StorageError` if the disk is full, and `LostDirectoryError`, with all lines rescued, if the file is no
        longer in its place.
        """
        self._file.append(with_checksum(content), self.require_in_place)

    def require_in_place(self) -> None:
        """Raises `LostDirectoryError`, after rescuing all lines, if the folder was deleted, moved or replaced."""
        if not self._file.is_in_place:
            content = self._file.content()
            raise rescue(self.path.parent, lambda folder: write_atomically(folder / self.path.name, content))

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
