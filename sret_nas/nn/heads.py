"""Class tokens: what joins the tokens of the image before the last stage, where attention sees all tokens.

They stand before the tokens of the image, the class token first, as in DeiT (Touvron et al., 2021). Earlier stages
slice and pool tokens of the image alone, so class tokens could not see all of them there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ClassTokens(nn.Module):
    """`count` learnable tokens, with a learnable position each as in DeiT."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.count = count
        self.embedding = nn.Parameter(torch.zeros(1, count, width))
        self.position = nn.Parameter(torch.zeros(1, count, width))
        nn.init.trunc_normal_(self.embedding, std=0.02)
        nn.init.trunc_normal_(self.position, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Puts the class tokens before tokens (B, N, D): (B, count + N, D)."""
        joining = self.embedding + self.position
        return torch.cat((joining.expand(tokens.shape[0], -1, -1), tokens), dim=1)
