"""Stems: what turns images into the first stage's features."""

from __future__ import annotations

from math import prod

import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

from sret_nas.arch.parts import StemConfig, StemNorm
from sret_nas.nn.compute import with_channels_last
from sret_nas.nn.layers import NORM_EPS


class PixelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each pixel of (B, D, H, W)."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=NORM_EPS)

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


_NORMS: dict[StemNorm, type[nn.Module]] = {"batch": nn.BatchNorm2d, "layer": PixelNorm, "none": nn.Identity}


class Stem(nn.Module):
    """Three 3x3 convolutions, each with a norm and ReLU: images (B, channels, H, W) to (B, D, h, w)."""

    def __init__(
        self, channels: int, stem_width: int, width: int, strides: tuple[int, int, int], norm: StemNorm = "batch"
    ) -> None:
        super().__init__()
        widths = (channels, stem_width, width, width)
        self.convs = nn.ModuleList(
            nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1)
            for inputs, outputs, stride in zip(widths[:-1], widths[1:], strides, strict=True)
        )
        self.norms = nn.ModuleList(_NORMS[norm](outputs) for outputs in widths[1:])

    def forward(self, images: Tensor) -> Tensor:
        features = with_channels_last(images, also_in_fp32=True)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            features = F.relu(norm(conv(features)), inplace=True)
        return features


class PatchStem(nn.Module):
    """An embedding of square patches, one token each: images (B, channels, H, W) to (B, D, h, w)."""

    def __init__(self, channels: int, width: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv2d(channels, width, kernel_size=patch, stride=patch)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.proj(pad_to_patches(with_channels_last(images, also_in_fp32=False), self.patch))
        return features


def stem_of(config: StemConfig, channels: int, width: int) -> Stem | PatchStem:
    """Returns a new stem for images of some channels and a first stage of some width."""
    if config.kind == "patch":
        return PatchStem(channels, width, prod(config.strides))
    return Stem(channels, config.width, width, config.strides, config.norm)


@torch.fx.wrap
def pad_to_patches(images: Tensor, patch: int) -> Tensor:
    """Adds zeros on the right and below to images (B, channels, H, W) whose sides the patch does not divide.

    So a patch embedding has as many tokens as convolutions of the same total stride.
    """
    height, width = int(images.shape[2]), int(images.shape[3])
    missing = (-height % patch, -width % patch)
    return F.pad(images, (0, missing[1], 0, missing[0])) if any(missing) else images


def batch_norms(stem: nn.Module) -> list[nn.BatchNorm2d]:
    """Returns the BatchNorms of a stem, which are the only ones in a network."""
    return [module for module in stem.modules() if isinstance(module, nn.BatchNorm2d)]
