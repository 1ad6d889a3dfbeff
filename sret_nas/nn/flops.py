"""Counts the FLOPs of a built network with fvcore, on a trace of its forward pass.

Searches use the closed form in `sret_nas.arch.cost`. The trace is the independent check that the closed form is right.
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
from sret_nas.errors import UserError, describe
from sret_nas.nn.network import SReT
from sret_nas.nn.speed import evaluation_mode

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=".*torch.jit.*")  # fvcore scripts a loss as it is imported
    from fvcore.nn import FlopCountAnalysis

FREE_OPERATORS = ("add", "addcmul", "gelu", "index_select", "mul", "pad", "unflatten")
"""Element-wise, indexing and shape operators counted as 0 FLOPs, as in the paper: sums, residual coefficients, GELU,
permutations, zeros around images. fvcore ignores others by itself."""


class UncountedError(Exception):
    """Signals a trace with operators or modules that no rule counts, so that its total would be too low."""


@dataclass(frozen=True)
class TracedCost:
    """FLOPs (multiply-adds) per operator for one image, and the number of parameters, each counted once."""

    params: int
    flops_by_operator: dict[str, int]

    @property
    def flops(self) -> int:
        return sum(self.flops_by_operator.values())


def fvcore_cost(network: SReT | ArchConfig) -> TracedCost:
    """Returns the FLOPs and parameters of a network for one image of `arch.image_size`, traced in evaluation mode.

    Builds the network if only its architecture is given. Leaves the network, its modes and torch's generators
    unchanged.
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

    fvcore alone counts too little: it has no rule for `scaled_dot_product_attention`, so its total lacks both matrix
    products of attention. This function adds the rule. Raises `UncountedError` if anything else is left out, and
    `ValueError` if the shape is not known, and `UserError` for what is no network.
    """
    if not isinstance(network, nn.Module):
        raise UserError(f"count_flops takes a network, got {describe(network)}: cost_of counts an ArchConfig")
    if image_shape is None:
        if not isinstance(network, SReT):
            raise ValueError(f"image_shape must be given for a {type(network).__name__}")
        return fvcore_cost(network).flops
    return trace_cost(network, image_shape).flops


def trace_cost(network: nn.Module, image_shape: tuple[int, ...]) -> TracedCost:
    """Returns the FLOPs and parameters of any module that takes one batch of inputs, each of `image_shape`.

    Raises `UncountedError` naming the operators that no rule counts, or the modules with parameters that the forward
    pass never called.
    """
    parameter = next(network.parameters(), torch.zeros(0))
    image = torch.zeros(1, *image_shape, device=parameter.device, dtype=parameter.dtype)
    analysis = FlopCountAnalysis(network, (image,))
    analysis.set_op_handle("aten::scaled_dot_product_attention", attention_flops)
    analysis.set_op_handle(**{f"aten::{name}": None for name in FREE_OPERATORS})
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    with evaluation_mode(network), torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.*")  # fvcore has no other way to trace
        by_operator = analysis.by_operator()
    _refuse("operators that no rule counts", analysis.unsupported_ops())
    # An empty ModuleList is never called either. Only modules with parameters can be missing from the total.
    uncalled = [name for name in analysis.uncalled_modules() if _has_parameters(network.get_submodule(name))]
    _refuse("modules that the trace never called", uncalled)
    params = sum(parameter.numel() for parameter in network.parameters())
    return TracedCost(params, {name: int(flops) for name, flops in by_operator.items()})


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _refuse(what: str, names: Iterable[str]) -> None:
    """Raises `UncountedError` if there are any names."""
    if listed := ", ".join(sorted(names)):
        raise UncountedError(f"the trace holds {what}: {listed}")


def attention_flops(inputs: list[Any], _: list[Any]) -> Any:
    """Returns L S (E + V), the two products of queries (..., L, E), keys (..., S, E) and values (..., S, V)."""
    (*batch, queries, channels), (*_, keys, _), (*_, outputs) = (value.type().sizes() for value in inputs[:3])
    return {"matmul": prod(batch) * queries * keys * (channels + outputs)}
