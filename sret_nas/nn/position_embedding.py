"""The position embedding, (1, D, h, w): how it fits images of other sizes."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from sret_nas.arch.config import ArchConfig


def resize_position_embedding(embedding: Tensor, height: int, width: int) -> Tensor:
    """Resizes an embedding (1, D, h, w) to (1, D, height, width), bicubically; returns it as it is if it fits."""
    if tuple(embedding.shape[2:]) == (height, width):
        return embedding
    return F.interpolate(embedding, size=(height, width), mode="bicubic", align_corners=False)


def resized_state(state: Mapping[str, Tensor], arch: ArchConfig) -> dict[str, Tensor]:
    """Returns the `state_dict` of a network of another image size with its position embedding resized for `arch`."""
    side = arch.resolutions[0]
    return {**state, "pos_embed": resize_position_embedding(state["pos_embed"], side, side)}
