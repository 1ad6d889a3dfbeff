"""What several processes do together, as far as those who start and watch them know it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from ..console import Console

if TYPE_CHECKING:  # which imports torch
    from .processes import Processes


@dataclass(frozen=True)
class Measurement:
    """What a few steps of a task showed."""

    parameters: int
    """Of what is trained."""
    seconds_per_step: float


class Task(Protocol):
    """A training. It is pickled for processes on other machines, and is the same in all of them."""

    checkpoint_name: ClassVar[str]
    """File in its directory from which it carries on."""
    result_name: ClassVar[str]
    """File in its directory that is there once the task has ended."""

    @property
    def data_dir(self) -> Path:
        """The folder of files that it reads, absolute, on the machine from where it is started."""

    def train(self, directory: Path, console: Console, data_dir: Path | None = None) -> Path:
        """Trains, or carries on, in a directory, and returns the result's file.

        Reads the files of `self.data_dir` from `data_dir`, if given: a copy on this machine. Raises `UserError` if the
        directory holds another task, and `KeyboardInterrupt`, after a checkpoint, if interrupted.
        """

    def measure(self, processes: Processes, data_dir: Path | None = None) -> Measurement:
        """Takes a few steps, which leave nothing. Raises `UserError` if the task cannot run in these processes."""
