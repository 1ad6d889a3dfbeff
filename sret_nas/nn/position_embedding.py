"""The position embedding, (1, D, h, w): how it starts, and how it fits images of other sizes."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from sret_nas.arch.config import ArchConfig


def initialise_position_embedding(embedding: Tensor) -> None:
    """Draws a position embedding from a truncated normal distribution of standard deviation 0.02, as in ViT and DeiT.

    Linear layers and convolutions keep PyTorch's defaults: weights and biases are uniform within 1 / sqrt(fan_in). So
    narrow layers start with larger weights than wide ones. A standard deviation of 0.02 in all linear layers, as in
    DeiT, is too small for narrow networks and cost accuracy (benchmarks/initialisation). The public code of SReT keeps
    the defaults, too.
    """
    nn.init.trunc_normal_(embedding, std=0.02)


def resize_position_embedding(embedding: Tensor, height: int, width: int) -> Tensor:
    """Resizes an embedding (1, D, h, w) to (1, D, height, width), bicubically; returns it as it is if it fits."""
    if tuple(embedding.shape[2:]) == (height, width):
        return embedding
    return F.interpolate(embedding, size=(height, width), mode="bicubic", align_corners=False)


def resized_state(state: Mapping[str, Tensor], arch: ArchConfig) -> dict[str, Tensor]:
    """Returns the `state_dict` of a network of another image size with its position embedding resized for `arch`."""
    side = arch.resolutions[0]
    return {**state, "pos_embed": resize_position_embedding(state["pos_embed"], side, side)}
