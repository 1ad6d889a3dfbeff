"""A supernet's training as a `Task`, which launchers run in this process or on other machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from ..console import Console
from ..data import PreparedData
from ..distributed.processes import Processes
from ..distributed.task import Measurement
from ..engines.file_transfer import DATA_DIR, SOFT_LABELS, KeyPath, Payload
from ..runs.directory import SUPERNET
from ..training.devices import compute_with
from ..training.precision import choose_precision
from .spec import TrainingSpec
from .speed import MEASURED_STEPS, seconds_per_step
from .state import CHECKPOINT
from .training import SupernetTraining, train_supernet


@dataclass(frozen=True, kw_only=True)
class TrainingJob(TrainingSpec):
    """The `Task` of training a supernet. It is the same in all processes of the training."""

    checkpoint_name: ClassVar[str] = CHECKPOINT
    output_names: ClassVar[tuple[str, ...]] = ()
    result_name: ClassVar[str] = SUPERNET
    data_dir: Path
    """Absolute folder of the prepared images on the machine where the training is started."""
    device: str
    threads: int

    @property
    def inputs(self) -> Payload:
        labels = None if self.soft_labels is None else {"path": self.soft_labels.path}
        return {"data_dir": str(self.data_dir), "soft_labels": labels}

    def images(self, local_dir: Path | None = None) -> PreparedData:
        """Returns the prepared images, read from `local_dir` if given. Records will still name `data_dir`."""
        return replace(PreparedData.open(local_dir or self.data_dir), directory=self.data_dir)

    def train(self, directory: Path, console: Console, here: Mapping[KeyPath, Path] | None = None) -> Path:
        """Trains in a directory and returns the supernet's file. Raises as `train_supernet` does."""
        spec, data = self._at(here or {})
        return train_supernet(directory, spec, data, device=self.device, threads=self.threads, console=console)

    def _at(self, here: Mapping[KeyPath, Path]) -> tuple[TrainingJob, PreparedData]:
        """Returns the training that reads copies of its files, by their key paths, and its images."""
        labels = self.soft_labels
        if labels is not None and SOFT_LABELS in here:
            labels = labels.model_copy(update={"path": str(here[SOFT_LABELS])})
        return replace(self, soft_labels=labels), self.images(here.get(DATA_DIR))

    def measure(self, processes: Processes, here: Mapping[KeyPath, Path] | None = None) -> Measurement:
        """Times a few steps of a short training, whose weights are discarded. Writes nothing."""
        (spec, data), whole = self._at(here or {}), self.config.training
        images = MEASURED_STEPS * min(whole.batch_size, len(data.train))
        precision = choose_precision(self.config.precision, processes.device)
        shortened = whole.model_copy(update={"images": images})
        config = self.config.model_copy(update={"training": shortened, "precision": precision})
        compute_with(self.threads)
        training = SupernetTraining(Path(), replace(spec, config=config), data, processes)
        parameters = sum(parameter.numel() for parameter in training.state.supernet.parameters())
        return Measurement(parameters, seconds_per_step(training), precision)
