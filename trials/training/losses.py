"""What a subnet learns from the largest network's soft labels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def soft_cross_entropy(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean cross-entropy (nats) of logits (B, classes) under the probabilities of a teacher's logits (B, classes)."""
    return -(teacher.softmax(dim=1) * student.log_softmax(dim=1)).sum(dim=1).mean()


def hard_cross_entropy(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Mean cross-entropy (nats) of logits (B, classes) under smoothed true labels (B,)."""
    return F.cross_entropy(logits, labels, label_smoothing=smoothing)
