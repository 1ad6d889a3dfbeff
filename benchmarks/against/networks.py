"""The networks of the comparison, each of its kind that comes nearest to a number of multiply-adds."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from functools import cache
from math import log
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.against.setting import CHANNELS, CLASSES, Setting
from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.arch.presets import preset
from sret_nas.feasible.feasible_set import FeasibleSet
from sret_nas.nn.flops import attention_flops
from sret_nas.nn.network import SReT

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=".*torch.jit.*")  # fvcore scripts a loss as it is imported
    from fvcore.nn import FlopCountAnalysis

LEAST_SHARE = 0.97
"""Least cost of a random network over its budget."""


class PlainNetwork(nn.Module):
    """A network without recursions, in the form in which this project trains networks."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        # Convolutions are up to 1.8 times as fast with the channels last.
        self.network = network.to(memory_format=torch.channels_last)
        self.arch = SimpleNamespace(max_recursions=1)
        self.register_buffer("pos_embed", torch.empty(0), persistent=False)  # tells the device

    def forward(self, images: Tensor, max_recursions: int | None = None) -> Tensor:
        """Returns logits of shape (B, classes)."""
        logits: Tensor = self.network(images.to(memory_format=torch.channels_last))
        return logits


def build(kind: str, budget: int, seed: int, setting: Setting, found: ArchConfig | None) -> nn.Module:
    """Returns a newly initialised network of a kind. Seeds torch's global generator."""
    torch.manual_seed(seed)
    if kind in TIMM:
        return PlainNetwork(nearest(lambda size: TIMM[kind](size, setting.image_size), budget, setting.image_size))
    arch = found if kind == "found" else sret_arch(kind, budget, seed, setting)
    assert arch is not None, "a search has to find it first"
    return SReT(arch)


def sret_arch(kind: str, budget: int, seed: int, setting: Setting) -> ArchConfig:
    """Returns SReT-T's shape with fewer channels, or a random network, another one for every seed."""
    if kind == "published shape":
        shapes = map(_scaled_preset(setting), range(1, preset("sret_t").stages[0].width))
        return min(shapes, key=lambda arch: abs(log(cost_of(arch).flops / budget)))
    window = FeasibleSet(setting.space, Budget(flops_min=round(LEAST_SHARE * budget), flops_max=budget))
    return window.sample(np.random.default_rng([seed, budget]))


def _scaled_preset(setting: Setting) -> Callable[[int], ArchConfig]:
    """Returns SReT-T with a number of channels in each head, of which it has 32."""

    def scaled(head_width: int) -> ArchConfig:
        whole = preset("sret_t").to_dict()
        stages = [{**stage, "width": stage["heads"] * head_width} for stage in whole["stages"]]
        stem = {**whole["stem"], "width": head_width}
        changes = {"image_size": setting.image_size, "classes": CLASSES, "channels": CHANNELS, "drop_path": 0.0}
        return ArchConfig.from_dict({**whole, "stages": stages, "stem": stem, **changes})

    return scaled


def _vit(size: int, image_size: int) -> nn.Module:
    """Returns DeiT's shape (three heads, MLPs four times as wide) at half its depth, with patches of 4 px."""
    from timm.layers import set_fused_attn
    from timm.models import VisionTransformer

    set_fused_attn(False)  # torch's fused attention is three to five times slower in bf16 on CPUs

    return VisionTransformer(
        img_size=image_size, patch_size=4, in_chans=CHANNELS, num_classes=CLASSES, embed_dim=3 * size, depth=6,
        num_heads=3, mlp_ratio=4.0,
    )  # fmt: skip


def _mobilenet(size: int, image_size: int) -> nn.Module:
    """Returns MobileNetV3-Small with `size` percent of its channels, and a stem that keeps the size of small images."""
    from timm.models import mobilenetv3

    # timm has names for a few widths only; its own generator takes any.
    network: nn.Module = mobilenetv3._gen_mobilenet_v3("mobilenetv3_small_100", size / 100, num_classes=CLASSES)
    stem = network.get_submodule("conv_stem")
    assert isinstance(stem, nn.Conv2d)
    stem.stride = (1, 1)
    return network


def _resnet(size: int, image_size: int) -> nn.Module:
    """Returns a ResNet of one basic block a stage, whose stem halves the image once instead of twice."""
    from timm.models import ResNet
    from timm.models.resnet import BasicBlock

    channels = tuple(size * 2**stage for stage in range(4))
    block: Any = BasicBlock  # timm's annotation asks for a block where it takes a class
    network: nn.Module = ResNet(block, (1, 1, 1, 1), num_classes=CLASSES, in_chans=CHANNELS, channels=channels)
    network.conv1 = nn.Conv2d(CHANNELS, 64, 3, stride=2, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return network


TIMM: dict[str, Callable[[int, int], nn.Module]] = {"ViT": _vit, "MobileNetV3": _mobilenet, "ResNet": _resnet}
"""For each kind, what makes a network of a size and an input size."""


def nearest(make: Callable[[int], nn.Module], flops: int, image_size: int) -> nn.Module:
    """Returns the network of the size whose FLOPs come nearest to a number, by bisection.

    Raises `ValueError` if even the smallest has more.
    """

    @cache
    def flops_at(size: int) -> int:
        with torch.random.fork_rng(devices=[]):
            return flops_of(make(size), image_size)

    high = 1
    while flops_at(high) <= flops:
        high *= 2
    low = high // 2
    if low == 0:
        raise ValueError(f"the smallest network takes more than {flops:,} multiply-adds")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if flops_at(middle) <= flops else (low, middle)
    return make(min((low, high), key=lambda size: abs(log(flops_at(size) / flops))))


def flops_of(network: nn.Module, image_size: int) -> int:
    """Returns the multiply-adds of a network for one image, traced by fvcore with a rule for fused attention."""
    if isinstance(network, SReT):
        return cost_of(network.arch).flops
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    was_training = network.training
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.*")
        analysis = FlopCountAnalysis(network.eval(), torch.zeros(1, CHANNELS, image_size, image_size))
        # What fvcore has no rule for here is element-wise, but for fused attention.
        rule = analysis.set_op_handle("aten::scaled_dot_product_attention", attention_flops)
        total = int(rule.unsupported_ops_warnings(False).total())
    network.train(was_training)
    return total


def params_of(network: nn.Module) -> int:
    """Returns the number of parameters."""
    return sum(parameter.numel() for parameter in network.parameters())
