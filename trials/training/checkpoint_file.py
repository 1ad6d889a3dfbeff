"""Checkpoints as files: torch's archives, with a checksum over all of their bytes that is looked at when they are read.

The checksum is the comment of the zip archive that `torch.save` writes, so `torch.load` reads the files as well.
Files of earlier versions have none; there the checksums of the archive's members are looked at.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from sret_nas.bounded_files import open_regular
from sret_nas.errors import UserError, printable
from sret_nas.files import write_atomically
from sret_nas.nn import checkpoints as nn_checkpoints

MAX_REASON = 200
"""Most characters of an error of torch in a message."""

_MARK = b"sha256:"
_COMMENT_BYTES = len(_MARK) + 64


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Writes tensors and plain data, whole or not at all."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    archive = buffer.getvalue()
    if not archive.endswith(b"\0\0"):  # the length of the comment, the last field of a zip file
        raise RuntimeError("torch.save wrote an archive with a comment, which no version known here does")
    archive = archive[:-2] + struct.pack("<H", _COMMENT_BYTES)
    write_atomically(path, archive + _comment(archive))


class DamagedError(UserError):
    """A byte of a checkpoint has changed since it was written, or it is none."""


def read_checkpoint(path: Path, device: torch.device) -> Any:
    """Returns the content of a file of `write_checkpoint`, its tensors on a device. Raises `DamagedError`."""
    try:
        _require_unchanged(path)
        return nn_checkpoints.read_checkpoint(path, device)
    except torch.OutOfMemoryError:
        raise
    except UserError as error:
        raise DamagedError(f"{error}; delete it to start anew") from error
    except Exception as error:  # whatever a damaged archive makes of the reader
        reason = str(error).partition("\n")[0]
        raise DamagedError(f"{path}: cannot be read as a checkpoint: {reason}; delete it to start anew") from error


def _comment(archive: bytes) -> bytes:
    return _MARK + hashlib.sha256(archive).hexdigest().encode()


def _require_unchanged(path: Path) -> None:
    """Raises `ValueError`, or whatever `zipfile` makes of a damaged archive."""
    with open_regular(path) as file, zipfile.ZipFile(file) as members:
        if not members.comment:
            damaged = members.testzip()
            if damaged is not None:
                raise ValueError(f"its part {damaged} has changed since it was written")
            return
        file.seek(0)
        stored = file.read()
    archive, comment = stored[:-_COMMENT_BYTES], stored[-_COMMENT_BYTES:]
    if comment != _comment(archive):
        raise ValueError("its checksum says that it has changed since it was written")


@contextmanager
def restoring(path: Path, kind: str, advice: str = "delete it to start anew") -> Iterator[None]:
    """Turns errors of restoring a checkpoint's content into a `UserError` of one line; those of memory stay.

    Args:
        path: Of the checkpoint.
        kind: What it should be of, such as `a supernet`.
        advice: What to do.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, IndexError) as error:
        # torch lists all weights that do not fit, a line each
        reason = printable(" ".join(str(error).split()), MAX_REASON)
        raise UserError(f"{path}: not a checkpoint of {kind}: {type(error).__name__}: {reason}; {advice}") from error


def require_same(asked: dict[str, Any], found: dict[str, Any], path: Path) -> None:
    """Raises `UserError` naming the first thing in which a training on disk differs from the one that is asked for."""
    difference = first_mismatch(asked, found)
    if difference is not None:
        name, now, then = difference
        raise UserError(
            f"{path}: is of a training with another {name}: it was {then}, got {now}; "
            "ask for the same, or train in another directory"
        )


def first_mismatch(asked: dict[str, Any], found: dict[str, Any]) -> tuple[str, Any, Any] | None:
    """Returns the name of what differs first, such as `config.seed`, what is asked for, and what was found.

    A digest that was not recorded, since the program of then had none, differs from nothing.
    """
    for name, value in asked.items():
        other = found.get(name)
        if other is None and name.endswith("(digest)"):
            continue
        if isinstance(value, dict) and isinstance(other, dict):
            inner = first_mismatch(value, other)
            if inner is not None:
                return f"{name}.{inner[0]}", *inner[1:]
        elif value != other:
            return name, value, other
    return None
