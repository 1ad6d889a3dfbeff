"""What the first process of a training on another machine has for the driver: what it says, and what it writes.

Both happen as if the machine were the driver's own. The driver asks for news over and over, and puts down what comes.
"""

from __future__ import annotations

import queue
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sret_nas.files import write_atomically
from trials.console import Console, print_line
from trials.supernet.state import CHECKPOINT
from trials.supernet.training import SUPERNET

WHOLE = (CHECKPOINT, SUPERNET)
"""Files that are replaced as a whole. All others, TensorBoard's, only grow."""

WIDTH = 120
"""Of lines, for who sees them on a terminal that the process does not know."""


@dataclass(frozen=True)
class Written:
    """A file of the training's directory, or what it has grown by."""

    name: str
    """With the folder inside the directory."""
    content: bytes
    is_whole: bool


@dataclass(frozen=True)
class News:
    """What was said and written since the last time."""

    text: str = ""
    files: tuple[Written, ...] = ()

    def put_down(self, directory: Path, console: Console) -> None:
        """Says and writes the same here; files that are replaced are there whole or not at all."""
        for line in self.text.splitlines():
            print_line(console, line)
        for file in self.files:
            path = directory / file.name
            if file.is_whole:
                write_atomically(path, file.content)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("ab") as grown:
                    grown.write(file.content)


class Outbox:
    """Collects news while another thread trains in a directory and speaks through the console."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._said: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._seen = {name: self._version(name) for name in WHOLE}
        self._lengths: dict[str, int] = {}
        self.console = Console(file=self, width=WIDTH, force_terminal=False)  # type: ignore[arg-type]

    def write(self, text: str) -> int:
        """As a file for the console."""
        self._said.put(text)
        return len(text)

    def flush(self) -> None:
        """As a file for the console: nothing is held back."""

    def news(self, patience: float) -> News:
        """What there is, after waiting so many seconds for something to be said. From one thread at a time."""
        return News("".join(self._texts(patience)), (*self._replaced(), *self._grown()))

    def _texts(self, patience: float) -> Iterator[str]:
        try:
            yield self._said.get(timeout=patience) if patience > 0 else self._said.get_nowait()
            while True:
                yield self._said.get_nowait()
        except queue.Empty:
            return

    def _replaced(self) -> Iterator[Written]:
        for name in WHOLE:
            version = self._version(name)
            if version != self._seen[name]:  # one that is replaced now is read now, and once more the next time
                self._seen[name] = version
                yield Written(name, (self._directory / name).read_bytes(), is_whole=True)

    def _version(self, name: str) -> tuple[int, int] | None:
        path = self._directory / name
        if not path.exists():
            return None
        state = path.stat()
        return state.st_ino, state.st_mtime_ns

    def _grown(self) -> Iterator[Written]:
        for path in sorted(self._directory.rglob("*.tfevents.*")):
            name = str(path.relative_to(self._directory))
            with path.open("rb") as file:
                file.seek(self._lengths.get(name, 0))
                content = file.read()
            if content:
                self._lengths[name] = self._lengths.get(name, 0) + len(content)
                yield Written(name, content, is_whole=False)
