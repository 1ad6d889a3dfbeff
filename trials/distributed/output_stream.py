"""Streams the printed lines and written files of a task's first process to the driver while the task runs.

The driver polls for updates and applies them: lines appear on its console, files in its directory.
"""

from __future__ import annotations

import queue
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sret_nas.files import write_atomically

from ..console import Console, print_line

APPENDED = "*.tfevents.*"
"""Files that only grow (TensorBoard's), of which only new bytes are sent."""

WIDTH = 120
"""Columns of a line: the process does not know the terminal on which it will appear."""


@dataclass(frozen=True)
class FileUpdate:
    """The new content of a file in the task's directory, or the bytes appended to it."""

    name: str
    """Path relative to the directory."""
    content: bytes
    is_whole: bool


@dataclass(frozen=True)
class Update:
    """The text printed and the files written since the last poll."""

    text: str = ""
    files: tuple[FileUpdate, ...] = ()

    @property
    def has_checkpoint(self) -> bool:
        """Whether a file came whole: a checkpoint, or the result."""
        return any(file.is_whole for file in self.files)

    def apply(self, directory: Path, console: Console) -> None:
        """Prints the text and writes the files here. Replaced files are written whole or not at all."""
        for line in self.text.splitlines():
            print_line(console, line)
        for file in self.files:
            path = directory / file.name
            path.parent.mkdir(parents=True, exist_ok=True)
            if file.is_whole:
                write_atomically(path, file.content)
            else:
                with path.open("ab") as appended:
                    appended.write(file.content)


class OutputStream:
    """Collects updates while another thread works in a directory and prints to `console`.

    `replaced` names files that are replaced as a whole, in the order in which the task writes them. Other files are
    sent only if they match `APPENDED`.
    """

    def __init__(self, directory: Path, replaced: tuple[str, ...] = ()) -> None:
        self._directory = directory
        self._printed: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._versions = {name: self._version(name) for name in replaced}
        self._lengths: dict[str, int] = {}
        self.console = Console(file=self, width=WIDTH, force_terminal=False)  # type: ignore[arg-type]

    def write(self, text: str) -> int:
        """Queues text that the console prints. (The console uses this object as its file.)"""
        self._printed.put(text)
        return len(text)

    def flush(self) -> None:
        """Does nothing: `write` does not buffer."""

    def poll(self, timeout: float) -> Update:
        """Returns the new text and files, after waiting up to `timeout` seconds for a line.

        Must not be called by two threads at once.
        """
        # Read in the reverse order of writing and applied in the order of writing: a checkpoint then never arrives
        # before the networks that were written before it.
        return Update("".join(self._texts(timeout)), (*reversed(list(self._replaced())), *self._appended()))

    def _texts(self, timeout: float) -> Iterator[str]:
        try:
            yield self._printed.get(timeout=timeout) if timeout > 0 else self._printed.get_nowait()
            while True:
                yield self._printed.get_nowait()
        except queue.Empty:
            return

    def _replaced(self) -> Iterator[FileUpdate]:
        for name, last in reversed(self._versions.items()):
            version = self._version(name)
            if version in (None, last):
                continue
            try:
                content = (self._directory / name).read_bytes()
            except FileNotFoundError:  # its folder is being replaced: it comes with the next poll
                continue
            self._versions[name] = version  # a file that was replaced meanwhile is sent again at the next poll
            yield FileUpdate(name, content, is_whole=True)

    def _version(self, name: str) -> tuple[int, int] | None:
        path = self._directory / name
        if not path.exists():
            return None
        state = path.stat()
        return state.st_ino, state.st_mtime_ns

    def _appended(self) -> Iterator[FileUpdate]:
        for path in sorted(self._directory.rglob(APPENDED)):
            name = str(path.relative_to(self._directory))
            with path.open("rb") as file:
                file.seek(self._lengths.get(name, 0))
                content = file.read()
            if content:
                self._lengths[name] = self._lengths.get(name, 0) + len(content)
                yield FileUpdate(name, content, is_whole=False)
