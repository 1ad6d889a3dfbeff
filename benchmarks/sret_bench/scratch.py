"""The table of trainings from scratch: long ones, scored on their way, and short ones with schedules of their own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.sret_bench.chosen import Chosen
from benchmarks.sret_bench.inherited import network_fields
from benchmarks.sret_bench.setting import Setting
from benchmarks.sret_bench.tables import Table
from trials.data import PreparedData
from trials.training.recipe import proxy_arch

KEY = "schedule_images", "cost", "structure", "seed", "images"

STEPS_AT_ONCE = 50
"""Steps between two looks at the clock."""


@dataclass(frozen=True)
class Training:
    """One training: a network, a seed, the length of its schedule, and the lengths at which it is scored."""

    chosen: Chosen
    seed: int
    lengths: tuple[int, ...]

    @property
    def name(self) -> str:
        network = f"cost{self.chosen.cost_position}-{self.chosen.structure}"
        return f"{network}-seed{self.seed}-{self.lengths[-1]}"

    def key(self, images: int) -> tuple[int, int, str, int, int]:
        return self.lengths[-1], self.chosen.cost_position, self.chosen.structure, self.seed, images


def trainings(setting: Setting, chosen: list[Chosen]) -> Iterator[Training]:
    """Yields the trainings of a first seed: each network's short ones follow its long one."""
    for network in chosen:
        yield Training(network, 0, setting.lengths)
        for length in setting.short_lengths:
            yield Training(network, 0, (length,))


def repeats(setting: Setting, chosen: list[Chosen]) -> Iterator[Training]:
    """Yields the trainings of a second seed, spread over costs and structures."""
    step = max(1, len(chosen) // setting.num_repeated)
    # One more than a multiple of the structures apart, so that all structures occur.
    for index in range(setting.num_repeated):
        yield Training(chosen[(index * (step + (step % 3 == 0))) % len(chosen)], 1, setting.lengths)


def run(setting: Setting, training: Training, data: PreparedData, work: Path, table: Table) -> None:
    """Trains what is left of a training, from its last checkpoint on, and appends every score to the table."""
    import torch

    from sret_nas.nn.network import SReT
    from trials.training.checkpoint import load_checkpoint, save_checkpoint
    from trials.training.train import Training as NetworkTraining
    from trials.training.train import recalibrate_batch_norm, score

    done = table.done
    if all(training.key(images) in done for images in training.lengths):
        return
    schedule_images, seed = training.lengths[-1], training.seed
    proxy = setting.proxy(schedule_images)
    arch = proxy_arch(training.chosen.arch, proxy, channels=data.channels, classes=data.num_classes)
    torch.manual_seed(seed)
    config, precision = setting.training(schedule_images), setting.precision
    state = NetworkTraining(SReT(arch), data, config, "full", seed, precision)
    identity = {
        "training": training.name, "network": arch.arch_id, "recipe": config.model_dump(mode="json"),
        "precision": precision, "data": data.digest,
    }  # fmt: skip
    checkpoint = work / "scratch" / f"{training.name}.pt"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    load_checkpoint(checkpoint, state, identity, state.steps)
    cpu_seconds = state.seconds  # the clock of the training: kept in its checkpoint, in CPU seconds
    saved = time.monotonic()
    for images in training.lengths:
        end = state.steps if images == schedule_images else images // setting.batch_size
        while len(state.losses) < end:
            started = time.process_time()
            state.run(min(end, len(state.losses) + STEPS_AT_ONCE))
            cpu_seconds += time.process_time() - started
            state.seconds = cpu_seconds
            if time.monotonic() - saved > setting.checkpoint_seconds:
                save_checkpoint(checkpoint, state, identity)
                saved = time.monotonic()
        if len(state.losses) > end or training.key(images) in done:
            continue
        # This changes buffers of the stem alone, which training does not read.
        recalibrate_batch_norm(state.network, data.train, setting.score_batch_size, precision=precision)
        val = score(state.network, data.val, setting.score_batch_size, precision=precision)
        line = {
            "schedule_images": schedule_images, "cost": training.chosen.cost_position,
            "structure": training.chosen.structure, "seed": seed, "images": images,
            **network_fields(training.chosen.arch), "predicted_error": training.chosen.predicted_error,
            "error": round(val.error, 6), "cross_entropy": round(val.cross_entropy, 6),
        }  # fmt: skip
        if images == schedule_images:
            test = score(state.network, data.test, setting.score_batch_size, precision=precision)
            line |= {"test_error": round(test.error, 6), "test_cross_entropy": round(test.cross_entropy, 6)}
        recent = state.losses[-max(1, len(state.losses) // 10) :]
        line |= {"train_loss": round(sum(recent) / len(recent), 5), "cpu_seconds": round(cpu_seconds, 1)}
        table.append(line)
    checkpoint.unlink(missing_ok=True)
