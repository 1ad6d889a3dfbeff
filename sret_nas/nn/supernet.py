"""The supernet: one set of weights from which every network of a space takes its own, as leading slices.

Weights are entangled (AutoFormer, ICCV 2021): a narrower network uses the first rows and columns of a wider one's.
Recursion counts, loop orders, group schedules, heads and permutations own no weights and so cost none. What a network
computes is written down once, in `network.SReT`: here its parameters are replaced by slices of the shared ones.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import gcd
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sret_nas.arch import ArchConfig
from sret_nas.extent import Extent, nll_recursions, ratio_name
from sret_nas.nn.layers import NLL, NORM_EPS, Block, Stem
from sret_nas.nn.network import SReT, fixed_permutation, initialise, with_inverse

KEPT_SKELETONS = 256
"""Networks without weights that are kept, so that one that comes again need not be built again."""

Module = TypeVar("Module", bound=nn.Module)


class StageWeights(nn.Module):
    """The blocks of one stage, and for each block an NLL for every recursion that one follows."""

    def __init__(self, width: int, blocks: int, mlp_hidden: int, nll_recursions: tuple[int, ...], nll_hidden: int):
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, 1, mlp_hidden) for _ in range(blocks))
        self.nlls = nn.ModuleList(
            nn.ModuleDict({str(recursion): NLL(width, nll_hidden) for recursion in nll_recursions})
            for _ in range(blocks)
        )


@dataclass(frozen=True)
class _Slice:
    """Where a parameter of a network lies in the shared weights: its module there, its name in it, and its shape."""

    module: nn.Module
    name: str
    shape: torch.Size
    is_qkv: bool
    """Queries, keys and values lie one below the other, and each is sliced for itself."""

    def take(self) -> Tensor:
        """The leading entries in every dimension.

        `as_strided` is one node of the graph, whose backward pass pads the gradient with zeros once; slicing would be
        one for each dimension (benchmarks/supernet_speed.py).
        """
        whole: Tensor = getattr(self.module, self.name)
        if whole.shape == self.shape:
            return whole
        if not self.is_qkv:
            return whole.as_strided(self.shape, whole.stride())
        rows, *others = self.shape
        third = whole.shape[0] // 3 * whole.stride(0)
        return whole.as_strided((3, rows // 3, *others), (third, *whole.stride())).flatten(0, 1)


@dataclass(frozen=True)
class _Skeleton:
    """A network without weights, and where each of its parameters lies in the shared ones."""

    network: SReT
    slices: dict[str, _Slice]


class Supernet(nn.Module):
    """The shared weights of all networks inside an extent. `supernet(images, arch)` runs one of them.

    Nothing remembers which network ran last. The stem's BatchNorm normalises by the batch's own statistics in training
    and evaluation alike, because running averages over different networks would fit none of them: for inference,
    `extract` a network and find its statistics.
    """

    def __init__(self, extent: Extent) -> None:
        super().__init__()
        self.extent = extent
        self.fresh_permutations = True
        """Whether training draws new permutations at every pass, as `SReT` does."""
        widths = [stage.width for stage in extent.stages]
        self.stem = Stem(extent.channels, extent.stem_width, widths[0], extent.strides)
        _forget_statistics(self.stem)
        self.pos_embed = nn.Parameter(torch.zeros(1, widths[0], extent.side, extent.side))
        self.stages = nn.ModuleList(
            StageWeights(stage.width, stage.blocks, stage.mlp_hidden, stage.nll_recursions, stage.nll_hidden)
            for stage in extent.stages
        )
        self.pools = nn.ModuleList(
            nn.ModuleDict(
                {
                    name: nn.Conv2d(before, after, kernel_size=3, stride=2, padding=1, groups=gcd(before, after))
                    for name, (before, after) in extent.pool_ratios(number).items()
                }
            )
            for number in range(len(widths) - 1)
        )
        self.norm = nn.LayerNorm(widths[-1], eps=NORM_EPS)
        self.head = nn.Linear(widths[-1], extent.classes)
        initialise(self, self.pos_embed)
        self._skeletons: OrderedDict[ArchConfig, _Skeleton] = OrderedDict()

    def forward(self, images: Tensor, arch: ArchConfig) -> Tensor:
        """Logits (B, classes) of one network on images (B, channels, H, W); gradients go to the shared weights.

        Raises `UserError` for a network that is not in here, or images that do not fit.
        """
        skeleton = self._skeleton(arch)
        network = skeleton.network
        if network.training != self.training:
            network.train(self.training)
        network.fresh_permutations = self.fresh_permutations
        weights = {name: place.take() for name, place in skeleton.slices.items()}
        values = {**weights, **_permutations(network, self.pos_embed.device)}
        logits: Tensor = functional_call(network, values, (images,), tie_weights=False)
        return logits

    @torch.no_grad()
    def extract(self, arch: ArchConfig) -> SReT:
        """A network of its own with copies of the shared weights, on their device and of their type.

        The statistics of its stem's BatchNorm are those of a fresh network: find them before it is evaluated. Raises
        `UserError` for a network that is not in here.
        """
        skeleton = self._skeleton(arch)
        network = empty_network(arch, self.pos_embed.device, self.pos_embed.dtype)
        for name, parameter in network.named_parameters():
            parameter.copy_(skeleton.slices[name].take())
        return network

    def __getstate__(self) -> dict[str, Any]:
        """What a copy takes along: everything but the skeletons, which it builds again when it needs them."""
        return {**self.__dict__, "_skeletons": OrderedDict()}

    def _skeleton(self, arch: ArchConfig) -> _Skeleton:
        """The network without weights; of those used before, the last few are kept."""
        if arch in self._skeletons:
            self._skeletons.move_to_end(arch)
            return self._skeletons[arch]
        self.extent.check(arch)
        network = without_numbers(lambda: SReT(arch))
        _forget_statistics(network.stem)
        slices = {name: self._slice(name, weight.shape, arch) for name, weight in network.named_parameters()}
        self._skeletons[arch] = _Skeleton(network, slices)
        if len(self._skeletons) > KEPT_SKELETONS:
            self._skeletons.popitem(last=False)
        return self._skeletons[arch]

    def _slice(self, name: str, shape: torch.Size, arch: ArchConfig) -> _Slice:
        """Where the parameter of that name in a network of `arch` lies here."""
        path = name.split(".")
        if path[0] == "pools":
            number = int(path[1])
            path.insert(2, ratio_name(arch.stages[number].width, arch.stages[number + 1].width))
        elif "nlls" in path:
            path[4] = str(nll_recursions(arch.stages[int(path[1])])[int(path[4])])
        module = self.get_submodule(".".join(path[:-1]))
        whole = getattr(module, path[-1]).shape
        assert all(part <= most for part, most in zip(shape, whole, strict=True)), (name, shape, whole)
        return _Slice(module, path[-1], shape, is_qkv="qkv" in path)


def without_numbers(build: Callable[[], Module]) -> Module:
    """What `build` makes, on the meta device: shapes only. No generator's state changes."""
    with torch.device("meta"):
        return build()


def empty_network(arch: ArchConfig, device: torch.device, dtype: torch.dtype) -> SReT:
    """A network whose parameters are to be written yet; its buffers are a fresh network's."""
    network = without_numbers(lambda: SReT(arch)).to(dtype).to_empty(device=device)
    for norm in _norms(network.stem):
        norm.reset_running_stats()
    for name, permutation in _permutations(network, device).items():
        network.get_buffer(name).copy_(permutation)
    return network


def _forget_statistics(stem: Stem) -> None:
    """Makes the BatchNorms of a stem normalise by a batch's own statistics, always."""
    for norm in _norms(stem):
        norm.track_running_stats = False
        norm.running_mean = norm.running_var = norm.num_batches_tracked = None


def _norms(stem: Stem) -> list[nn.BatchNorm2d]:
    return [norm for norm in stem.norms if isinstance(norm, nn.BatchNorm2d)]


def _permutations(network: SReT, device: torch.device) -> dict[str, Tensor]:
    """The fixed permutations of a network by the names of its buffers."""
    return {
        f"stages.{stage}.permutation_{block}_{recursion}": _permutation(
            network.arch.num_tokens[stage], stage, block, recursion, device
        )
        for stage, block, recursion in network.permuted_applications()
    }


@lru_cache(maxsize=1024)
@torch.inference_mode(False)
def _permutation(num_tokens: int, stage: int, block: int, recursion: int, device: torch.device) -> Tensor:
    """Never an inference tensor, whoever asks first: training would refuse one."""
    return with_inverse(torch.tensor(fixed_permutation(num_tokens, stage, block, recursion), device=device))
