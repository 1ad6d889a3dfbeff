"""Files from outside, read without trust: regular files only, never more of them than a bound, as UTF-8 text."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

from sret_nas.errors import UserError, printable

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class MissingFileError(UserError):
    """There is no file of that name."""


def open_regular(path: str | Path) -> BufferedReader:
    """Returns a regular file, or what a link to one stands for, open for reading.

    Raises `MissingFileError` where there is none, and `UserError` for a pipe, a device, a folder, or what may not be
    read. None of them is waited for: a pipe without a writer would never answer.
    """
    try:
        _require_regular(path, os.stat(path))
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise MissingFileError(f"{path}: there is no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:  # a name that no file can have
        raise UserError(f"{path}: cannot be read: {error}") from None
    file = os.fdopen(descriptor, "rb")
    try:
        _require_regular(path, os.fstat(descriptor))  # it may have been replaced since
    except BaseException:
        file.close()
        raise
    return file


def _require_regular(path: str | Path, status: os.stat_result) -> None:
    for is_kind, kind in _KINDS:
        if is_kind(status.st_mode):
            raise UserError(f"{path}: cannot be read: it is {kind}, not a file")


def require_regular(path: str | Path) -> int:
    """Returns the size in bytes of a regular file that can be read. Raises `UserError` as `open_regular` does."""
    with open_regular(path) as file:
        return os.fstat(file.fileno()).st_size


def read_bytes(path: str | Path, max_bytes: int) -> bytes:
    """Returns a file's content. Raises `UserError` if it is no regular file or larger than `max_bytes`."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size <= max_bytes:
            try:
                content = file.read(max_bytes + 1)
            except OSError as error:
                raise UserError(f"{path}: cannot be read: {error.strerror}") from None
            size = max(size, len(content))
    if size > max_bytes:
        raise UserError(f"{path}: must have at most {max_bytes:,} bytes, got {size:,}")
    return content


def read_text(path: str | Path, max_bytes: int) -> str:
    """Returns a file's UTF-8 text, without a byte order mark. Raises `UserError` as `read_bytes` does, or for other
    bytes than UTF-8's, with their place."""
    return decode_text(read_bytes(path, max_bytes), str(path))


def decode_text(content: bytes, source: str) -> str:
    """Returns UTF-8 bytes as text. Raises `UserError` naming `source` and the place of the first byte that is none."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        wrong = content[error.start]
        raise UserError(
            f"{source}: cannot be read: line {line}, byte {error.start + 1}: must be UTF-8 text, got 0x{wrong:02x}"
        ) from None


def read_lines(path: str | Path, max_bytes_per_line: int) -> Iterator[bytes]:
    """Yields a file's whole lines, without their ends: what follows the last line break was never finished.

    Raises `UserError` as `open_regular` does, or for a line that is too long.
    """
    with open_regular(path) as file:
        for number in itertools.count(1):
            try:
                line = file.readline(max_bytes_per_line + 1)
            except OSError as error:
                raise UserError(f"{path}: cannot be read: {error.strerror}") from None
            if line.endswith(b"\n"):
                yield line[:-1]
            elif len(line) > max_bytes_per_line:
                raise UserError(f"{path}, line {number}: must have at most {max_bytes_per_line:,} bytes")
            else:
                return


def merge_surrogates(text: str) -> str:
    """Returns text with every pair of surrogates as the one character that it means, as JSON writes it.

    Raises `ValueError` for half a pair, which is no character and cannot be written anywhere.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        try:
            return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
        except UnicodeDecodeError:
            raise ValueError(f"must be text, got half a surrogate pair in {printable(repr(text), 80)}") from None
    return text
