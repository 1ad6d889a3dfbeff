"""What a subnet learns from the largest network's soft labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

ALPHAS = (-1.0, 1.0)
"""Orders of the two divergences of which the larger counts: one makes a student cover the teacher's modes, the other
keeps it from putting weight where the teacher has none (AlphaNet, ICML 2021)."""

MOST_WEIGHT = 5.0
"""Bound on importance weights, which would explode where student and teacher disagree."""


def soft_cross_entropy(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean cross-entropy (nats) of logits (B, classes) under the probabilities of a teacher's logits (B, classes)."""
    return -(teacher.softmax(dim=1) * student.log_softmax(dim=1)).sum(dim=1).mean()


def adaptive_alpha_divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """For each image, the larger of two alpha-divergences from the teacher to the student; logits (B, classes).

    The gradient is that of the divergences with importance weights (p / q)^alpha of at most `MOST_WEIGHT`; the value is
    a surrogate that has this gradient, the mean of which over images is no divergence itself.
    """
    log_q, log_p = student.log_softmax(dim=1), teacher.log_softmax(dim=1)
    sides = [_alpha_side(log_p, log_q, alpha) for alpha in ALPHAS]
    (value, surrogate), (other_value, other_surrogate) = sides
    return torch.where(value > other_value, surrogate, other_surrogate).mean()


def _alpha_side(log_p: Tensor, log_q: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """The divergence of order alpha (B,), without gradient, and what has its gradient (B,).

    D = (sum q (p/q)^alpha - 1) / (alpha (alpha - 1)), which at alpha = 1 is Kullback and Leibler's; its gradient is
    that of -(1/alpha) sum q (p/q)^alpha log q with all but the last factor held fixed.
    """
    fixed = log_q.detach()
    weights = fixed.exp() * (alpha * (log_p - fixed)).exp().clamp(max=MOST_WEIGHT)
    is_limit = alpha == 1
    value = (weights * (log_p - fixed)).sum(dim=1) if is_limit else (weights.sum(dim=1) - 1) / (alpha * (alpha - 1))
    return value, -(weights * log_q).sum(dim=1) / alpha


def hard_cross_entropy(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Mean cross-entropy (nats) of logits (B, classes) under smoothed true labels (B,)."""
    return F.cross_entropy(logits, labels, label_smoothing=smoothing)
