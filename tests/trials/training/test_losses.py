"""Losses of soft labels against their definitions."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from trials.training.losses import soft_cross_entropy


def logits(*shape: int, scale: float = 1.0, seed: int = 0) -> torch.Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_soft_cross_entropy_is_that_of_the_labels_if_the_teacher_is_certain() -> None:
    student, labels = logits(6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    certain = 1e4 * F.one_hot(labels, 4).double()
    torch.testing.assert_close(soft_cross_entropy(student, certain), F.cross_entropy(student, labels))


def test_soft_cross_entropy_is_least_at_the_teacher_s_own_logits() -> None:
    teacher = logits(6, 4)
    student = teacher.clone().requires_grad_()
    soft_cross_entropy(student, teacher).backward()
    torch.testing.assert_close(student.grad, torch.zeros_like(teacher))
    probabilities = teacher.softmax(dim=1)
    entropy = -(probabilities * probabilities.log()).sum(dim=1).mean()
    torch.testing.assert_close(soft_cross_entropy(teacher, teacher), entropy)


def test_the_gradient_of_soft_labels_sums_to_nothing() -> None:
    student, teacher = logits(3, 4).requires_grad_(), logits(3, 4, seed=1)
    value = soft_cross_entropy(student, teacher)
    assert value.shape == ()
    (gradient,) = torch.autograd.grad(value, student)
    torch.testing.assert_close(gradient.sum(dim=1), torch.zeros(3, dtype=torch.float64))  # softmax: no common part
