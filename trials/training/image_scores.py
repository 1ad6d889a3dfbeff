"""Scores a network on whole images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sret_nas.nn.network import SReT

TOP = 5
"""Classes among which the true one counts as found, in the second error."""


@dataclass(frozen=True)
class ImageScore:
    """Errors (0 to 1) and mean cross-entropy (nats) over some images."""

    error: float
    top5_error: float
    """Share of images whose class is not among the five most probable ones; 0 for five classes or fewer."""
    cross_entropy: float
    images: int

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data."""
        return asdict(self)


@torch.no_grad()
def count_errors(network: SReT, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Returns the sums over images of: wrong, wrong among the first five, cross-entropy (nats), one; float64 (4,).

    Sums of several processes add up. The network is in evaluation mode afterwards.
    """
    device = network.pos_embed.device
    network.eval()
    sums = torch.zeros(4, dtype=torch.float64, device=device)
    for images, labels in batches:
        labels = labels.to(device)
        logits = network(images.to(device)).float()
        found = logits.topk(min(TOP, logits.shape[1]), dim=1).indices == labels[:, None]
        wrong = len(labels) - found[:, 0].sum()
        wrong_of_five = len(labels) - found.any(dim=1).sum()
        entropy = F.cross_entropy(logits, labels, reduction="sum").double()
        sums += torch.stack([wrong.double(), wrong_of_five.double(), entropy, entropy.new_tensor(len(labels))])
    return sums


def score_of(sums: Tensor) -> ImageScore:
    """Returns the score that sums of `count_errors` make."""
    wrong, wrong_of_five, entropy, images = sums.tolist()
    return ImageScore(wrong / images, wrong_of_five / images, entropy / images, round(images))
