"""Initialisation schemes: a rule for linear layers, one for convolutions. The position embedding has 0.02 in all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import gcd, sqrt

import torch
from torch import Tensor, nn

from sret_nas.nn.initialisation import initialise_convolution, scale_branch_outputs
from sret_nas.nn.network import SReT
from sret_nas.nn.shared_weights import PoolWeights
from sret_nas.nn.supernet import Supernet

LinearRule = Callable[[nn.Linear], None]
ConvRule = Callable[[nn.Conv2d, bool], None]
"""Called with a convolution, and with whether it is one of the stem's."""

TORCH_GAIN = 1 / sqrt(3)
"""Standard deviation of PyTorch's default weights, times the root of the fan-in: they are uniform within 1."""


@dataclass(frozen=True)
class Scheme:
    """How the weights of a network are drawn, before training."""

    linear: LinearRule
    conv: ConvRule
    scale_outputs: bool = False
    """Whether the last layer of every residual branch is divided by the root of the number of these layers."""

    def apply(self, network: SReT | Supernet, seed: int) -> None:
        """Draws all weights of a network or supernet anew. Seeds torch's global generator."""
        torch.manual_seed(seed)
        nn.init.trunc_normal_(network.pos_embed, std=0.02)
        for name, module in network.named_modules():
            if isinstance(module, nn.Linear):
                self.linear(module)
            elif isinstance(module, nn.Conv2d):
                self.conv(module, name.startswith("stem."))
            elif isinstance(module, PoolWeights):
                self._draw_pool(module)
        if self.scale_outputs:
            scale_branch_outputs(network)

    def _draw_pool(self, pool: PoolWeights) -> None:
        """Draws a supernet's pooling filters as those of the pooling between its largest widths."""
        before, after = pool.widths
        inputs, filters = before // gcd(before, after), len(pool.pairs)
        conv = nn.Conv2d(inputs, -(-filters // inputs), kernel_size=3)
        self.conv(conv, False)
        with torch.no_grad():
            pool.weight.copy_(conv.weight.view(-1, 3, 3)[:filters])
            assert conv.bias is not None
            pool.bias.copy_(conv.bias[:after])


def _zero_bias(module: nn.Linear | nn.Conv2d) -> None:
    if module.bias is not None:
        nn.init.zeros_(module.bias)


def _truncated(std_of: Callable[[Tensor], float]) -> LinearRule:
    """Returns the rule of a normal distribution cut at two standard deviations, with biases of 0."""

    def rule(module: nn.Linear) -> None:
        std = std_of(module.weight)
        nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
        _zero_bias(module)

    return rule


def _constant(std: float) -> LinearRule:
    """Returns the rule of one standard deviation for all layers, as ViT and DeiT have it."""

    def rule(module: nn.Linear) -> None:
        nn.init.trunc_normal_(module.weight, std=std)
        _zero_bias(module)

    return rule


def fan_in(gain: float) -> LinearRule:
    """Returns the rule of a standard deviation of `gain / sqrt(fan_in)`."""
    return _truncated(lambda weight: gain / sqrt(weight.shape[1]))


def xavier(module: nn.Linear) -> None:
    """Draws by Glorot and Bengio's uniform rule (2010): the fans of both sides count."""
    nn.init.xavier_uniform_(module.weight)
    _zero_bias(module)


def torch_linear(module: nn.Linear) -> None:
    """Draws by PyTorch's default: weights and biases uniform within 1 / sqrt(fan_in)."""
    module.reset_parameters()


def he_conv(module: nn.Conv2d, in_stem: bool) -> None:
    """Draws as He et al. (2015): in the stem for the ReLU that follows, in poolings without one."""
    initialise_convolution(module, precedes_relu=in_stem)


def torch_conv(module: nn.Conv2d, in_stem: bool) -> None:
    """Draws by PyTorch's default: weights and biases uniform within 1 / sqrt(fan_in)."""
    module.reset_parameters()


OLD = "linear 0.02, conv He"
"""The default of this project until November 2026."""

SCHEMES: dict[str, Scheme] = {
    OLD: Scheme(_constant(0.02), he_conv),
    "torch": Scheme(torch_linear, torch_conv),
    "linear torch, conv He": Scheme(torch_linear, he_conv),
    "linear 0.02, conv torch": Scheme(_constant(0.02), torch_conv),
    "linear fan-in x 0.58, conv He": Scheme(fan_in(TORCH_GAIN), he_conv),
    "linear fan-in x 1, conv He": Scheme(fan_in(1.0), he_conv),
    "linear Xavier, conv He": Scheme(xavier, he_conv),
    "linear fan-in x 1, outputs scaled, conv He": Scheme(fan_in(1.0), he_conv, scale_outputs=True),
    "linear torch, outputs scaled, conv He": Scheme(torch_linear, he_conv, scale_outputs=True),
    "torch, outputs scaled": Scheme(torch_linear, torch_conv, scale_outputs=True),
}
