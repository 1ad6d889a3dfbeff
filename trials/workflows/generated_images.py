"""Images for comparisons where no real ones were named."""

from __future__ import annotations

import torch


def natural_noise(number: int, channels: int, side: int) -> torch.Tensor:
    """Returns images (number, channels, side, side) whose amplitudes fall with frequency as photographs' do, as 1/f.

    Every image has mean 0 and deviation 1. They are always the same ones.
    """
    noise = torch.randn(number, channels, side, side, generator=torch.Generator().manual_seed(0))
    rows, columns = torch.fft.fftfreq(side), torch.fft.rfftfreq(side)
    frequency = (rows[:, None] ** 2 + columns**2).sqrt().clamp(min=1 / side)
    images = torch.fft.irfft2(torch.fft.rfft2(noise) / frequency, s=(side, side))
    mean, std = images.mean(dim=(1, 2, 3), keepdim=True), images.std(dim=(1, 2, 3), keepdim=True)
    standardised: torch.Tensor = (images - mean) / std
    return standardised
