"""One training step of a supernet: gradients of one or more networks on a batch, and one update."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sret_nas.arch.config import ArchConfig
from sret_nas.nn.supernet import Supernet

from ..distributed.processes import Processes
from ..training.losses import hard_cross_entropy, soft_cross_entropy, taught_cross_entropy
from ..training.optimizer import adamw
from ..training.precision import passes_in
from ..training.train import parameter_groups
from .config import SupernetConfig


class SupernetStep:
    """Updates a supernet in place. Weights that no network of a step uses are neither updated nor decayed."""

    def __init__(
        self, supernet: Supernet, config: SupernetConfig, processes: Processes, temperature: float | None = None
    ) -> None:
        """Prepares the steps of a training.

        Args:
            supernet: with its initial weights.
            config: how it is trained.
            processes: those that share each batch.
            temperature: of a teacher's probabilities, which then are the labels; None if these are classes.
        """
        self._temperature = temperature
        self._supernet, self._config, self._processes = supernet, config, processes
        training = config.training
        self.optimizer = adamw(parameter_groups(supernet, training.weight_decay), training.learning_rate)
        self._parameters = list(supernet.parameters())
        self._precision = config.precision_on(processes.device.type)

    def __call__(
        self, networks: Sequence[ArchConfig], images: Tensor, labels: Tensor, learning_rate: float
    ) -> float | None:
        """Trains networks on one batch and returns their mean loss.

        Returns None, and leaves the weights unchanged, if the loss or a gradient is not finite.

        Args:
            networks: the networks; if the configuration says that one teaches, the first one does.
            images: (B, channels, H, W), this process's shard of the batch.
            labels: classes (B,), or a teacher's probabilities (B, classes).
            learning_rate: of this step.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.zero_grad(set_to_none=True)  # the optimiser skips weights whose gradient is None
        loss = self._gradients(networks, images, labels)
        used = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        self._processes.average([*used, loss])
        norm = nn.utils.clip_grad_norm_(self._parameters, self._config.training.clip_norm)
        # Both numbers at once, because each transfer from a GPU waits for all its work.
        loss_value, norm_value = torch.stack((loss, norm)).tolist()
        if not math.isfinite(loss_value) or not math.isfinite(norm_value):
            return None
        self.optimizer.step()
        return float(loss_value)

    def _gradients(self, networks: Sequence[ArchConfig], images: Tensor, labels: Tensor) -> Tensor:
        """Accumulates the gradients of the mean loss over networks and microbatches, and returns that loss."""
        total = torch.zeros((), device=images.device)
        microbatches = list(
            zip(
                images.tensor_split(self._config.gradient_accumulation),
                labels.tensor_split(self._config.gradient_accumulation),
                strict=True,
            )
        )
        for inputs, targets in microbatches:
            teacher: Tensor | None = None
            for network in networks:
                logits = self._logits(inputs, network)
                loss = self._loss(logits, targets, teacher) * (len(targets) / len(labels) / len(networks))
                loss.backward()  # type: ignore[no-untyped-call]
                total += loss.detach()
                if self._config.distils and teacher is None:
                    teacher = logits.detach()
        return total

    def _logits(self, images: Tensor, network: ArchConfig) -> Tensor:
        with passes_in(self._precision, images.device):
            logits: Tensor = self._supernet(images, network)
        return logits.float()  # softmax and loss in fp32, whose range and precision they need

    def _loss(self, logits: Tensor, labels: Tensor, teacher: Tensor | None) -> Tensor:
        if teacher is not None:
            return soft_cross_entropy(logits, teacher)
        if self._temperature is not None:
            return taught_cross_entropy(logits, labels, self._temperature)
        return hard_cross_entropy(logits, labels, self._config.training.label_smoothing)
