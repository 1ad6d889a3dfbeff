"""A supernet's training as a thing to hand on: to this process, or to processes on other machines."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from trials.console import Console
from trials.data import PreparedData
from trials.distributed.processes import Processes
from trials.supernet.spec import TrainingSpec
from trials.supernet.speed import MEASURED_STEPS, seconds_per_step
from trials.supernet.training import SupernetTraining, train_supernet
from trials.training.devices import compute_with


@dataclass(frozen=True)
class Measurement:
    """What a few steps told of a training."""

    parameters: int
    """Of the supernet."""
    seconds_per_step: float


@dataclass(frozen=True, kw_only=True)
class TrainingJob(TrainingSpec):
    """What is trained, and with what; every process of a training has the same."""

    data_dir: Path
    """Of the prepared images, absolute, on the machine from where the training is started."""
    device: str
    threads: int

    def images(self, at: Path | None = None) -> PreparedData:
        """The prepared images, read from `at` if this machine has them there; it is not what records will say."""
        return replace(PreparedData.open(at or self.data_dir), directory=self.data_dir)

    def train(self, directory: Path, data: PreparedData, console: Console) -> Path:
        """Trains in a directory and returns the supernet's file; raises what `train_supernet` does."""
        return train_supernet(directory, self, data, device=self.device, threads=self.threads, console=console)

    def measure(self, data: PreparedData, processes: Processes) -> Measurement:
        """A few steps of it, on weights that are thrown away. Writes nothing."""
        length = self.config.training
        images = MEASURED_STEPS * min(length.batch_size, len(data.train))
        config = self.config.model_copy(update={"training": length.model_copy(update={"images": images})})
        compute_with(self.threads)
        training = SupernetTraining(Path(), replace(self, config=config), data, processes)
        parameters = sum(parameter.numel() for parameter in training.state.supernet.parameters())
        return Measurement(parameters, seconds_per_step(training))
