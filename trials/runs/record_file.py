"""An append-only file of JSON lines, locked by the process that writes it, every line on disk before work goes on."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
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


def write_line(file: int, line: bytes, size: int, path: Path) -> None:
    """Writes a line to disk, or cuts it off again and raises `StorageError`.

    Args:
        file: The descriptor of a file that is open for appending.
        line: What to write.
        size: The bytes that the file has.
        path: The file's, for the message.
    """
    written = 0
    try:
        while written < len(line):  # a disk that becomes full first takes what it still can
            written += os.write(file, line[written:])
        os.fsync(file)
    except OSError as error:
        with contextlib.suppress(OSError):  # a read-only disk; a torn line is ignored when the file is read
            os.ftruncate(file, size)
        raise StorageError(error.errno, error.strerror, str(path)) from error


class RecordFile:
    """A file of records, open for appending."""

    def __init__(self, path: Path) -> None:
        """Locks a file, creates it if it does not exist, and cuts off a torn last line.

        Raises `UserError` if another process holds the lock, or if the file cannot be written.
        """
        self.path = path
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror}") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._size = sum(len(line) + 1 for line in read_lines(path, MAX_BYTES))
            os.ftruncate(self._file, self._size)
        except BlockingIOError:
            os.close(self._file)
            raise UserError(f"{path.parent} is in use by another process") from None
        except BaseException:
            os.close(self._file)
            raise

    def append(self, content: dict[str, Any]) -> None:
        """Appends a line, whole even if Ctrl-C is pressed meanwhile.

        Raises `StorageError` if the disk is full, and `LostDirectoryError`, with all lines rescued, if the file is no
        longer in its place.
        """
        line = with_checksum(content)
        with defer_interrupts() as interruptions:
            try:
                write_line(self._file, line, self._size, self.path)
                self._size += len(line)
            except StepAborted:  # a second signal: the line counts as never written
                os.ftruncate(self._file, self._size)
                raise
            self.require_in_place()
        if interruptions:
            raise KeyboardInterrupt

    def require_in_place(self) -> None:
        """Raises `LostDirectoryError`, after rescuing all lines, if the folder was deleted, moved or replaced."""
        if not is_same_file(self.path, self._file):
            content = os.pread(self._file, self._size, 0)
            raise rescue(self.path.parent, lambda folder: write_atomically(folder / self.path.name, content))

    def close(self) -> None:
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
