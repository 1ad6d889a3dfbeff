"""Trains a supernet, from the first step or the last checkpoint to its file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue
from torch import Tensor

from sret_nas.errors import UserError
from sret_nas.nn.shared_weights import pool_shapes
from sret_nas.nn.supernet import Supernet
from sret_nas.nn.weight_shapes import supernet_shapes
from sret_nas.plurals import counted
from sret_nas.space.supernet_shape import SupernetShape, bounding_shape

from ..console import Console
from ..data import PreparedData
from ..distributed.processes import Processes, process_group
from ..interruption import StepAborted, defer_interrupts
from ..lost_directory import WatchedDirectory, rescue
from ..runs.directory import SUPERNET
from ..seeds import seed_from
from ..training.devices import compute_with, device_memory, release_memory
from ..training.memory import require_memory
from ..training.prepared_batches import endless_batches
from ..training.recipe import DivergedError
from ..training.train import learning_rate_factor
from .config import SupernetConfig
from .monitor import Monitor, NullMonitor, WatchedSubnets
from .networks import StepNetworks
from .spec import TrainingSpec
from .state import TrainingState, require_same_supernet

CHECKPOINT_SECONDS = 60.0
"""Between two checkpoints, the most work that a killed process loses."""

MAX_SKIPPED = 10
"""Steps in a row without a finite loss or gradient after which a training fails."""


def train_supernet(
    directory: Path, spec: TrainingSpec, data: PreparedData, *, device: str, threads: int, console: Console
) -> Path:
    """Trains a supernet and returns its file.

    Continues from the checkpoint in `directory`, or returns at once if the file exists. On the CPU, with the same
    number of threads and processes, a training that was killed and continued ends in the same weights, bit for bit, as
    an uninterrupted one. Under torchrun, every process takes its shard of each batch. Seeds torch's global generator.

    Raises `UserError` if `directory` holds another training, `BudgetError` if no network is inside the budget,
    `DivergedError` if losses are not finite for `MAX_SKIPPED` steps in a row, and `KeyboardInterrupt`, after a
    checkpoint, if interrupted.
    """
    path = directory / SUPERNET
    identity = spec.identity(data)
    with process_group(device) as processes:
        if path.is_file():
            require_same_supernet(identity, Supernet.load(path)[1], path)
            return path
        compute_with(threads)
        training = SupernetTraining(directory, spec, data, processes)
        state = training.run(identity, console)
        if processes.is_first:
            training.require_directory(identity)
            state.supernet.save(path, training_record(spec, data, state, identity))
        processes.wait()
    del training, state
    release_memory()  # this process may be a search's driver, whose workers need it now
    return path


def training_record(
    spec: TrainingSpec, data: PreparedData, state: TrainingState, identity: dict[str, JsonValue]
) -> dict[str, Any]:
    """Returns the data about the training that a supernet's file holds."""
    return {
        **identity,
        "config": spec.config.model_dump(mode="json"),
        "proxy": spec.proxy.model_dump(mode="json"),
        "space": spec.space.to_dict(),
        "data": asdict(data.config),
        "prepared": str(data.directory.absolute()),
        **{**vars(state.counts), "updates": dict(state.counts.updates)},
    }


class SupernetTraining:
    """The training loop: networks, batch and step, with progress and checkpoints."""

    def __init__(self, directory: Path, spec: TrainingSpec, data: PreparedData, processes: Processes) -> None:
        self._directory, self._config, self._data, self._seed = directory, spec.config, data, spec.seed
        self._watched: WatchedDirectory | None = None
        self.processes = processes
        self.steps = spec.config.training.num_steps(len(data.train))
        self._labels = None if spec.soft_labels is None else spec.soft_labels.open(data)
        self._batch_size = min(spec.config.training.batch_size, len(data.train))
        check_shards(self._batch_size, spec.config, processes.world_size)
        adapted = spec.proxy_maker(data)
        self.networks = StepNetworks(spec.space, spec.budget, spec.config, adapted, spec.seed)
        shape = bounding_shape(spec.space, adapted=adapted)
        _require_memory(shape, spec.space.name, processes.device)
        torch.manual_seed(spec.seed)
        supernet = Supernet(shape).to(processes.device)
        temperature = None if self._labels is None else self._labels.temperature
        self.state = TrainingState(supernet, spec.config, processes, temperature)

    def run(self, identity: dict[str, JsonValue], console: Console) -> TrainingState:
        """Runs the remaining steps. Writes a checkpoint every `CHECKPOINT_SECONDS`, on Ctrl-C, and at the end.

        Raises `LostDirectoryError`, after a checkpoint beside it, if the directory is deleted, moved or replaced.
        """
        if self.processes.is_first:
            self._watched = WatchedDirectory(self._directory)
        self.state.load(self._directory, identity)
        with self._monitor(console) as monitor, defer_interrupts() as interruptions:
            try:
                self._run_steps(monitor, interruptions, identity)
                self._save(identity)
                monitor.finished()
                if interruptions:
                    raise KeyboardInterrupt
            except StepAborted:  # the step is half done, and no checkpoint may hold its weights
                raise
            except KeyboardInterrupt:  # raised between two steps, so the weights are consistent
                self._save(identity)
                raise
        return self.state

    def _monitor(self, console: Console) -> Monitor | NullMonitor:
        if not self.processes.is_first:
            return NullMonitor()
        config = self._config
        precision = config.precision_on(self.processes.device.type)
        watched = WatchedSubnets(self.networks, self._data, config.training.batch_size, precision)
        return Monitor(self._directory, self.state, watched, self.steps, console)

    def _run_steps(
        self, monitor: Monitor | NullMonitor, interruptions: list[int], identity: dict[str, JsonValue]
    ) -> None:
        stream = self.batches(self.state.counts.steps)
        saved = time.monotonic()
        while self.state.counts.steps < self.steps:
            monitor.step_done(self.train_step(*next(stream)))
            # All processes must stop after the same step, or those that go on would wait for the others for ever.
            if self.processes.any(bool(interruptions)):
                raise KeyboardInterrupt
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                self._save(identity)
                saved = time.monotonic()

    def train_step(self, images: Tensor, labels: Tensor) -> float | None:
        """Takes the next step, on this process's shard of its batch. Returns the loss, or None if it was skipped.

        Raises `DivergedError` if `MAX_SKIPPED` steps in a row were skipped.
        """
        started = time.perf_counter()
        state, training, device = self.state, self._config.training, self.processes.device
        step = state.counts.steps
        networks = self.networks.of_step(step, self.steps)
        rate = training.learning_rate * learning_rate_factor(step, self.steps, training.warmup_share)
        # permutations and stochastic depth, the same in all processes
        torch.manual_seed(seed_from(f"supernet {self._seed}/{step}"))
        loss = state.step(networks, images.to(device), labels.to(device), rate)
        state.counts.add(networks, self._batch_size, loss, time.perf_counter() - started)
        if state.counts.skipped_in_a_row >= MAX_SKIPPED:
            raise DivergedError(
                f"the loss or a gradient was not finite in {MAX_SKIPPED} steps in a row, up to step {step + 1} of "
                f"{self.steps}, at a learning rate of {rate:.3g} (peak {training.learning_rate:g}): lower the rate"
            )
        return loss

    def batches(self, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Returns this process's shard of the batches from step `first` on, without end."""
        shard = (self.processes.rank, self.processes.world_size)
        return endless_batches(
            self._data.train, self._labels, batch_size=self._batch_size, seed=self._seed, first=first, shard=shard
        )

    def _save(self, identity: dict[str, JsonValue]) -> None:
        self._data.require_unchanged()  # a checkpoint from before is worth more than one of other images
        if self.processes.is_first:
            self.require_directory(identity)
            self.state.save(self._directory, identity)

    def require_directory(self, identity: dict[str, JsonValue]) -> None:
        """Raises `LostDirectoryError`, after a checkpoint beside it, if the directory is not there any more."""
        if self._watched is not None and self._watched.is_lost:
            raise rescue(self._directory, lambda folder: self.state.save(folder, identity))


def _require_memory(shape: SupernetShape, name: str, device: torch.device) -> None:
    """Raises `UserError` if a supernet has too many filters to count, or cannot be trained in the device's memory."""
    advice = "use a space with smaller networks, or search with --no-supernet"
    what, memory = f"the supernet of {name}", device_memory(device)
    num_params = sum(prod(weight) for _, weight in supernet_shapes(shape))
    require_memory(num_params, memory, what, advice)
    num_params += sum(prod(weight) for _, weight in pool_shapes(shape, name))
    require_memory(num_params, memory, what, advice)


def check_shards(batch_size: int, config: SupernetConfig, world_size: int) -> None:
    """Raises `UserError` unless a batch splits into equal shards of at least 2 images per pass."""
    if batch_size % world_size:
        raise UserError(
            f"batch_size must be a multiple of the {world_size} processes, got {counted(batch_size, 'image')} a batch"
        )
    if batch_size // world_size // config.gradient_accumulation < 2:
        parts = config.gradient_accumulation
        raise UserError(
            "every process must see at least 2 images at a time, which BatchNorm needs, got a batch of "
            f"{batch_size} for {world_size} processes with --gradient-accumulation {parts}"
        )
