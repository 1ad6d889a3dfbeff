"""How products are computed on a CPU: where another way than torch's usual one gives the same result sooner.

Two rules, each a function of the processor, the precision and the shape, never of a timing, so that the same network
gives the same result in every process of a machine (`benchmarks/speed` measures what they gain):

- Attention in bf16 multiplies queries, keys and values by plain products. torch's fused kernel is slower there.
- Linear layers in fp32 are pointwise convolutions on AMD processors with AVX-512, for many tokens. torch gives
  convolutions to oneDNN, which uses AVX-512; it gives `linear` to MKL, which uses AVX2 on processors of AMD.

What traces a network (`torch.compile`, `torch.export`, fvcore, `torch.fx`) sees `linear` and
`scaled_dot_product_attention`, and so does every device but the CPU.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MIN_CONVOLUTION_BATCH = 16
"""Images from which on torch gives pointwise convolutions to oneDNN, whatever the number of threads."""

MIN_CONVOLUTION_TOKENS = 2048
"""Tokens of a batch from which on a convolution is faster than `linear`."""


@cache
def processor_capabilities() -> dict[str, object]:
    """Returns what torch knows of the processor's instructions, by name; nothing for versions that do not tell."""
    read = getattr(torch.cpu, "get_capabilities", None)
    return {} if read is None else dict(read())


def multiplies_bf16(device: torch.device) -> bool:
    """Returns whether a device multiplies bf16 numbers by instructions of its own, so that bf16 saves time."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = processor_capabilities()
    return device.type == "cpu" and bool(known.get("avx512_bf16") or known.get("amx_bf16"))


@cache
def _prefers_onednn() -> bool:
    known = processor_capabilities()
    return str(known.get("cpu_name", "")).startswith("AMD") and bool(known.get("avx512_f"))


def _is_plain(tensor: Tensor) -> bool:
    """Returns whether a tensor is on the CPU and computed now, not traced for later."""
    # Tracers pass subclasses of `Tensor`, or proxies that are no tensors at all.
    return (
        type(tensor) is Tensor
        and tensor.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
    )


def project(layer: nn.Linear, tokens: Tensor) -> Tensor:
    """Returns `layer(tokens)`, (B, N, D_out), of tokens (B, N, D_in)."""
    if not (
        _is_plain(tokens) and type(layer) is nn.Linear and tokens.dtype == torch.float32 and _prefers_onednn()
        and len(tokens) >= MIN_CONVOLUTION_BATCH and tokens.shape[0] * tokens.shape[1] >= MIN_CONVOLUTION_TOKENS
        and not torch.is_autocast_enabled("cpu")
    ):
        return layer(tokens)
    pixels = tokens.unsqueeze(2).permute(0, 3, 1, 2)
    return F.conv2d(pixels, layer.weight[:, :, None, None], layer.bias).permute(0, 2, 3, 1).squeeze(2)


def attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Returns softmax attention, of (B, H, N, d) each."""
    if not (_is_plain(queries) and queries.dtype == torch.bfloat16):
        return F.scaled_dot_product_attention(queries, keys, values)
    scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-2, -1)
    return scores.softmax(dim=-1) @ values
