"""Losses of soft labels against their definitions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from trials.supernet.losses import adaptive_alpha_divergence, soft_cross_entropy


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


def divergence(student: torch.Tensor, teacher: torch.Tensor, alpha: float) -> torch.Tensor:
    """By definition, for each image; Kullback and Leibler's at alpha = 1."""
    p, q = teacher.softmax(dim=1), student.softmax(dim=1)
    if alpha == 1:
        return (p * (p / q).log()).sum(dim=1)
    return ((q * (p / q) ** alpha).sum(dim=1) - 1) / (alpha * (alpha - 1))


def test_the_alpha_divergence_has_the_gradient_of_the_larger_of_the_two() -> None:
    """Student and teacher are so near that no importance weight reaches its bound."""
    teacher = logits(40, 5, scale=0.5)
    student = (teacher + logits(40, 5, scale=0.3, seed=1)).requires_grad_()
    low, high = divergence(student, teacher, -1.0), divergence(student, teacher, 1.0)
    assert 5 < int((low > high).sum()) < 35  # both sides are seen
    (expected,) = torch.autograd.grad(torch.maximum(low, high).mean(), student)
    (found,) = torch.autograd.grad(adaptive_alpha_divergence(student, teacher), student)
    torch.testing.assert_close(found, expected)


def test_importance_weights_are_bounded() -> None:
    """Where the student sees what the teacher excludes, the plain divergence of order -1 has a gradient of about
    e^16 / 8; the bound leaves a fivefold probability at most."""
    student = torch.tensor([[4.0, 4.0, -8.0]], requires_grad=True)
    teacher = torch.tensor([[-8.0, 8.0, 0.0]])
    (found,) = torch.autograd.grad(adaptive_alpha_divergence(student, teacher), student)
    assert bool(found.isfinite().all())
    assert float(found.abs().max()) <= 5.0


@pytest.mark.parametrize("loss", [soft_cross_entropy, adaptive_alpha_divergence])
def test_nothing_flows_into_the_teacher_s_images(loss: object) -> None:
    student, teacher = logits(3, 4).requires_grad_(), logits(3, 4, seed=1)
    value = loss(student, teacher)  # type: ignore[operator]
    assert value.shape == ()
    (gradient,) = torch.autograd.grad(value, student)
    torch.testing.assert_close(gradient.sum(dim=1), torch.zeros(3, dtype=torch.float64))  # softmax: no common part
