"""The Sliced Recursive Transformer, for every legal architecture, from torch alone.

Images go through the stem, stages and pooling convolutions as (B, D, h, w); inside a stage they are tokens (B, N, D) in
raster order. A shared block is registered once and applied as often as its stage recurs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from math import gcd, prod
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sret_nas.arch.config import ArchConfig, StageConfig
from sret_nas.errors import UserError
from sret_nas.nn.layers import NLL, NORM_EPS, Block, Stem
from sret_nas.nn.weight_shapes import network_shapes
from sret_nas.nn.weights import WeightsFile, check_layout, layout_of, on_meta_device, write_weights

MIN_IMAGE_SIZE = 8
"""Side in pixels, as `ArchConfig.image_size` has it: below, the stem has nothing left to see."""

MAX_PERMUTED = 2_000_000
"""Numbers of all permutations of a network that is loaded, unless it has more weights; a million takes a second."""

Application = tuple[int, int, int]
"""Stage, block and recursion, each counted from 0."""


@lru_cache(maxsize=256)  # constants of the architecture: sorting by Python's generator takes milliseconds each
def fixed_permutation(num_tokens: int, stage: int, block: int, recursion: int) -> tuple[int, ...]:
    """The order in which evaluation slices the tokens: a function of its arguments alone, for ever.

    It does not depend on how many recursions are configured or run, on torch, or on any generator's state: it uses
    only what Python promises never to change, seeding by text and `random()`.
    """
    draws = random.Random(f"{num_tokens} {stage} {block} {recursion}")
    return tuple(sorted(range(num_tokens), key=lambda _: draws.random()))


def permutation_pair(order: Tensor) -> Tensor:
    """A permutation (N,) and, below it, its inverse: (2, N)."""
    return torch.stack((order, order.argsort()))


class FixedPermutations:
    """Fixed permutations as tensors, each with its inverse and made once; kept by what builds many networks."""

    def __init__(self) -> None:
        self._made: dict[tuple[torch.device, int, int, int, int], Tensor] = {}

    @torch.inference_mode(False)
    def on(self, device: torch.device, num_tokens: int, stage: int, block: int, recursion: int) -> Tensor:
        """Returns a (2, N) tensor. Never an inference tensor, whoever asks first: training would refuse one."""
        key = device, num_tokens, stage, block, recursion
        if key not in self._made:
            order = fixed_permutation(num_tokens, stage, block, recursion)
            self._made[key] = permutation_pair(torch.tensor(order, device=device))
        return self._made[key]


def drop_path_rates(num_applications: int, nominal: float) -> list[float]:
    """Stochastic depth of each block application: 0 for the first, `nominal` for the last, linear between.

    A single application gets the nominal rate. (The public code counts distinct blocks and never reaches it.)
    """
    if num_applications == 1:
        return [nominal]
    return [nominal * number / (num_applications - 1) for number in range(num_applications)]


class Stage(nn.Module):
    """The blocks of one stage, the NLLs of each block, and the fixed permutations that evaluation slices by."""

    def __init__(self, config: StageConfig, number: int, num_tokens: int) -> None:
        super().__init__()
        self.config = config
        self.number = number
        self.num_tokens = num_tokens
        self.blocks = nn.ModuleList(Block(config.width, config.heads, config.mlp_hidden) for _ in range(config.blocks))
        self.nlls = nn.ModuleList(
            nn.ModuleList(NLL(config.width, config.nll_hidden) for _ in range(config.num_nlls))
            for _ in range(config.blocks)
        )
        for block, recursion in self.permuted_applications():
            buffer = torch.empty(2, num_tokens, dtype=torch.int64)
            if not buffer.is_meta:
                buffer.copy_(permutation_pair(torch.tensor(fixed_permutation(num_tokens, number, block, recursion))))
            self.register_buffer(f"permutation_{block}_{recursion}", buffer, persistent=False)
        self.register_load_state_dict_post_hook(_restore_permutations)  # type: ignore[no-untyped-call]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves or converts all tensors. Permutations keep their values even in `to_empty`, where others do not."""
        before = {name: self.get_buffer(name) for name, _ in self._permutations()}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, application in self._permutations():
            buffer = self.get_buffer(name)
            if buffer is not before[name] and not buffer.is_meta:
                whole = self._fixed(application, buffer.device) if before[name].is_meta else before[name]
                buffer.copy_(whole)
        return self

    def _permutations(self) -> list[tuple[str, tuple[int, int]]]:
        """The buffers of permutations by name, each with the block and recursion that it is for."""
        return [(f"permutation_{pair[0]}_{pair[1]}", pair) for pair in self.permuted_applications()]

    def _fixed(self, application: tuple[int, int], device: torch.device) -> Tensor:
        """Returns the fixed permutation and its inverse (2, N); never an inference tensor, which training would
        refuse."""
        with torch.inference_mode(False):
            order = fixed_permutation(self.num_tokens, self.number, *application)
            return permutation_pair(torch.tensor(order, device=device))

    def restore_permutations(self, device: torch.device) -> None:
        """Gives permutations that have no values, as those built on the meta device, the fixed ones."""
        for name, application in self._permutations():
            if self.get_buffer(name).is_meta and device.type != "meta":
                self.register_buffer(name, self._fixed(application, device).clone(), persistent=False)

    def permutes(self, recursion: int, num_tokens: int) -> bool:
        """Whether slicing in another order than the raster's has any effect and is wanted (from the second loop on)."""
        return recursion > 0 and 1 < self.config.groups[recursion] < num_tokens

    def permuted_applications(self) -> list[tuple[int, int]]:
        """The (block, recursion) pairs that permute, in the order in which they are run."""
        return [pair for pair in self.config.applications() if self.permutes(pair[1], self.num_tokens)]

    def forward(self, tokens: Tensor, recursions: int, drop_path: Sequence[float], fresh: bool) -> Tensor:
        """(B, N, D) to (B, N, D). `drop_path` has a rate for each application; `fresh` draws new permutations."""
        applications = self.config.applications(recursions)
        for (block, recursion), rate in zip(applications, drop_path, strict=True):
            permutation = self._permutation(tokens, block, recursion, fresh)
            tokens = self.blocks[block](tokens, self.config.groups[recursion], permutation, rate)
            nll = self.config.nll_after(recursion, recursions)
            if nll is not None:
                tokens = self.nlls[block][nll](tokens, rate)  # type: ignore[index]
        return tokens

    def _permutation(self, tokens: Tensor, block: int, recursion: int, fresh: bool) -> Tensor | None:
        num_tokens = int(tokens.shape[1])
        if not self.permutes(recursion, num_tokens):
            return None
        if fresh:
            return permutation_pair(torch.randperm(num_tokens, device=tokens.device))
        if num_tokens == self.num_tokens:
            kept = self.get_buffer(f"permutation_{block}_{recursion}")
            is_without_values = kept.is_meta and not tokens.is_meta
            return self._fixed((block, recursion), tokens.device) if is_without_values else kept
        order = fixed_permutation(num_tokens, self.number, block, recursion)
        return permutation_pair(torch.tensor(order, device=tokens.device))


def _restore_permutations(stage: Stage, keys: object) -> None:
    """Follows `load_state_dict`: with `assign=True` a stage that was built on the meta device has left it."""
    stage.restore_permutations(next(stage.parameters()).device)


class SReT(nn.Module):
    """A network: images (B, channels, H, W) to logits (B, classes).

    Evaluation is deterministic. In training, permutations are drawn anew at every pass from torch's generator of the
    input's device, unless `fresh_permutations` is set to False.
    """

    def __init__(self, arch: ArchConfig) -> None:
        super().__init__()
        self.arch = arch
        self.fresh_permutations = True
        widths = [stage.width for stage in arch.stages]
        side = arch.resolutions[0]
        self.stem = Stem(arch.channels, arch.stem.width, widths[0], arch.stem.strides)
        self.pos_embed = nn.Parameter(torch.zeros(1, widths[0], side, side))
        self.stages = nn.ModuleList(
            Stage(stage, number, tokens)
            for number, (stage, tokens) in enumerate(zip(arch.stages, arch.num_tokens, strict=True))
        )
        self.pools = nn.ModuleList(
            nn.Conv2d(before, after, kernel_size=3, stride=2, padding=1, groups=gcd(before, after))
            for before, after in pairwise(widths)
        )
        self.norm = nn.LayerNorm(widths[-1], eps=NORM_EPS)
        self.head = nn.Linear(widths[-1], arch.classes)
        initialise(self, self.pos_embed)

    @classmethod
    def from_yaml(cls, path: str | Path, weights: str | Path | None = None) -> SReT:
        """The network of the architecture in a YAML file, e.g. a search's result: new, or with the weights in a file.

        Raises `UserError`, also if the weights are another network's.
        """
        arch = ArchConfig.from_yaml(path)
        if weights is None:
            return cls(arch)
        network = cls.load(weights)
        if network.arch.arch_id != arch.arch_id:
            raise UserError(f"{weights} are the weights of {network.arch.arch_id}, but {path} is {arch.arch_id}")
        return network

    @classmethod
    def empty(cls, arch: ArchConfig, device: torch.device, dtype: torch.dtype) -> SReT:
        """A network whose parameters are to be written yet; its buffers are a fresh network's. Draws no numbers."""
        network = on_meta_device(lambda: cls(arch)).to(dtype).to_empty(device=device)
        for norm in batch_norms(network.stem):
            norm.reset_running_stats()
        return network

    def save(self, path: str | Path) -> None:
        """Writes the architecture and the weights, so that `load` reads them.

        A head with another number of classes may have been put in the place of the first one. Raises `UserError` for a
        network that was changed in any other way: of that, a file of this kind cannot tell.
        """
        classes = self.head.out_features if isinstance(self.head, nn.Linear) else self.arch.classes
        arch = ArchConfig.from_dict({**self.arch.to_dict(), "classes": classes}, "the network to be saved")
        state = self.state_dict()
        if empty := [name for name, tensor in state.items() if tensor.is_meta]:
            raise UserError(f"the network to be saved: {empty[0]} is on the meta device and has no values: load some")
        check_layout(network_shapes(arch), layout_of(state), "the network to be saved")
        fixed = self.fixed_permutations(torch.device("cpu"), FixedPermutations())
        replaced = [name for name, order in fixed.items() if not torch.equal(self.get_buffer(name).cpu(), order)]
        if replaced:
            raise UserError(
                f"the network to be saved: {replaced[0]} was replaced by `set_permutations`, which a file does not "
                "hold: save `state_dict()` and the permutations yourself"
            )
        write_weights(path, state, {"architecture": arch.to_dict()})

    @classmethod
    def load(cls, path: str | Path) -> SReT:
        """The network in a file of `save`, on the CPU. Raises `UserError` if the file holds none."""
        file = WeightsFile(path, "architecture")
        arch = ArchConfig.from_dict(file.header["architecture"], f"{path}: architecture")
        check_layout(network_shapes(arch), file.layout, str(path))
        _check_permutations(arch, sum(prod(shape) for _, shape in file.layout.values()), str(path))
        weights = file.read()
        network = cls.empty(arch, torch.device("cpu"), weights["pos_embed"].dtype)
        network.load_state_dict(weights)
        return network

    def forward(self, images: Tensor, max_recursions: int | Sequence[int] | None = None) -> Tensor:
        """Logits (B, classes) of images (B, channels, H, W).

        `max_recursions` stops every stage after at most that many recursions (one number, or one per stage): it is
        the network `arch.with_max_recursions(...)` on the same weights, its drop path included. The position embedding
        is resized to images of another size than `arch.image_size`. Raises `UserError` for images that do not fit.
        """
        arch = self.arch if max_recursions is None else self.arch.with_max_recursions(max_recursions)
        recursions = [stage.recursions for stage in arch.stages]
        rates = iter(self._drop_path_rates(recursions))
        features = self.embed(images)
        for number, stage in enumerate(arch.stages):
            features = self.run_stage(number, features, stage.recursions, [next(rates) for _ in stage.applications()])
        return self.classify(features)

    def embed(self, images: Tensor) -> Tensor:
        """Images (B, channels, H, W) through the stem, with the position embedding: (B, D, h, w)."""
        self._check_images(images)
        features: Tensor = self.stem(images)
        return features + resize_position_embedding(self.pos_embed, features.shape[2], features.shape[3])

    def run_stage(
        self, number: int, features: Tensor, recursions: int | None = None, drop_path: Sequence[float] | None = None
    ) -> Tensor:
        """Features (B, D, h, w) through the pooling before a stage, if it is not the first, and the stage itself.

        `recursions` is how many are run, all by default; `drop_path` has a rate for each application, by default 0.
        """
        stage = self._stages()[number]
        recursions = stage.config.recursions if recursions is None else recursions
        if number > 0:
            features = self.pools[number - 1](features)
        # Tokens in memory order make every feature map between stages channels-last: no copy is needed again.
        tokens: Tensor = features.flatten(2).transpose(1, 2).contiguous()
        rates = [0.0] * (stage.config.blocks * recursions) if drop_path is None else drop_path
        tokens = stage(tokens, recursions, rates, self.training and self.fresh_permutations)
        return tokens.transpose(1, 2).reshape(features.shape[0], -1, *features.shape[2:])

    def classify(self, features: Tensor) -> Tensor:
        """The last stage's features (B, D, h, w) to logits (B, classes)."""
        logits: Tensor = self.head(self.norm(F.adaptive_avg_pool2d(features, 1).flatten(1)))
        return logits

    def permuted_applications(self) -> list[Application]:
        """The applications that permute their tokens, in the order in which they are run."""
        return [
            (number, block, recursion)
            for number, stage in enumerate(self._stages())
            for block, recursion in stage.permuted_applications()
        ]

    def fixed_permutations(self, device: torch.device, made: FixedPermutations) -> dict[str, Tensor]:
        """The fixed permutations of a fresh network of this architecture, by the names of their buffers."""
        return {
            f"stages.{stage}.permutation_{block}_{recursion}": made.on(
                device, self.arch.num_tokens[stage], stage, block, recursion
            )
            for stage, block, recursion in self.permuted_applications()
        }

    def set_permutations(self, permutations: Mapping[Application, Sequence[int] | Tensor]) -> None:
        """Replaces the fixed permutations of some applications: slice g sees tokens `p[g * n : (g + 1) * n]`.

        Raises `ValueError` for an application that does not permute or an order that is not one of its tokens.
        """
        for (number, block, recursion), given in permutations.items():
            if (number, block, recursion) not in self.permuted_applications():
                raise ValueError(
                    f"only {self.permuted_applications()} permute, got (stage, block, recursion) "
                    f"= {(number, block, recursion)}"
                )
            buffer = self._stages()[number].get_buffer(f"permutation_{block}_{recursion}")
            order = torch.as_tensor(given, dtype=torch.int64)
            if sorted(order.tolist()) != list(range(buffer.shape[1])):
                raise ValueError(f"a permutation must hold each of 0 to {buffer.shape[1] - 1} once, got {order}")
            buffer.copy_(permutation_pair(order))

    def _stages(self) -> list[Stage]:
        return [stage for stage in self.stages if isinstance(stage, Stage)]

    def _drop_path_rates(self, recursions: Sequence[int]) -> list[float]:
        total = sum(stage.blocks * count for stage, count in zip(self.arch.stages, recursions, strict=True))
        return drop_path_rates(total, self.arch.drop_path if self.training else 0.0)

    def _check_images(self, images: Tensor) -> None:
        if images.dim() != 4 or images.shape[1] != self.arch.channels:
            raise UserError(
                f"images must have the shape (batch, {self.arch.channels}, height, width), got {tuple(images.shape)}"
            )
        if min(images.shape[2:]) < MIN_IMAGE_SIZE:
            raise UserError(f"images must be at least {MIN_IMAGE_SIZE} pixels a side, got {tuple(images.shape)}")


def _check_permutations(arch: ArchConfig, num_weights: int, source: str) -> None:
    """Raises `UserError` for an architecture whose permutations are much more than its weights: nobody trained it."""
    total = 0
    for number, (stage, tokens) in enumerate(zip(arch.stages, arch.num_tokens, strict=True)):
        permuting = sum(1 < groups < tokens for groups in stage.groups[1 : stage.recursions])
        total += permuting * stage.blocks * tokens
        if total > max(MAX_PERMUTED, num_weights):
            raise UserError(
                f"{source}: stages[{number}] permutes {tokens:,} tokens in {permuting * stage.blocks:,} places, which "
                f"makes {total:,} numbers for {num_weights:,} weights: at most {MAX_PERMUTED:,} are made"
            )


def batch_norms(stem: Stem) -> list[nn.BatchNorm2d]:
    """The stem's, which are all that there are."""
    return [norm for norm in stem.norms if isinstance(norm, nn.BatchNorm2d)]


def initialise(network: nn.Module, pos_embed: Tensor) -> None:
    """Linear layers and the position embedding small (0.02, as in ViT and DeiT), so that every block starts near
    the identity that its residual coefficients of 1 let through; convolutions such that they keep the variance:
    those of the stem through a ReLU, those of pooling, which nothing follows, as they are. Biases are 0."""
    nn.init.trunc_normal_(pos_embed, std=0.02)
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
        elif isinstance(module, nn.Conv2d) and name.startswith("stem."):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="linear")
        if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
            nn.init.zeros_(module.bias)


def resize_position_embedding(embedding: Tensor, height: int, width: int) -> Tensor:
    """(1, D, h, w) to (1, D, height, width), bicubic; the embedding itself where the size is the same already."""
    if tuple(embedding.shape[2:]) == (height, width):
        return embedding
    return F.interpolate(embedding, size=(height, width), mode="bicubic", align_corners=False)


def resized_state(state: Mapping[str, Tensor], arch: ArchConfig) -> dict[str, Tensor]:
    """The `state_dict` of a network of another image size, for a network of `arch`: its position embedding resized."""
    side = arch.resolutions[0]
    return {**state, "pos_embed": resize_position_embedding(state["pos_embed"], side, side)}
