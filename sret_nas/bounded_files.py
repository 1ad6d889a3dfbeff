"""Bounded reading of untrusted files: regular files only, up to a size limit, as bytes or UTF-8 text."""

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
    """No file exists at the given path."""


def open_regular(path: str | Path) -> BufferedReader:
    """Opens a regular file, or a link to one, for reading.

    Raises `MissingFileError` if it does not exist, and `UserError` if it is a pipe, a device or a folder or cannot be
    read. It never blocks: opening a pipe without a writer would otherwise wait forever.
    """
    try:
        _require_regular(path, os.stat(path))
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise MissingFileError(f"{path}: there is no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:  # e.g. a NUL character in the name
        raise UserError(f"{path}: cannot be read: {error}") from None
    file = os.fdopen(descriptor, "rb")
    try:
        _require_regular(path, os.fstat(descriptor))  # the path may have been replaced in between
    except BaseException:
        file.close()
        raise
    return file


def _require_regular(path: str | Path, status: os.stat_result) -> None:
    """Raises `UserError` if a path is anything but a regular file."""
    for is_kind, kind in _KINDS:
        if is_kind(status.st_mode):
            raise UserError(f"{path}: cannot be read: it is {kind}, not a file")


def require_regular(path: str | Path) -> int:
    """Returns the size in bytes of a regular file that can be read. Raises `UserError` as `open_regular` does."""
    with open_regular(path) as file:
        return os.fstat(file.fileno()).st_size


def read_bytes(path: str | Path, max_bytes: int) -> bytes:
    """Returns a file's content.

    Raises `UserError` as `open_regular` does, or if the file is larger than `max_bytes`.
    """
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
    """Returns a file's UTF-8 text, without a byte order mark.

    Raises `UserError` as `read_bytes` does, or if the content is not UTF-8, with the position of the first bad byte.
    """
    return decode_text(read_bytes(path, max_bytes), str(path))


def decode_text(content: bytes, source: str) -> str:
    """Decodes UTF-8. Raises `UserError` with `source` and the position of the first byte that is not valid UTF-8."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        wrong = content[error.start]
        raise UserError(
            f"{source}: cannot be read: line {line}, byte {error.start + 1}: must be UTF-8 text, got 0x{wrong:02x}"
        ) from None


def read_lines(path: str | Path, max_bytes_per_line: int) -> Iterator[bytes]:
    """Yields the complete lines of a file without their line breaks.

    Text after the last line break is skipped, because its writing was interrupted. Raises `UserError` as
    `open_regular` does, or for a line that is too long.
    """
    with open_regular(path) as file:
        for line_number in itertools.count(1):
            try:
                line = file.readline(max_bytes_per_line + 1)
            except OSError as error:
                raise UserError(f"{path}: cannot be read: {error.strerror}") from None
            if line.endswith(b"\n"):
                yield line[:-1]
            elif len(line) > max_bytes_per_line:
                raise UserError(f"{path}, line {line_number}: must have at most {max_bytes_per_line:,} bytes")
            else:
                return


def merge_surrogates(text: str) -> str:
    """Returns text with every surrogate pair merged into its character; JSON escapes characters as such pairs.

    Raises `ValueError` for half a pair, which is no character and cannot be encoded.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        try:
            return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
        except UnicodeDecodeError:
            raise ValueError(f"must be text, got half a surrogate pair in {printable(repr(text), 80)}") from None
    return text
