"""A network's scores over batches of images, and as the metrics that are written."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from pydantic import JsonValue
from torch import Tensor

from sret_nas.nn.network import SReT

from .classification_scores import ClassificationScores, ScoreCounts


@torch.no_grad()
def count_scores(network: SReT, batches: Iterable[tuple[Tensor, Tensor]]) -> ScoreCounts:
    """Returns the counts of a network over batches of images and labels. It is in evaluation mode afterwards."""
    counts, device = ScoreCounts(network.arch.classes), network.pos_embed.device
    network.eval()
    for images, labels in batches:
        counts.add(network(images.to(device)).float().cpu().numpy(), labels.cpu().numpy())
    return counts


def metrics_of(score: ClassificationScores) -> dict[str, JsonValue]:
    """Returns the errors (0 to 1) and the cross-entropy (nats) of a score, as plain data.

    The second error counts images whose class is not among the five most probable ones: 0 for five classes or fewer.
    """
    top5_error = 0.0 if score.top5_accuracy is None else 1 - score.top5_accuracy
    return {
        "error": score.error, "top5_error": top5_error, "cross_entropy": score.cross_entropy, "images": score.images
    }  # fmt: skip
