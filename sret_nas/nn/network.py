"""The Sliced Recursive Transformer (SReT), for every valid `ArchConfig`.

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
"""Smallest side of an image in pixels, the lower bound of `ArchConfig.image_size`."""

MAX_PERMUTED = 2_000_000
"""Entries of all permutations of a loaded network together, unless it has more weights. A million takes a second."""

Application = tuple[int, int, int]
"""Stage, block and recursion, each counted from 0."""


@lru_cache(maxsize=256)  # sorting by Python's generator takes milliseconds per permutation
def fixed_permutation(num_tokens: int, stage: int, block: int, recursion: int) -> tuple[int, ...]:
    """Returns the order in which evaluation slices the tokens, a function of its arguments alone.

    The order is part of a trained network, so it must never change. It does not depend on the number of recursions,
    on torch, or on any generator's state. It uses only what Python guarantees to stay the same between versions:
    seeding by text, and `random()` (not `shuffle`).
    """
    rng = random.Random(f"{num_tokens} {stage} {block} {recursion}")
    return tuple(sorted(range(num_tokens), key=lambda _: rng.random()))


def permutation_pair(order: Tensor) -> Tensor:
    """Stacks a permutation (N,) and its inverse into (2, N)."""
    return torch.stack((order, order.argsort()))


class FixedPermutations:
    """A cache of fixed permutations, as tensors with their inverses, for owners that build many networks."""

    def __init__(self) -> None:
        self._tensors: dict[tuple[torch.device, int, int, int, int], Tensor] = {}

    @torch.inference_mode(False)
    def on(self, device: torch.device, num_tokens: int, stage: int, block: int, recursion: int) -> Tensor:
        """Returns a permutation and its inverse (2, N).

        Inference mode is off here, because autograd refuses inference tensors: one that was first asked for in
        evaluation could not be used in training.
        """
        key = device, num_tokens, stage, block, recursion
        if key not in self._tensors:
            order = fixed_permutation(num_tokens, stage, block, recursion)
            self._tensors[key] = permutation_pair(torch.tensor(order, device=device))
        return self._tensors[key]


def drop_path_rates(num_applications: int, nominal: float) -> list[float]:
    """Returns the drop rate of each block application: 0 for the first, `nominal` for the last, linear between.

    A single application gets the nominal rate. (The public code counts distinct blocks instead, so that its rates
    never reach the nominal one.)
    """
    if num_applications == 1:
        return [nominal]
    return [nominal * index / (num_applications - 1) for index in range(num_applications)]


class Stage(nn.Module):
    """The blocks of one stage, the NLLs of each block, and the fixed permutations for evaluation."""

    def __init__(self, config: StageConfig, index: int, num_tokens: int) -> None:
        super().__init__()
        self.config = config
        self.index = index
        self.num_tokens = num_tokens
        self.blocks = nn.ModuleList(Block(config.width, config.heads, config.mlp_hidden) for _ in range(config.blocks))
        self.nlls = nn.ModuleList(
            nn.ModuleList(NLL(config.width, config.nll_hidden) for _ in range(config.num_nlls))
            for _ in range(config.blocks)
        )
        for block, recursion in self.permuted_applications():
            buffer = torch.empty(2, num_tokens, dtype=torch.int64)
            if not buffer.is_meta:
                buffer.copy_(permutation_pair(torch.tensor(fixed_permutation(num_tokens, index, block, recursion))))
            self.register_buffer(f"permutation_{block}_{recursion}", buffer, persistent=False)
        self.register_load_state_dict_post_hook(_restore_permutations)  # type: ignore[no-untyped-call]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves or converts all tensors, as `nn.Module` does, but keeps the values of permutations.

        `to_empty` leaves new tensors uninitialised. That is right for weights, which a state dict then fills, but
        permutations are in no state dict.
        """
        before = {name: self.get_buffer(name) for name, _ in self._permutations()}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, application in self._permutations():
            buffer = self.get_buffer(name)
            if buffer is not before[name] and not buffer.is_meta:
                buffer.copy_(self._fixed(application, buffer.device) if before[name].is_meta else before[name])
        return self

    def _permutations(self) -> list[tuple[str, tuple[int, int]]]:
        """Returns the names of the permutation buffers, each with its (block, recursion)."""
        return [(f"permutation_{pair[0]}_{pair[1]}", pair) for pair in self.permuted_applications()]

    def _fixed(self, application: tuple[int, int], device: torch.device) -> Tensor:
        """Returns the fixed permutation and its inverse (2, N), never as an inference tensor."""
        with torch.inference_mode(False):
            order = fixed_permutation(self.num_tokens, self.index, *application)
            return permutation_pair(torch.tensor(order, device=device))

    def restore_permutations(self, device: torch.device) -> None:
        """Replaces permutations on the meta device, which have no values, by the fixed ones on `device`."""
        for name, application in self._permutations():
            if self.get_buffer(name).is_meta and device.type != "meta":
                self.register_buffer(name, self._fixed(application, device).clone(), persistent=False)

    def permutes(self, recursion: int, num_tokens: int) -> bool:
        """Returns whether a recursion permutes its tokens.

        The first recursion never does. With one slice, or one token per slice, the order makes no difference.
        """
        return recursion > 0 and 1 < self.config.groups[recursion] < num_tokens

    def permuted_applications(self) -> list[tuple[int, int]]:
        """Returns the (block, recursion) pairs that permute, in the order in which they run."""
        return [pair for pair in self.config.applications() if self.permutes(pair[1], self.num_tokens)]

    def forward(self, tokens: Tensor, recursions: int, drop_path: Sequence[float], fresh: bool) -> Tensor:
        """Runs the stage on tokens (B, N, D).

        Args:
            tokens: (B, N, D).
            recursions: how often each block is applied.
            drop_path: the drop rate of each application, in the order in which they run.
            fresh: whether to draw new permutations instead of using the fixed ones.
        """
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
            buffer = self.get_buffer(f"permutation_{block}_{recursion}")
            has_no_values = buffer.is_meta and not tokens.is_meta
            return self._fixed((block, recursion), tokens.device) if has_no_values else buffer
        order = fixed_permutation(num_tokens, self.index, block, recursion)
        return permutation_pair(torch.tensor(order, device=tokens.device))


def _restore_permutations(stage: Stage, keys: object) -> None:
    """Gives a stage its permutations after `load_state_dict`.

    With `assign=True`, loading moves the weights of a stage off the meta device without a call of `_apply`.
    """
    stage.restore_permutations(next(stage.parameters()).device)


class SReT(nn.Module):
    """A network that maps images (B, channels, H, W) to logits (B, classes).

    Evaluation is deterministic. Training draws new permutations at every pass, from torch's generator of the input's
    device, unless `fresh_permutations` is set to False.
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
            Stage(stage, index, num_tokens)
            for index, (stage, num_tokens) in enumerate(zip(arch.stages, arch.num_tokens, strict=True))
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
        """Builds the network of an architecture in a YAML file, such as a search's result.

        Args:
            path: the YAML file.
            weights: a file of `save` with the network's weights; None initialises them.

        Raises `UserError` if a file cannot be read, or if the weights belong to another architecture.
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
        """Returns a network with uninitialised parameters and the buffers of a new one. Draws no random numbers."""
        network = on_meta_device(lambda: cls(arch)).to(dtype).to_empty(device=device)
        for norm in batch_norms(network.stem):
            norm.reset_running_stats()
        return network

    @classmethod
    def from_pretrained(cls, directory: str | Path) -> SReT:
        """Returns the network in a model directory, such as `train` writes, or in a training's run, on the CPU.

        Raises `UserError` if a file of the directory is missing, damaged, or does not fit the others.
        """
        from sret_nas.nn.model_directory import find_model_directory, read_model

        return read_model(find_model_directory(Path(directory)))[0]

    @property
    def current_arch(self) -> ArchConfig:
        """The architecture with as many classes as the head has now: users replace it for classes of their own."""
        classes = self.head.out_features if isinstance(self.head, nn.Linear) else self.arch.classes
        return ArchConfig.from_dict({**self.arch.to_dict(), "classes": classes}, "the network to be saved")

    def save(self, path: str | Path) -> None:
        """Writes the architecture and the weights to a file for `load`.

        The head may have been replaced by one with another number of classes. Raises `UserError` for a network that was
        changed in any other way, because the file could not describe it.
        """
        arch = self.current_arch
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
        """Returns the network in a file of `save`, on the CPU. Raises `UserError` if the file does not hold one."""
        file = WeightsFile(path, "architecture")
        arch = ArchConfig.from_dict(file.header["architecture"], f"{path}: architecture")
        check_layout(network_shapes(arch), file.layout, str(path))
        _check_permutations(arch, sum(prod(shape) for _, shape in file.layout.values()), str(path))
        weights = file.read()
        network = cls.empty(arch, torch.device("cpu"), weights["pos_embed"].dtype)
        network.load_state_dict(weights)
        return network

    def forward(self, images: Tensor, max_recursions: int | Sequence[int] | None = None) -> Tensor:
        """Maps images to logits (B, classes).

        Args:
            images: (B, channels, H, W). For sizes other than `arch.image_size`, the position embedding is resized.
            max_recursions: the largest number of recursions to run, one for all stages or one per stage. The result
                is that of the network `arch.with_max_recursions(...)` with these weights, drop path included.

        Raises `UserError` for images with too few pixels or another number of channels.
        """
        arch = self.arch if max_recursions is None else self.arch.with_max_recursions(max_recursions)
        recursions = [stage.recursions for stage in arch.stages]
        rates = iter(self._drop_path_rates(recursions))
        features = self.embed(images)
        for index, stage in enumerate(arch.stages):
            features = self.run_stage(index, features, stage.recursions, [next(rates) for _ in stage.applications()])
        return self.classify(features)

    def embed(self, images: Tensor) -> Tensor:
        """Maps images (B, channels, H, W) to the stem's features plus the position embedding, (B, D, h, w)."""
        self._check_images(images)
        features: Tensor = self.stem(images)
        return features + resize_position_embedding(self.pos_embed, features.shape[2], features.shape[3])

    def run_stage(
        self, index: int, features: Tensor, recursions: int | None = None, drop_path: Sequence[float] | None = None
    ) -> Tensor:
        """Runs the pooling before a stage, except for the first, and the stage itself.

        Args:
            index: the stage, counted from 0.
            features: (B, D, h, w).
            recursions: how often each block is applied; None means the stage's own number.
            drop_path: the drop rate of each application; None means 0 for all.
        """
        stage = self._stages()[index]
        recursions = stage.config.recursions if recursions is None else recursions
        if index > 0:
            features = self.pools[index - 1](features)
        tokens = to_tokens(features)
        rates = [0.0] * (stage.config.blocks * recursions) if drop_path is None else drop_path
        tokens = stage(tokens, recursions, rates, self.training and self.fresh_permutations)
        return to_feature_map(tokens, *features.shape[2:])

    def classify(self, features: Tensor) -> Tensor:
        """Maps the last stage's features (B, D, h, w) to logits (B, classes)."""
        logits: Tensor = self.head(self.norm(mean_of_pixels(features)))
        return logits

    def permuted_applications(self) -> list[Application]:
        """Returns the applications that permute their tokens, in the order in which they run."""
        return [
            (index, block, recursion)
            for index, stage in enumerate(self._stages())
            for block, recursion in stage.permuted_applications()
        ]

    def fixed_permutations(self, device: torch.device, cache: FixedPermutations) -> dict[str, Tensor]:
        """Returns the fixed permutations of this architecture, by the names of their buffers."""
        return {
            f"stages.{stage}.permutation_{block}_{recursion}": cache.on(
                device, self.arch.num_tokens[stage], stage, block, recursion
            )
            for stage, block, recursion in self.permuted_applications()
        }

    def set_permutations(self, permutations: Mapping[Application, Sequence[int] | Tensor]) -> None:
        """Replaces the fixed permutations of some applications.

        With a permutation p, slice g of n tokens holds the tokens `p[g * n : (g + 1) * n]`. Raises `ValueError` for an
        application that does not permute, or for a sequence that is not a permutation of its tokens.
        """
        for (stage, block, recursion), permutation in permutations.items():
            if (stage, block, recursion) not in self.permuted_applications():
                raise ValueError(
                    f"only {self.permuted_applications()} permute, got (stage, block, recursion) "
                    f"= {(stage, block, recursion)}"
                )
            buffer = self._stages()[stage].get_buffer(f"permutation_{block}_{recursion}")
            order = torch.as_tensor(permutation, dtype=torch.int64)
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


def to_tokens(features: Tensor) -> Tensor:
    """Lays features (B, D, h, w) out as contiguous tokens (B, h w, D) in raster order.

    This copies the stem's features. All feature maps after them are channels-last views of tokens, so that later
    stages need no copy.
    """
    return features.flatten(2).transpose(1, 2).contiguous()


def to_feature_map(tokens: Tensor, height: int, width: int) -> Tensor:
    """Views tokens (B, h w, D) as features (B, D, h, w), channels-last."""
    return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, height, width)


def mean_of_pixels(features: Tensor) -> Tensor:
    """Averages features (B, D, h, w) over the pixels: (B, D)."""
    return F.adaptive_avg_pool2d(features, 1).flatten(1)


def _check_permutations(arch: ArchConfig, num_weights: int, source: str) -> None:
    """Raises `UserError` for an architecture whose permutations have far more entries than the network has weights.

    No such network is ever trained, but a short header could describe one and keep `load` busy.
    """
    total = 0
    for index, (stage, tokens) in enumerate(zip(arch.stages, arch.num_tokens, strict=True)):
        permuting = sum(1 < groups < tokens for groups in stage.groups[1 : stage.recursions])
        total += permuting * stage.blocks * tokens
        if total > max(MAX_PERMUTED, num_weights):
            raise UserError(
                f"{source}: stages[{index}] permutes {tokens:,} tokens in {permuting * stage.blocks:,} places, which "
                f"makes {total:,} numbers for {num_weights:,} weights: at most {MAX_PERMUTED:,} are made"
            )


def batch_norms(stem: Stem) -> list[nn.BatchNorm2d]:
    """Returns the BatchNorms of a stem, which are the only ones in a network."""
    return [norm for norm in stem.norms if isinstance(norm, nn.BatchNorm2d)]


def initialise(network: nn.Module, pos_embed: Tensor) -> None:
    """Initialises all weights of a network, and sets biases to 0.

    Linear layers and the position embedding start small (standard deviation 0.02, as in ViT and DeiT), so that every
    block starts near the identity. Convolutions keep the variance of their input: in the stem with the ReLU that
    follows, in the poolings without one (He et al., 2015).
    """
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
    """Resizes an embedding (1, D, h, w) to (1, D, height, width), bicubically; returns it as it is if it fits."""
    if tuple(embedding.shape[2:]) == (height, width):
        return embedding
    return F.interpolate(embedding, size=(height, width), mode="bicubic", align_corners=False)


def resized_state(state: Mapping[str, Tensor], arch: ArchConfig) -> dict[str, Tensor]:
    """Returns the `state_dict` of a network of another image size with its position embedding resized for `arch`."""
    side = arch.resolutions[0]
    return {**state, "pos_embed": resize_position_embedding(state["pos_embed"], side, side)}
