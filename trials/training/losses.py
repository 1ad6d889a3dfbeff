"""Losses: cross-entropy with true labels, and with the soft labels of a teacher."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def soft_cross_entropy(student: Tensor, teacher: Tensor) -> Tensor:
    """Returns the mean cross-entropy (nats) of logits (B, classes) with a teacher's logits (B, classes) as labels."""
    return -(teacher.softmax(dim=1) * student.log_softmax(dim=1)).sum(dim=1).mean()


def taught_cross_entropy(logits: Tensor, probabilities: Tensor, temperature: float) -> Tensor:
    """Returns the mean cross-entropy (nats) of logits (B, classes) with a teacher's probabilities (B, classes).

    Logits are divided by the temperature, as the teacher's were. It is not multiplied by its square, because there is
    no second term to balance (Shen et al., SReT, section 4.3).
    """
    return F.cross_entropy(logits / temperature, probabilities)


def hard_cross_entropy(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Returns the mean cross-entropy (nats) of logits (B, classes) with smoothed true labels (B,)."""
    return F.cross_entropy(logits, labels, label_smoothing=smoothing)


def smoothed_probabilities(targets: Tensor, classes: int, smoothing: float) -> Tensor:
    """Returns smoothed probabilities (B, classes) of classes (B,); targets of mixed images are that already."""
    if targets.ndim == 2:
        return targets
    return F.one_hot(targets, classes).float() * (1 - smoothing) + smoothing / classes
