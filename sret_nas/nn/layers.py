"""The layers of SReT on tokens of shape (B, N, D): sliced attention, the shared block, and the unshared NLL.

A layer owns only weights. The number of slices and the order of the tokens are arguments of each call, because the
recursions of one block share its weights but differ in these.
"""

from __future__ import annotations

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

from sret_nas.nn.compute import attention, project, with_channels_last

NORM_EPS = 1e-6
"""Epsilon of every LayerNorm, as in the public code."""


class MLP(nn.Module):
    """Linear, GELU, linear: (B, N, D) to (B, N, D) through `hidden` channels."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        projected: Tensor = project(self.fc2, F.gelu(project(self.fc1, tokens)))
        return projected


class SlicedAttention(nn.Module):
    """Multi-head self-attention within each of G slices of the tokens, with shared qkv and output projections.

    The first N mod G slices are one token longer than the others; with G > N every token is a slice of its own
    (`cost.attended_pairs` counts the same slices). Where G divides N, this is the paper's sliced group self-attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, groups: int = 1, permutation: Tensor | None = None) -> Tensor:
        """Maps tokens (B, N, D) to (B, N, D).

        Args:
            tokens: (B, N, D).
            groups: number of slices, G.
            permutation: (2, N), an order of the tokens and its inverse. Tokens are sliced in that order, and put back
                into their own before the output projection.
        """
        # The permutation commutes with the projections, which treat each token alone. Permuting before the qkv
        # projection moves D channels a token; after it, 3 D.
        if permutation is not None:
            tokens = tokens.index_select(1, permutation[0])
        attended = attend_in_slices(project(self.qkv, tokens), groups, self.heads)
        if permutation is not None:
            attended = attended.index_select(1, permutation[1])
        projected: Tensor = project(self.proj, attended)
        return projected


@torch.fx.wrap  # a traced graph keeps it as one call, because its slices depend on the number of tokens
def attend_in_slices(qkv: Tensor, groups: int, heads: int) -> Tensor:
    """Maps qkv (B, N, 3 D) to (B, N, D), with one call of attention per slice length (at most two)."""
    num_tokens = int(qkv.shape[1])
    length, num_longer = divmod(num_tokens, groups)
    cut = num_longer * (length + 1)  # tokens in the longer slices, which come first
    if cut == 0:
        return _attend_slices(qkv, length, heads)
    if cut == num_tokens:
        return _attend_slices(qkv, length + 1, heads)
    longer, shorter = _attend_slices(qkv[:, :cut], length + 1, heads), _attend_slices(qkv[:, cut:], length, heads)
    return torch.cat((longer, shorter), dim=1)


def _attend_slices(qkv: Tensor, length: int, heads: int) -> Tensor:
    """Maps qkv (B, N, 3 D) to (B, N, D) in slices of `length` tokens, a divisor of N. Slices join the batch."""
    batch, num_tokens, channels = qkv.shape
    width = channels // 3
    sliced = qkv.reshape(-1, length, 3, heads, width // heads)
    queries, keys, values = sliced.permute(2, 0, 3, 1, 4).unbind(0)
    attended = attention(queries, keys, values)
    return attended.transpose(1, 2).reshape(batch, num_tokens, width)


def weighted_residual(tokens: Tensor, branch: Tensor, weights: Tensor, drop_path: float) -> Tensor:
    """Returns `weights[0] * tokens + weights[1] * branch`, (B, N, D), dropping each sample's branch at a given rate.

    Stochastic depth (Huang et al., 2016): branches that are kept are scaled by 1 / (1 - rate), so that the expectation
    does not depend on the rate.
    """
    identity_weight, branch_weight = torch.split(weights, 1)
    if drop_path > 0:
        kept = tokens.new_empty((tokens.shape[0], 1, 1)).bernoulli_(1 - drop_path)
        branch_weight = branch_weight * (kept / (1 - drop_path))
    return torch.addcmul(identity_weight * tokens, branch_weight, branch)


def mean_of_pixels(features: Tensor) -> Tensor:
    """Averages features (B, D, h, w) over the pixels: (B, D)."""
    return F.adaptive_avg_pool2d(features, 1).flatten(1)


class Block(nn.Module):
    """A transformer block with learnable residual connections (LRC): the part that recursions share.

    `z' = a1 z + a2 Attn(LN(z))`, `z'' = a3 z' + a4 MLP(LN(z'))`; the four coefficients start at 1.
    """

    def __init__(self, width: int, heads: int, mlp_hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.attn = SlicedAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = MLP(width, mlp_hidden)
        self.coefficients = nn.Parameter(torch.ones(4))

    def forward(
        self, tokens: Tensor, groups: int = 1, permutation: Tensor | None = None, drop_path: float = 0.0
    ) -> Tensor:
        """Maps tokens (B, N, D) to (B, N, D); see `SlicedAttention.forward` and `weighted_residual`."""
        tokens = self.attend(tokens, groups, permutation, drop_path)
        return weighted_residual(tokens, self.mlp(self.norm2(tokens)), self.coefficients[2:], drop_path)

    def attend(self, tokens: Tensor, groups: int, permutation: Tensor | None, drop_path: float) -> Tensor:
        """Runs the first half of the block: LayerNorm, sliced attention, residual; (B, N, D) to (B, N, D)."""
        attended = self.attn(self.norm1(tokens), groups, permutation)
        return weighted_residual(tokens, attended, self.coefficients[:2], drop_path)


class NLL(nn.Module):
    """Non-linear projection layer: `b1 z + b2 MLP(LN(z))`. Each application of a block has its own; none is shared."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = MLP(width, hidden)
        self.coefficients = nn.Parameter(torch.ones(2))

    def forward(self, tokens: Tensor, drop_path: float = 0.0) -> Tensor:
        """Maps tokens (B, N, D) to (B, N, D); see `weighted_residual`."""
        return weighted_residual(tokens, self.mlp(self.norm(tokens)), self.coefficients, drop_path)


class Stem(nn.Module):
    """Three 3x3 convolutions, each with BatchNorm and ReLU: images (B, channels, H, W) to (B, D, h, w)."""

    def __init__(self, channels: int, stem_width: int, width: int, strides: tuple[int, int, int]) -> None:
        super().__init__()
        widths = (channels, stem_width, width, width)
        self.convs = nn.ModuleList(
            nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1)
            for inputs, outputs, stride in zip(widths[:-1], widths[1:], strides, strict=True)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs) for outputs in widths[1:])

    def forward(self, images: Tensor) -> Tensor:
        features = with_channels_last(images)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            features = F.relu(norm(conv(features)), inplace=True)
        return features
