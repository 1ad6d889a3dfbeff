"""How layers multiply on a CPU: in another way than torch's usual one where that gives the same result sooner.

The rules are functions of the processor, the precision, the shape and the number of threads, never of a timing. So a
network gives the same result in all processes of a machine that have as many threads (`benchmarks/speed` measures what
the rules gain):

- Attention in bf16 multiplies queries, keys and values by plain products. torch's fused kernel is slower in bf16.
- Under autocast to bf16, convolutions in groups stay in fp32, in which they are faster.
- The stem's convolutions have the channels last: in bf16, and those of 3x3 in fp32 on processors with AVX-512.
- Linear layers in fp32 are pointwise convolutions, from some size on, on processors of AMD with AVX-512. torch leaves
  convolutions to oneDNN, which uses AVX-512, and `linear` to MKL, which uses AVX2 on processors of AMD. How much that
  gains depends on how wide a processor's units for AVX-512 are, so that Zen 5 has a lower limit than Zen 4.

The rules hold for real tensors alone. What traces a network (`torch.compile`, `torch.export`, fvcore, `torch.fx`) sees
`linear` and `scaled_dot_product_attention`, and so does every device but the CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from functools import cache, lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MIN_CONVOLUTION_IMAGES = 16
"""Images from which on torch leaves pointwise convolutions to oneDNN, whatever the number of threads."""

MIN_CONVOLUTION_PIXELS, MAX_CONVOLUTION_PIXELS = 7, 200
"""Pixels an image between which oneDNN's pointwise convolutions are fastest."""

MIN_CONVOLUTION_TOKENS = 3072
"""Tokens of a batch from which on it is faster with AVX-512 in halves, as Zen 4 has it."""

MIN_CONVOLUTION_MULTIPLICATIONS = 6_000_000
"""Multiplications of each thread from which on it is faster with AVX-512 in full width, as Zen 5 has it."""


@cache
def processor_capabilities() -> Mapping[str, object]:
    """Returns what torch knows of the processor's instructions, by name; nothing in versions that do not tell."""
    read = getattr(torch.cpu, "get_capabilities", None)
    return {} if read is None else dict(read())


def multiplies_bf16(device: torch.device) -> bool:
    """Returns whether a device has instructions that multiply bf16 numbers, so that bf16 saves time."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    known = processor_capabilities()
    return device.type == "cpu" and bool(known.get("avx512_bf16") or known.get("amx_bf16"))


def project(layer: nn.Linear, tokens: Tensor) -> Tensor:
    """Returns `layer(tokens)`: (B, N, D) to (B, N, D')."""
    if _is_in_fp32_here(tokens) and _is_plain(layer) and _convolution_is_faster(layer, tokens):
        # A pointwise convolution treats every pixel alike, so all tokens may be spread over any number of images.
        images = _num_images(tokens.shape[0] * tokens.shape[1])
        pixels = tokens.reshape(images, -1, 1, layer.in_features).permute(0, 3, 1, 2)  # channels last
        projected = F.conv2d(pixels, layer.weight[:, :, None, None], layer.bias)
        return projected.permute(0, 2, 3, 1).reshape(*tokens.shape[:2], layer.out_features)
    linear: Tensor = layer(tokens)
    return linear


def _is_plain(layer: nn.Linear) -> bool:
    """Returns whether calling a layer multiplies by its weight and does nothing else, such as hooks and pruning do."""
    hooks = (layer._forward_pre_hooks, layer._forward_hooks, layer._backward_pre_hooks, layer._backward_hooks)
    return type(layer) is nn.Linear and not any(hooks) and "forward" not in vars(layer)


def attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Returns softmax attention over tokens: (B, H, N, d) each, to (B, H, N, d)."""
    if not (_is_computed_here(queries) and queries.dtype == torch.bfloat16):
        return F.scaled_dot_product_attention(queries, keys, values)
    if queries.shape[-2] == keys.shape[-2] == 1:
        return values  # a token that sees itself alone
    scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-2, -1)
    attended: Tensor = scores.softmax(dim=-1) @ values
    return attended


def convolve_groups(layer: nn.Module, features: Tensor) -> Tensor:
    """Returns `layer(features)` of a convolution in groups: (B, D, H, W) to (B, D', H', W')."""
    with torch.autocast("cpu", enabled=False) if _is_autocast_here(features) else nullcontext():
        convolved: Tensor = layer(features)
    return convolved


def with_channels_last(images: Tensor, also_in_fp32: bool) -> Tensor:
    """Returns images (B, channels, H, W) in the layout that a stem convolves fastest.

    Args:
        images: What is convolved.
        also_in_fp32: Whether the channels come last in fp32 too, which large patches do not gain from.
    """
    is_faster = _is_autocast_here(images) or (also_in_fp32 and _is_in_fp32_here(images) and _has_avx512())
    return images.to(memory_format=torch.channels_last) if is_faster else images


def _is_autocast_here(tensor: Tensor) -> bool:
    """Returns whether layers cast a tensor in fp32 to bf16."""
    return _is_computed_here(tensor) and tensor.dtype == torch.float32 and torch.is_autocast_enabled("cpu")


def _is_in_fp32_here(tensor: Tensor) -> bool:
    """Returns whether layers multiply a tensor in fp32."""
    return _is_computed_here(tensor) and tensor.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


def _is_computed_here(tensor: Tensor) -> bool:
    """Returns whether a tensor is real and on the CPU, not one by which something traces the network."""
    # Tracers pass subclasses of `Tensor`, or proxies that are no tensors; `torch.compile` alone shows plain ones.
    return (
        type(tensor) is Tensor
        and tensor.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
    )


def _convolution_is_faster(layer: nn.Linear, tokens: Tensor) -> bool:
    if not (_has_avx512() and _is_by_amd()):
        return False
    num_tokens = tokens.shape[0] * tokens.shape[1]
    if _has_wide_avx512():
        multiplications = num_tokens * layer.in_features * layer.out_features
        is_large = multiplications >= MIN_CONVOLUTION_MULTIPLICATIONS * torch.get_num_threads()
    else:
        is_large = num_tokens >= MIN_CONVOLUTION_TOKENS
    return is_large and _num_images(num_tokens) > 0


@lru_cache(maxsize=1024)
def _num_images(num_tokens: int) -> int:
    """Returns over how many images of equal size tokens are spread: the least number that will do, 0 if none does."""
    least = max(MIN_CONVOLUTION_IMAGES, -(-num_tokens // MAX_CONVOLUTION_PIXELS))
    numbers = range(least, num_tokens // MIN_CONVOLUTION_PIXELS + 1)
    return next((images for images in numbers if num_tokens % images == 0), 0)


@cache
def _has_avx512() -> bool:
    return bool(processor_capabilities().get("avx512_f"))


@cache
def _is_by_amd() -> bool:
    return str(processor_capabilities().get("cpu_name", "")).startswith("AMD")


@cache
def _has_wide_avx512() -> bool:
    """Returns whether a processor of AMD multiplies 512 bits at once: Zen 5, the first of AMD's with AVX-VNNI."""
    return bool(processor_capabilities().get("avx_vnni"))
