"""The layers of SReT on tokens of shape (B, N, D): sliced attention, the shared block, and the unshared NLL.

A layer owns only weights. The number of slices and the order of the tokens are arguments of each call, because the
recursions of one block share its weights but differ in these.
"""

from __future__ import annotations

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

from sret_nas.arch.parts import Residual
from sret_nas.nn.compute import attention, project
from sret_nas.nn.residual import ResidualModule

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

    def forward(
        self, tokens: Tensor, groups: int = 1, permutation: Tensor | None = None, inverse: bool = True
    ) -> Tensor:
        """Maps tokens (B, N, D) to (B, N, D).

        Args:
            tokens: (B, N, D).
            groups: number of slices, G.
            permutation: (2, N), an order of the tokens and its inverse. Tokens are sliced in that order, and put back
                into their own before the output projection.
            inverse: whether they are put back.
        """
        # The permutation commutes with the projections, which treat each token alone. Permuting before the qkv
        # projection moves D channels a token; after it, 3 D.
        if permutation is not None:
            tokens = tokens.index_select(1, permutation[0])
        attended = attend_in_slices(project(self.qkv, tokens), groups, self.heads)
        if permutation is not None and inverse:
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


def mean_of_pixels(features: Tensor) -> Tensor:
    """Averages features (B, D, h, w) over the pixels: (B, D)."""
    return F.adaptive_avg_pool2d(features, 1).flatten(1)


class Block(ResidualModule):
    """A transformer block: the part that recursions share.

    With learnable residual connections (LRC), `z' = a1 z + a2 Attn(LN(z))`, `z'' = a3 z' + a4 MLP(LN(z'))`.
    """

    BRANCHES = ("attention", "mlp")

    def __init__(self, width: int, heads: int, mlp_hidden: int, residual: Residual = "path") -> None:
        super().__init__(residual)
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.attn = SlicedAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = MLP(width, mlp_hidden)

    def forward(
        self,
        tokens: Tensor,
        groups: int = 1,
        permutation: Tensor | None = None,
        drop_path: float = 0.0,
        inverse: bool = True,
    ) -> Tensor:
        """Maps tokens (B, N, D) to (B, N, D); see `SlicedAttention.forward` and `ResidualModule.add`."""
        tokens = self.attend(tokens, groups, permutation, drop_path, inverse)
        return self.add(tokens, self.mlp(self.norm2(tokens)), 1, drop_path)

    def attend(
        self, tokens: Tensor, groups: int, permutation: Tensor | None, drop_path: float, inverse: bool = True
    ) -> Tensor:
        """Runs the first half of the block: LayerNorm, sliced attention, residual; (B, N, D) to (B, N, D)."""
        attended = self.attn(self.norm1(tokens), groups, permutation, inverse)
        return self.add(tokens, attended, 0, drop_path)


class NLL(ResidualModule):
    """Non-linear projection layer: `b1 z + b2 MLP(LN(z))`. Each application of a block has its own; none is shared."""

    BRANCHES = ("mlp",)

    def __init__(self, width: int, hidden: int, residual: Residual = "path") -> None:
        super().__init__(residual)
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = MLP(width, hidden)

    def forward(self, tokens: Tensor, drop_path: float = 0.0) -> Tensor:
        """Maps tokens (B, N, D) to (B, N, D); see `ResidualModule.add`."""
        return self.add(tokens, self.mlp(self.norm(tokens)), 0, drop_path)
