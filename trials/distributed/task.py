"""Task protocol: a training that several processes run together, as launchers see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from ..console import Console
from ..engines.file_transfer import KeyPath, Payload
from ..training.recipe import Precision

if TYPE_CHECKING:  # which imports torch
    from .processes import Processes


@dataclass(frozen=True)
class Measurement:
    """The size of a task and the speed of a few of its steps."""

    parameters: int
    """Trained parameters."""
    seconds_per_step: float
    precision: Precision = "fp32"
    """Precision of these steps, chosen on the device where they ran."""


class Task(Protocol):
    """A training. It is pickled for processes on other machines, and is equal in all of them."""

    checkpoint_name: ClassVar[str]
    """File in its directory from which it resumes."""
    result_name: ClassVar[str]
    """File in its directory that exists once the task has ended."""

    output_names: ClassVar[tuple[str, ...]]
    """Further files in its directory that it replaces as a whole, relative to it. A resumed task finds them there."""

    @property
    def inputs(self) -> Payload:
        """The absolute paths of the files that travel with the task, named as in jobs; empty if none travel.

        Files that do not travel are read at the same path on every machine.
        """

    def train(self, directory: Path, console: Console, here: Mapping[KeyPath, Path] | None = None) -> Path:
        """Starts or resumes the training in a directory, and returns the result's file.

        Args:
            directory: for the checkpoint and the result.
            console: for progress.
            here: copies of `inputs` on this machine, by their key paths, if they are to be read in their place.

        Raises `UserError` if the directory holds another task, and `KeyboardInterrupt`, after a checkpoint, if
        interrupted.
        """

    def measure(self, processes: Processes, here: Mapping[KeyPath, Path] | None = None) -> Measurement:
        """Times a few steps, and discards their result. Raises `UserError` if it cannot run in these processes."""
