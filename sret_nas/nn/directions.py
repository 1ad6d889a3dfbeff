"""Filter-normalised random directions in the space of a network's weights, and a network that is moved along two.

Li et al., "Visualizing the Loss Landscape of Neural Nets", NeurIPS 2018, section 4. A network with larger weights
computes the same after normalisation layers, but is moved less by a direction of fixed length. So each filter of a
direction gets the length of the network's own filter, and landscapes of different networks can be compared.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn


def filter_normalised_direction(network: nn.Module, key: str) -> dict[str, Tensor]:
    """Returns a random direction, by the names of parameters, on the device of the weights.

    A filter is a slice along dimension 0. Parameters with fewer than two dimensions (biases, norms, residual
    coefficients) stay still and have no entry. A shared block is one set of parameters, so it has one direction however
    often it is applied.

    Args:
        network: the network, whose filters' norms the direction takes.
        key: what the random numbers follow from, together with each parameter's name. They do not depend on the device.
    """
    return {
        name: _direction(parameter.detach(), f"{key}/{name}")
        for name, parameter in network.named_parameters()
        if parameter.ndim >= 2
    }


def _direction(weight: Tensor, key: str) -> Tensor:
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
    drawn = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)).to(weight.device, weight.dtype)
    scale = _filter_norms(weight) / _filter_norms(drawn).clamp_min(torch.finfo(weight.dtype).tiny)
    return drawn * scale


def _filter_norms(weight: Tensor) -> Tensor:
    """Returns the Euclidean norm of each slice along dimension 0, in a shape that multiplies the weight."""
    norms: Tensor = torch.linalg.vector_norm(weight.flatten(1), dim=1)
    return norms.view(-1, *[1] * (weight.ndim - 1))


class MovableNetwork:
    """A network whose weights are moved to points of the plane through them that two directions span."""

    def __init__(self, network: nn.Module, first: str, second: str) -> None:
        """Keeps the weights as the origin and draws both directions.

        Args:
            network: is changed in place by `move_to`.
            first: key of the direction of x.
            second: key of the direction of y.
        """
        self.network = network
        self._parameters = dict(network.named_parameters())
        self._first = filter_normalised_direction(network, first)
        self._second = filter_normalised_direction(network, second)
        self._origin = {name: self._parameters[name].detach().clone() for name in self._first}

    @torch.no_grad()
    def move_to(self, x: float, y: float) -> None:
        """Sets the weights to origin + x * first + y * second; at (0, 0) they are the origin, bit for bit."""
        for name, origin in self._origin.items():
            self._parameters[name].copy_(origin).add_(self._first[name], alpha=x).add_(self._second[name], alpha=y)
