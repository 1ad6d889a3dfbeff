"""A teacher for tests, which takes no time, and files of what it says of prepared images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trials.data import PreparedData
from trials.data.batching import AugmentedEpoch
from trials.training.prepared_labels import SoftLabelSource, identify_prepared_views
from trials.training.soft_labels import SoftLabelHeader, SoftLabelWriter, fingerprints


def logits_of(images: Tensor, classes: int = 10) -> Tensor:
    """Returns the teacher's logits (B, classes)."""
    flat = images.flatten(1)
    weights = torch.randn(flat.shape[1], classes, generator=torch.Generator().manual_seed(0))
    logits: Tensor = 3 * flat @ weights / float(flat.shape[1]) ** 0.5
    return logits


def store_labels(
    path: Path, data: PreparedData, *, seed: int = 0, epochs: int = 2, temperature: float = 1.0, **changes: Any
) -> SoftLabelSource:
    """Writes the teacher's labels of a search's images. `changes` are of the header alone."""
    fields: dict[str, Any] = {
        "teacher": "a teacher", "teacher_digest": None, "temperature": temperature, "classes": data.num_classes,
        "top": data.num_classes, "images": len(data.train), "epochs": epochs,
        "views": identify_prepared_views(data, seed), "versions": {},
    }  # fmt: skip
    with SoftLabelWriter(path, SoftLabelHeader(**fields | changes)) as writer:
        for epoch in range(epochs):
            images = AugmentedEpoch(data.train, seed=seed, epoch=epoch).images(torch.arange(len(data.train)))
            taught = (logits_of(images, data.num_classes) / temperature).softmax(dim=1)
            writer.append(taught.numpy(), fingerprints(images.numpy()))
        writer.finish()
    source = SoftLabelSource(path=str(path), digest="")
    return source if changes else SoftLabelSource.of(str(path), data)
