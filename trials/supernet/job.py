"""A supernet's training as a thing to hand on: to this process, or to processes on other machines."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from ..console import Console
from ..data import PreparedData
from ..distributed.processes import Processes
from ..distributed.task import Measurement
from ..training.devices import compute_with
from .spec import TrainingSpec
from .speed import MEASURED_STEPS, seconds_per_step
from .state import CHECKPOINT
from .training import SUPERNET, SupernetTraining, train_supernet


@dataclass(frozen=True, kw_only=True)
class TrainingJob(TrainingSpec):
    """The `Task` of training a supernet: what is trained, and how. Every process of a training has the same."""

    checkpoint_name: ClassVar[str] = CHECKPOINT
    result_name: ClassVar[str] = SUPERNET
    data_dir: Path
    """Of the prepared images, absolute, on the machine from where the training is started."""
    device: str
    threads: int

    def images(self, at: Path | None = None) -> PreparedData:
        """Returns the prepared images, read from `at` if given, which is not what records will say."""
        return replace(PreparedData.open(at or self.data_dir), directory=self.data_dir)

    def train(self, directory: Path, console: Console, data_dir: Path | None = None) -> Path:
        """Trains in a directory and returns the supernet's file; raises what `train_supernet` does."""
        return train_supernet(
            directory, self, self.images(data_dir), device=self.device, threads=self.threads, console=console
        )

    def measure(self, processes: Processes, data_dir: Path | None = None) -> Measurement:
        """Takes a few steps, on weights that are thrown away. Writes nothing."""
        data, length = self.images(data_dir), self.config.training
        images = MEASURED_STEPS * min(length.batch_size, len(data.train))
        config = self.config.model_copy(update={"training": length.model_copy(update={"images": images})})
        compute_with(self.threads)
        training = SupernetTraining(Path(), replace(self, config=config), data, processes)
        parameters = sum(parameter.numel() for parameter in training.state.supernet.parameters())
        return Measurement(parameters, seconds_per_step(training))
