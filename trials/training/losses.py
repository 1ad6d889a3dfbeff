"""Losses: cross-entropy with true labels, and with the soft labels of a teacher."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def soft_cross_entropy(student: Tensor, teacher: Tensor) -> Tensor:
    """Returns the mean cross-entropy (nats) of logits (B, classes) with a teacher's logits (B, classes) as labels."""
    return -(teacher.softmax(dim=1) * student.log_softmax(dim=1)).sum(dim=1).mean()


def hard_cross_entropy(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Returns the mean cross-entropy (nats) of logits (B, classes) with smoothed true labels (B,)."""
    return F.cross_entropy(logits, labels, label_smoothing=smoothing)
