"""The state of a whole training, and its checkpoint: weights, their moving average, optimiser and counts.

Views, mixing, depths, permutations and drop path of a step depend on the seed and the step alone, so no generator's
state has to be saved.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import JsonValue
from timm.loss import create_classification_loss
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.task import ClassificationTask
from torch import Tensor

from sret_nas.errors import UserError
from sret_nas.nn.model_directory import ModelInfo, is_model_directory, read_model
from sret_nas.nn.network import SReT

from .checkpoint_file import read_checkpoint, require_same, restoring, write_checkpoint
from .full_recipe import Recipe
from .losses import soft_cross_entropy
from .train import parameter_groups

CHECKPOINT = "checkpoint.pt"


class DepthTask(ClassificationTask):
    """timm's task of classification, at a recursion depth of each call."""

    temperature: float = 1.0
    """By which logits are divided, as the teacher's were."""

    def forward(  # type: ignore[override]
        self, images: Tensor, targets: Tensor, depth: int, deepest: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Returns `loss` and `output` (logits) of images (B, C, H, W) at a recursion depth.

        Args:
            images: (B, C, H, W).
            targets: classes (B,), or probabilities (B, classes) if images are mixed or a teacher labels them.
            depth: the largest number of recursions of a stage.
            deepest: logits (B, classes) of the deepest pass, without a gradient, whose probabilities then take the
                place of the targets; None if it does not teach this pass.
        """
        logits = self.trainable_module(images, max_recursions=depth).float()
        if deepest is None:
            loss = self.criterion(logits / self.temperature, targets)
        else:
            loss = soft_cross_entropy(logits / self.temperature, deepest / self.temperature)
        return {"loss": loss, "output": logits}


@dataclass
class Counts:
    """Counts over the training so far."""

    steps: int = 0
    images: int = 0
    """Images seen, of all processes together; the depths of a step share its batch."""
    seconds: float = 0.0
    """Time of all steps that the weights contain; steps lost with a killed process do not count."""
    skipped: int = 0
    """Steps that changed nothing because the loss or a gradient was not finite."""
    skipped_in_a_row: int = 0
    validated_epochs: int = 0
    """The last epoch after which the network was validated."""
    best_error: float | None = None
    """Smallest validation error so far, at the end of `best_epoch`."""
    best_epoch: int = 0
    loss_sum: float = 0.0
    """Sum of the losses since the last validation, over `loss_steps` steps that were not skipped."""
    loss_steps: int = 0
    epochs: list[dict[str, Any]] = field(default_factory=list)
    """What was measured after each epoch that ended with a validation, as `metrics.jsonl` has it."""


class FullState:
    """A network in training: weights, moving average, optimiser, schedule of the learning rate, counts."""

    def __init__(
        self, network: SReT, recipe: Recipe, batch_size: int, steps_per_epoch: int, temperature: float | None = None
    ) -> None:
        """Prepares a training.

        Args:
            network: with its initial weights.
            recipe: how it is trained.
            batch_size: images of a step.
            steps_per_epoch: steps of an epoch.
            temperature: of a teacher's probabilities, which then are the only labels; None without a teacher.
        """
        self.network = network.train()
        device = network.pos_embed.device
        is_soft = recipe.mixes or temperature is not None
        criterion = create_classification_loss(
            smoothing=0.0 if is_soft else recipe.label_smoothing, soft_targets=is_soft
        )
        self.task = DepthTask(network, criterion, device=device, verbose=False)
        self.task.temperature = temperature or 1.0
        if recipe.ema_decay is not None:
            self.task.setup_ema(decay=recipe.ema_decay, use_warmup=recipe.ema_warmup)
        if recipe.compile:
            self.task.compile()
        rate = recipe.peak_learning_rate(batch_size)
        # fused: one pass over the parameters instead of a dozen; see benchmarks/NOTES.md
        arguments: dict[str, Any] = {"fused": True} if recipe.optimizer in ("adamw", "sgd") else {}
        groups = parameter_groups(network, recipe.weight_decay)
        self.optimizer = create_optimizer_v2(groups, opt=recipe.optimizer, lr=rate, **arguments)
        self.scheduler, _ = create_scheduler_v2(
            self.optimizer,
            sched=recipe.schedule,
            num_epochs=recipe.epochs,
            min_lr=min(recipe.min_learning_rate, rate),
            warmup_lr=min(recipe.warmup_learning_rate, rate),
            warmup_epochs=recipe.warmup_epochs,  # type: ignore[arg-type]  # part of an epoch is fine
            decay_rate=1.0,  # the power of `poly`
            step_on_epochs=False,
            updates_per_epoch=steps_per_epoch,
        )
        self.counts = Counts()

    @property
    def averaged(self) -> SReT | None:
        """The network with the moving average of all weights; None without one."""
        ema = self.task.get_trainable_module(ema=True)
        if ema is None:
            return None
        assert isinstance(ema.module, SReT)
        return ema.module

    @property
    def evaluated(self) -> SReT:
        """The network that is validated and kept: with averaged weights, if there are any."""
        return self.averaged or self.network

    @property
    def learning_rate(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def save(self, path: Path, identity: dict[str, JsonValue]) -> None:
        """Writes the checkpoint, whole or not at all."""
        averaged = self.averaged
        content = {
            "identity": json.dumps(identity),
            "network": self.network.state_dict(),
            "averaged": None if averaged is None else averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "counts": json.dumps(asdict(self.counts)),
        }
        write_checkpoint(path, content)

    def load(self, path: Path, identity: dict[str, JsonValue]) -> bool:
        """Loads a checkpoint if it exists, and returns whether it does.

        Raises `UserError` if it is another training's, or cannot be read.
        """
        if not path.is_file():
            return False
        content = read_checkpoint(path, self.network.pos_embed.device)
        with restoring(path, "this training"):
            require_same(identity, json.loads(content["identity"]), path)
            self.network.load_state_dict(content["network"])
            averaged = self.averaged
            if averaged is not None:
                averaged.load_state_dict(content["averaged"])
            self.optimizer.load_state_dict(content["optimizer"])
            self.counts = Counts(**json.loads(content["counts"]))
        return True

    def forget_lost_best(self, directory: Path, say: Callable[[str], None]) -> None:
        """Lets the best of the epochs that are left be the best one, if the best weights so far are gone, and says so.

        They are after a run directory was lost, of which only the checkpoint could be kept.
        """
        counts = self.counts
        if counts.best_epoch and not is_model_directory(directory):
            say(f"note: {directory}, the weights of epoch {counts.best_epoch}, is gone: the best of the epochs from "
                "here on takes its place")  # fmt: skip
            counts.best_error, counts.best_epoch = None, 0

    def read_best(self, directory: Path) -> tuple[SReT, ModelInfo]:
        """Returns the best network of the training, from its directory. Raises `UserError` if it cannot be read."""
        if not is_model_directory(directory):
            raise UserError(
                f"{directory}: the best weights, those of epoch {self.counts.best_epoch}, are gone: put the folder "
                f"back and resume the training, or delete {directory.parent / CHECKPOINT} to start anew"
            )
        return read_model(directory)
