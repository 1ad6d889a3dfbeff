"""The tables on disk: JSON lines that grow in a work directory, and the compressed files that are published."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.sret_bench.load import load
from sret_nas.files import write_atomically

Line = dict[str, Any]


class Table:
    """A table of JSON lines: those published before, and those that this work directory has added.

    A line is on disk before anything depends on it, and its key says what it is about: no piece is done twice.
    """

    def __init__(self, published: Path, growing: Path, key: Sequence[str]) -> None:
        self._published, self._growing, self._key = published, growing, tuple(key)
        old = load(published) if published.exists() else ({}, [])
        self.header: Line = old[0]
        self.lines: list[Line] = old[1]
        known = {self.key_of(line) for line in self.lines}
        for line in _whole_lines(growing):
            if "header" in line:
                self.header = self.header or line["header"]
            elif self.key_of(line) not in known:
                self.lines.append(line)

    def key_of(self, line: Line) -> tuple[Any, ...]:
        return tuple(line[name] for name in self._key)

    @property
    def done(self) -> set[tuple[Any, ...]]:
        """The keys of all lines."""
        return {self.key_of(line) for line in self.lines}

    def begin(self, header: Line) -> None:
        """Records where and how a new table is made. Does nothing for one that has been begun."""
        if not self.header:
            self.header = header
            self._write({"header": header})

    def append(self, line: Line) -> None:
        self.lines.append(line)
        self._write(line)

    def publish(self) -> None:
        """Writes the whole table, sorted by key, compressed: equal content gives equal bytes.

        An empty table is not published.
        """
        if not self.lines:
            return
        lines = [{"header": self.header}, *sorted(self.lines, key=self.key_of)]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        buffer = io.BytesIO()
        with gzip.GzipFile(filename="", fileobj=buffer, mode="wb", mtime=0) as file:
            file.write(text.encode())
        write_atomically(self._published, buffer.getvalue())

    def _write(self, line: Line) -> None:
        self._growing.parent.mkdir(parents=True, exist_ok=True)
        existing = self._growing.read_bytes() if self._growing.exists() else b""
        with self._growing.open("ab") as file:
            # A process that was killed while it wrote leaves a part of a line, which must not spoil the next one.
            file.write((b"" if existing.endswith(b"\n") or not existing else b"\n") + json.dumps(line).encode() + b"\n")


def _whole_lines(path: Path) -> Iterator[Line]:
    """Yields the lines of a growing table, without parts of lines that killed processes left."""
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            yield json.loads(text)
        except json.JSONDecodeError:
            continue
