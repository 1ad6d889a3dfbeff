"""The state of a supernet's training, and its checkpoint: weights, optimiser and counts.

Batches, networks, depths and permutations of a step depend only on the seed and the step, so that no generator's state
has to be saved.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from sret_nas.arch.config import ArchConfig
from sret_nas.nn.supernet import Supernet
from sret_nas.space.supernet_shape import SupernetShape, nll_recursions

from ..distributed.processes import Processes
from ..training.checkpoint_file import read_checkpoint, require_same, restoring, write_checkpoint
from .config import SupernetConfig, with_current_names
from .step import SupernetStep

CHECKPOINT = "checkpoint.pt"


@dataclass
class Counts:
    """Counts over the training so far."""

    steps: int = 0
    images: int = 0
    """Images read; the networks of a step share its batch."""
    seconds: float = 0.0
    """Time of all steps that the weights contain; steps lost with a killed process do not count."""
    skipped: int = 0
    """Steps that changed nothing because the loss or a gradient was not finite."""
    skipped_in_a_row: int = 0
    updates: Counter[str] = field(default_factory=Counter)
    """Steps that updated each shared block and NLL."""

    def add(self, networks: Sequence[ArchConfig], images: int, loss: float | None, seconds: float) -> None:
        """Counts one step; `loss` is None if the step was skipped."""
        self.steps += 1
        self.images += images
        self.seconds += seconds
        if loss is None:
            self.skipped += 1
            self.skipped_in_a_row += 1
        else:
            self.skipped_in_a_row = 0
            self.updates.update(updated(networks))


class TrainingState:
    """A supernet in training: weights, optimiser, counts."""

    def __init__(
        self, supernet: Supernet, config: SupernetConfig, processes: Processes, temperature: float | None = None
    ) -> None:
        self.supernet = supernet.train()
        self.step = SupernetStep(supernet, config, processes, temperature)
        self.counts = Counts(updates=no_updates(supernet.shape))

    def save(self, directory: Path, identity: dict[str, JsonValue]) -> None:
        """Writes the checkpoint, whole or not at all."""
        content = {
            "identity": json.dumps(identity),
            "supernet": self.supernet.state_dict(),
            "optimizer": self.step.optimizer.state_dict(),
            "counts": {**vars(self.counts), "updates": dict(self.counts.updates)},
        }
        write_checkpoint(directory / CHECKPOINT, content)

    def load(self, directory: Path, identity: dict[str, JsonValue]) -> None:
        """Loads the checkpoint in a directory, if there is one.

        Raises `UserError` if it is another training's, or cannot be read.
        """
        path = directory / CHECKPOINT
        if not path.is_file():
            return
        device = self.supernet.pos_embed.device
        content = read_checkpoint(path, device)
        with restoring(path, "a supernet"):
            require_same_supernet(identity, json.loads(content["identity"]), path)
            self.supernet.load_state_dict(content["supernet"])
            self.step.optimizer.load_state_dict(content["optimizer"])
            counts = content["counts"]
            self.counts = Counts(**{**counts, "updates": Counter(counts["updates"])})


def require_same_supernet(asked: dict[str, Any], found: dict[str, Any], path: Path) -> None:
    """Raises `UserError` naming the first value in which a supernet on disk differs from the requested one.

    Values that earlier versions recorded under other names are renamed first.
    """
    config = found.get("config")
    if isinstance(config, dict):
        found = {**found, "config": with_current_names(config)}
    require_same(asked, found, path)


def block_name(stage: int, block: int) -> str:
    """Returns e.g. `stage 1 block 2`; arguments count from 0, names from 1."""
    return f"stage {stage + 1} block {block + 1}"


def nll_name(stage: int, block: int, recursion: int) -> str:
    return f"{block_name(stage, block)} NLL {recursion + 1}"


def no_updates(shape: SupernetShape) -> Counter[str]:
    """Returns a count of 0 for every shared block and NLL of a supernet."""
    counts: Counter[str] = Counter()
    for index, stage in enumerate(shape.stages):
        for block in range(stage.blocks):
            counts[block_name(index, block)] = 0
            counts.update({nll_name(index, block, recursion): 0 for recursion in stage.nll_recursions})
    return counts


def updated(networks: Iterable[ArchConfig]) -> set[str]:
    """Returns the names of the shared blocks and NLLs that a step with these networks updates."""
    names = set()
    for arch in networks:
        for index, stage in enumerate(arch.stages):
            for block in range(stage.blocks):
                names.add(block_name(index, block))
                names.update(nll_name(index, block, recursion) for recursion in nll_recursions(stage))
    return names
