"""What a network costs when it is really run: FLOPs of a trace as fvcore counts them, and time on this device.

Of FLOPs, the closed form of `sret_nas.cost` is the figure that is used; this is the check that it is true. Of latency,
the times of parts and networks found here are what `sret_nas.latency_table` predicts from.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import gcd, prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sret_nas.arch import ArchConfig
from sret_nas.latency import Part
from sret_nas.nn.layers import NLL, NORM_EPS, SlicedAttention, Stem, weighted_residual
from sret_nas.nn.network import SReT, fixed_permutation, with_inverse

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


@dataclass(frozen=True)
class Speed:
    """Medians over `repeats` timed passes on `device`, in evaluation mode."""

    latency_ms: float
    """Of one image alone."""
    images_per_s: float
    """In batches of `batch_size`."""
    batch_size: int
    image_size: int
    repeats: int
    device: str
    num_threads: int


def measure_speed(
    network: SReT, *, batch_size: int = 16, repeats: int = 20, warmup: int = 3, max_seconds: float = 10.0
) -> Speed:
    """Latency of one image and throughput of a batch, on the device where the network lies.

    Each is the median of `repeats` passes after `warmup` untimed ones; a slow network is timed less often, as soon
    as `max_seconds` have passed, but at least three times. The network's modes and torch's generators stay as they are.
    """
    if batch_size < 1 or repeats < 1:
        raise ValueError(f"batch_size and repeats must be at least 1, got {batch_size=}, {repeats=}")
    arch, device = network.arch, network.pos_embed.device
    noise = torch.randn(batch_size, arch.channels, arch.image_size, arch.image_size, generator=torch.Generator())
    images = noise.to(device, network.pos_embed.dtype)
    with _evaluating(network), torch.inference_mode():
        one = _time(lambda: network(images[:1]), device, repeats, warmup, max_seconds)
        batch = _time(lambda: network(images), device, repeats, warmup, max_seconds)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return Speed(
        latency_ms=1e3 * statistics.median(one),
        images_per_s=batch_size / statistics.median(batch),
        batch_size=batch_size,
        image_size=arch.image_size,
        repeats=min(len(one), len(batch)),
        device=name,
        num_threads=torch.get_num_threads(),
    )


def _time(
    run: Callable[[], Tensor], device: torch.device, repeats: int, warmup: int, max_seconds: float
) -> list[float]:
    """Seconds of each timed pass."""
    for _ in range(warmup):
        run()
    seconds: list[float] = []
    while len(seconds) < repeats and (len(seconds) < 3 or sum(seconds) < max_seconds):
        _wait_for(device)
        start = time.perf_counter()
        run()
        _wait_for(device)
        seconds.append(time.perf_counter() - start)
    return seconds


def _wait_for(device: torch.device) -> None:
    """Returns when the device has done all that was asked of it; only the CPU has always done so."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; after it every module is in the mode in which it was."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


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
        self.register_buffer("permutation", with_inverse(torch.tensor(fixed_permutation(side * side, 0, 0, 1))))
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
