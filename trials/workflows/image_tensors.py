"""Images as networks take them: standardised tensors, of pixels or generated."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def standardise(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Returns pixels (B, H, W, C) of 8 bits as (B, C, H, W) float32, standardised by mean and deviation."""
    scaled = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format) / 255
    return (scaled - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


def natural_noise(number: int, channels: int, side: int) -> Tensor:
    """Returns images (number, channels, side, side) whose amplitudes fall with frequency as photographs' do, as 1/f.

    Every image has mean 0 and deviation 1. They are always the same ones.
    """
    noise = torch.randn(number, channels, side, side, generator=torch.Generator().manual_seed(0))
    rows, columns = torch.fft.fftfreq(side), torch.fft.rfftfreq(side)
    frequency = (rows[:, None] ** 2 + columns**2).sqrt().clamp(min=1 / side)
    images = torch.fft.irfft2(torch.fft.rfft2(noise) / frequency, s=(side, side))
    mean, std = images.mean(dim=(1, 2, 3), keepdim=True), images.std(dim=(1, 2, 3), keepdim=True)
    standardised: Tensor = (images - mean) / std
    return standardised
