"""Times parts of a network and whole networks, one forward pass at a time."""

from __future__ import annotations

from math import gcd

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sret_nas.arch.config import ArchConfig
from sret_nas.latency.profile import Part
from sret_nas.nn.layers import NLL, NORM_EPS, SlicedAttention, Stem, weighted_residual
from sret_nas.nn.network import SReT, fixed_permutation, permutation_pair
from sret_nas.nn.speed import _evaluating, _time


class StemPart(nn.Module):
    """The stem, the position embedding, and the change to tokens: images to (B, N, D)."""

    def __init__(self, side: int, channels: int, stem_width: int, width: int, *strides: int) -> None:
        super().__init__()
        first, second, third = strides
        self.stem = Stem(channels, stem_width, width, (first, second, third))
        self.pos_embed = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.input_shape = (channels, side, side)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.stem(images) + self.pos_embed
        return features.flatten(2).transpose(1, 2).contiguous()


class AttentionPart(nn.Module):
    """The first half of a block: LayerNorm, sliced attention, residual; (B, N, D) to the same."""

    def __init__(self, side: int, width: int, heads: int, groups: int, permuted: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.attn = SlicedAttention(width, heads)
        self.coefficients = nn.Parameter(torch.ones(2))
        self.groups, self.permuted = groups, bool(permuted)
        self.register_buffer("permutation", permutation_pair(torch.tensor(fixed_permutation(side * side, 0, 0, 1))))
        self.input_shape = (side * side, width)

    def forward(self, tokens: Tensor) -> Tensor:
        permutation = self.get_buffer("permutation") if self.permuted else None
        attended = self.attn(self.norm(tokens), self.groups, permutation)
        return weighted_residual(tokens, attended, self.coefficients, 0.0)


class MLPPart(NLL):
    """The second half of a block, or an NLL, which computes the same; (B, N, D) to the same."""

    def __init__(self, side: int, width: int, hidden: int) -> None:
        super().__init__(width, hidden)
        self.input_shape = (side * side, width)


class PoolPart(nn.Module):
    """Tokens to a feature map, the pooling convolution, and back: (B, N, D) to (B, N', D')."""

    def __init__(self, side: int, width_in: int, width_out: int) -> None:
        super().__init__()
        groups = gcd(width_in, width_out)
        self.conv = nn.Conv2d(width_in, width_out, kernel_size=3, stride=2, padding=1, groups=groups)
        self.side = side
        self.input_shape = (side * side, width_in)

    def forward(self, tokens: Tensor) -> Tensor:
        features: Tensor = self.conv(_as_map(tokens, self.side))
        return features.flatten(2).transpose(1, 2).contiguous()


class HeadPart(nn.Module):
    """Average pooling, LayerNorm, classifier: (B, N, D) to logits."""

    def __init__(self, side: int, width: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.head = nn.Linear(width, classes)
        self.side = side
        self.input_shape = (side * side, width)

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(F.adaptive_avg_pool2d(_as_map(tokens, self.side), 1).flatten(1)))
        return logits


def _as_map(tokens: Tensor, side: int) -> Tensor:
    """(B, N, D) to (B, D, h, w) without a copy, so channels last, as between the stages of a network."""
    channels_first = tokens.transpose(1, 2)
    return channels_first.view(*channels_first.shape[:2], side, side)


_PARTS = {"stem": StemPart, "attention": AttentionPart, "mlp": MLPPart, "pool": PoolPart, "head": HeadPart}


def time_part(part: Part, batch_size: int, device: torch.device, *, samples: int, passes: int) -> list[float]:
    """Seconds of one pass of a part alone: `samples` means over `passes` in a row, after an untimed pass."""
    with torch.random.fork_rng(devices=[]):
        module = _PARTS[part.kind](part.side, *part.sizes).to(device)
    return _sampled(module, (batch_size, *module.input_shape), device, samples, passes)


def time_network(arch: ArchConfig, batch_size: int, device: torch.device, *, samples: int) -> list[float]:
    """Seconds of each of `samples` passes of a whole network, after an untimed one."""
    with torch.random.fork_rng(devices=[]):
        network = SReT(arch).to(device)
    shape = (batch_size, arch.channels, arch.image_size, arch.image_size)
    return _sampled(network, shape, device, samples, passes=1)


def _sampled(
    module: nn.Module, shape: tuple[int, ...], device: torch.device, samples: int, passes: int
) -> list[float]:  # fmt: skip
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)

    def run() -> Tensor:
        for _ in range(passes):
            outputs: Tensor = module(inputs)
        return outputs

    with _evaluating(module), torch.inference_mode():
        module(inputs)
        return [seconds / passes for seconds in _time(run, device, samples, warmup=0, max_seconds=float("inf"))]
