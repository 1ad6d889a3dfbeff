"""What all kinds of files share: the smallest networks and spaces, and how a file's content comes into being."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sret_nas.arch.config import ArchConfig
from sret_nas.space.search_space import SearchSpace
from trials.runs.checksums import with_checksum

Reader = Callable[[Path], object]


@dataclass(frozen=True)
class Kind:
    """A kind of file: a good one, and the function that reads it as the commands do."""

    good: Callable[[], bytes]
    read: Reader


SMOKE = SearchSpace.load("smoke")
TINY = ArchConfig.from_dict(
    {
        "stages": [
            {"width": 4, "heads": 2, "blocks": 1, "recursions": 2, "groups": [2, 2], "mlp_ratio": 1.0},
            {"width": 8, "heads": 2, "blocks": 1, "recursions": 1, "groups": [1], "mlp_ratio": 1.0},
        ],
        "image_size": 32,
        "classes": 3,
    }
)


def saved(save: Callable[[Path], object]) -> bytes:
    """Returns what `save` writes to a path."""
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder) / "w")
        return (Path(folder) / "w").read_bytes()


def torch_saved(content: Any, **how: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **how)
    return buffer.getvalue()


def json_lines(*contents: Any) -> bytes:
    return b"".join(json.dumps(content).encode() + b"\n" for content in contents)


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def beside(path: Path, name: str, files: dict[str, bytes]) -> Path:
    """Puts a file, under its right name, into a folder of the good others; returns the folder."""
    for other, content in files.items():
        if other != name:
            path.with_name(other).write_bytes(content)
    return renamed(path, name).parent


def renamed(path: Path, name: str) -> Path:
    """Returns the path of a file that was given another name beside it, or in a folder there."""
    return path.rename(path.parent / name)


def with_checksums(content: bytes) -> bytes:
    """Returns lines with the checksums that belong to them, where they are JSON: else those are all that is noticed."""
    lines = content.split(b"\n")
    for number, line in enumerate(lines):
        try:
            data = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(data, dict):
            data.pop("crc32", None)
            lines[number] = _signed(data) or line
    return b"\n".join(lines)


def _signed(data: dict[str, Any]) -> bytes | None:
    try:
        return with_checksum(data).rstrip(b"\n")
    except ValueError:  # a number that is not finite, which no checksum makes valid
        return None
