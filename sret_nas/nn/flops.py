"""What a network costs when it is really run: FLOPs of a trace as fvcore counts them, and time on this device.

Of FLOPs, the closed form of `sret_nas.arch.cost` is the figure that is used; this is the check that it is true. Of
latency, the times of parts and networks found here are what `sret_nas.latency.table` predicts from.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import nn

from sret_nas.arch.config import ArchConfig
from sret_nas.nn.network import SReT
from sret_nas.nn.speed import _evaluating

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=".*torch.jit.*")  # fvcore scripts a loss as it is imported
    from fvcore.nn import FlopCountAnalysis

FREE_OPERATORS = ("add", "addcmul", "gelu", "index_select", "mul", "unflatten")
"""Element-wise, indexing and shape operators that count nothing, as in the paper, beyond those that fvcore itself
ignores: sums, residual coefficients, GELU, permutations."""


class UncountedError(Exception):
    """A trace holds something that no rule counts: its total would be too low, so there is none."""


@dataclass(frozen=True)
class TracedCost:
    """What fvcore counts for one image: FLOPs (multiply-adds) by operator, and each parameter once."""

    params: int
    flops_by_operator: dict[str, int]

    @property
    def flops(self) -> int:
        return sum(self.flops_by_operator.values())


def fvcore_cost(network: SReT | ArchConfig) -> TracedCost:
    """FLOPs and parameters of a network for one image of `arch.image_size`, from a trace of it in evaluation mode.

    An architecture is built for it. Neither changes the network, its modes or torch's generators.
    """
    if isinstance(network, ArchConfig):
        with torch.random.fork_rng(devices=[]):
            network = SReT(network)
    arch = network.arch
    return trace_cost(network, (arch.channels, arch.image_size, arch.image_size))


def count_flops(network: nn.Module, image_shape: tuple[int, ...] | None = None) -> int:
    """Returns the FLOPs (multiply-adds) of a network for one image, as fvcore counts them on a trace.

    Args:
        network: an `SReT`, or any module that takes one batch of images.
        image_shape: (channels, height, width); an `SReT` knows its own.

    fvcore alone counts too little: it has no rule for `scaled_dot_product_attention`, so that both matrix products of
    attention are missing from its total. Here they have one. Raises `UncountedError` if anything else is left out,
    and `ValueError` if the shape is not known.
    """
    if image_shape is None:
        if not isinstance(network, SReT):
            raise ValueError(f"image_shape must be given for a {type(network).__name__}")
        return fvcore_cost(network).flops
    return trace_cost(network, image_shape).flops


def trace_cost(network: nn.Module, image_shape: tuple[int, ...]) -> TracedCost:
    """As `fvcore_cost`, of any module that takes one batch of inputs, each of the given shape.

    Raises `UncountedError` naming operators that no rule counts, or modules with parameters never called.
    """
    like = next(network.parameters())
    image = torch.zeros(1, *image_shape, device=like.device, dtype=like.dtype)
    analysis = FlopCountAnalysis(network, (image,))
    analysis.set_op_handle("aten::scaled_dot_product_attention", _attention_flops)
    analysis.set_op_handle(**{f"aten::{name}": None for name in FREE_OPERATORS})
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    with _evaluating(network), torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.*")  # fvcore has no other way to trace
        by_operator = analysis.by_operator()
    _refuse("operators that no rule counts", analysis.unsupported_ops())
    # An empty list of layers is never called either; only what holds parameters could be missing from the total.
    uncalled = [name for name in analysis.uncalled_modules() if _has_parameters(network.get_submodule(name))]
    _refuse("modules that the trace never called", uncalled)
    params = sum(parameter.numel() for parameter in network.parameters())
    return TracedCost(params, {name: int(flops) for name, flops in by_operator.items()})


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _refuse(what: str, found: Iterable[str]) -> None:
    names = sorted(found)
    if names:
        raise UncountedError(f"the trace holds {what}: {', '.join(names)}")


def _attention_flops(inputs: list[Any], _: list[Any]) -> Any:
    """Both products of fused attention, queries (..., L, E), keys (..., S, E), values (..., S, V): L S (E + V) each."""
    (*batch, queries, channels), (*_, keys, _), (*_, outputs) = (value.type().sizes() for value in inputs[:3])
    return {"matmul": prod(batch) * queries * keys * (channels + outputs)}
