"""A tiny model directory for grey images of digits, whose classes are told apart well enough to compare predictions."""

from __future__ import annotations

from pathlib import Path

import torch

from sret_nas.arch.config import ArchConfig
from sret_nas.nn.model_directory import ModelInfo, Preprocessing, write_model
from sret_nas.nn.network import SReT

NAMES = tuple(map(str, range(10)))

PREPROCESSING = Preprocessing(image_size=16, mean=(0.3,), std=(0.35,), crop_fraction=0.8)

ARCH = ArchConfig.from_dict(
    {
        "stages": [{"width": 16, "heads": 2, "blocks": 1, "recursions": 2, "groups": [4, 1]}],
        "image_size": 16,
        "channels": 1,
        "classes": 10,
    }
)


def write_digits_model(directory: Path, class_names: tuple[str, ...] | None = NAMES, seed: int = 0) -> SReT:
    """Writes a network with random weights, whose logits differ between images, and returns it."""
    torch.manual_seed(seed)
    network = SReT(ARCH).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    write_model(directory, network, ModelInfo(preprocessing=PREPROCESSING, class_names=class_names))
    return network
