"""Times forward passes of whole networks, and of their parts: the network's own layers on inputs of the right shape.

The parts of a network, run in order, compute what the network does (tests/sret_nas/latency checks this).
"""

from __future__ import annotations

from math import gcd

import torch
from torch import Tensor, nn

from sret_nas.arch.config import ArchConfig
from sret_nas.latency.profile import Part
from sret_nas.nn.layers import NLL, NORM_EPS, Block, mean_of_pixels
from sret_nas.nn.network import SReT, to_feature_map, to_tokens
from sret_nas.nn.permutations import fixed_permutation, permutation_pair
from sret_nas.nn.speed import evaluation_mode, time_passes
from sret_nas.nn.stem import Stem


class StemPart(nn.Module):
    """The stem, the position embedding, and the change to tokens: images (B, channels, H, W) to tokens (B, N, D)."""

    def __init__(self, side: int, channels: int, stem_width: int, width: int, *strides: int) -> None:
        super().__init__()
        first, second, third = strides
        self.stem = Stem(channels, stem_width, width, (first, second, third))
        self.pos_embed = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.input_shape = (channels, side, side)

    def forward(self, images: Tensor) -> Tensor:
        return to_tokens(self.stem(images) + self.pos_embed)


class AttentionPart(nn.Module):
    """The first half of a block: LayerNorm, sliced attention, residual; (B, N, D) to (B, N, D)."""

    def __init__(self, side: int, width: int, heads: int, groups: int, permuted: int) -> None:
        super().__init__()
        self.block = Block(width, heads, mlp_hidden=1)  # the MLP is not run
        self.groups, self.permuted = groups, bool(permuted)
        self.register_buffer("permutation", permutation_pair(torch.tensor(fixed_permutation(side * side, 0, 0, 1))))
        self.input_shape = (side * side, width)

    def forward(self, tokens: Tensor) -> Tensor:
        permutation = self.get_buffer("permutation") if self.permuted else None
        return self.block.attend(tokens, self.groups, permutation, 0.0)


class MLPPart(NLL):
    """An NLL, or the second half of a block, which computes the same; (B, N, D) to (B, N, D)."""

    def __init__(self, side: int, width: int, hidden: int) -> None:
        super().__init__(width, hidden)
        self.input_shape = (side * side, width)


class PoolPart(nn.Module):
    """The pooling convolution, with the changes from and to tokens: (B, N, D) to (B, N', D')."""

    def __init__(self, side: int, width_in: int, width_out: int) -> None:
        super().__init__()
        groups = gcd(width_in, width_out)
        self.conv = nn.Conv2d(width_in, width_out, kernel_size=3, stride=2, padding=1, groups=groups)
        self.side = side
        self.input_shape = (side * side, width_in)

    def forward(self, tokens: Tensor) -> Tensor:
        return to_tokens(self.conv(to_feature_map(tokens, self.side, self.side)))


class HeadPart(nn.Module):
    """Average pooling, LayerNorm, classifier: (B, N, D) to logits (B, classes)."""

    def __init__(self, side: int, width: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.head = nn.Linear(width, classes)
        self.side = side
        self.input_shape = (side * side, width)

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(mean_of_pixels(to_feature_map(tokens, self.side, self.side))))
        return logits


_PARTS = {"stem": StemPart, "attention": AttentionPart, "mlp": MLPPart, "pool": PoolPart, "head": HeadPart}


def time_part(part: Part, batch_size: int, device: torch.device, *, samples: int, passes: int) -> list[float]:
    """Times a part alone. Returns `samples` means over `passes` in a row, in seconds per pass, after an untimed one."""
    with torch.random.fork_rng(devices=[]):
        module = _PARTS[part.kind](part.side, *part.sizes).to(device)
    return _seconds_per_pass(module, (batch_size, *module.input_shape), device, samples, passes)


def time_network(arch: ArchConfig, batch_size: int, device: torch.device, *, samples: int) -> list[float]:
    """Times a whole network. Returns the seconds of each of `samples` passes, after an untimed one."""
    with torch.random.fork_rng(devices=[]):
        network = SReT(arch).to(device)
    shape = (batch_size, arch.channels, arch.image_size, arch.image_size)
    return _seconds_per_pass(network, shape, device, samples, passes=1)


def _seconds_per_pass(
    module: nn.Module, shape: tuple[int, ...], device: torch.device, samples: int, passes: int
) -> list[float]:  # fmt: skip
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)

    def run() -> Tensor:
        for _ in range(passes):
            outputs: Tensor = module(inputs)
        return outputs

    with evaluation_mode(module), torch.inference_mode():
        module(inputs)
        return [seconds / passes for seconds in time_passes(run, device, samples, warmup=0, max_seconds=float("inf"))]
