"""The Sliced Recursive Transformer (SReT), for every valid `ArchConfig`.

Images go through the stem, stages and pooling convolutions as (B, D, h, w); inside a stage they are tokens (B, N, D) in
raster order. A shared block is registered once and applied as often as its stage recurs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import gcd, prod
from pathlib import Path
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.differences import first_difference
from sret_nas.errors import UserError, describe
from sret_nas.files import as_path
from sret_nas.nn.compute import convolve_groups
from sret_nas.nn.heads import ClassTokens
from sret_nas.nn.image_model import ImageModel
from sret_nas.nn.initialisation import initialise_network
from sret_nas.nn.layers import NLL, NORM_EPS, Block
from sret_nas.nn.permutations import FixedPermutations, check_permutations, permutation_pair
from sret_nas.nn.position_embedding import resize_position_embedding, resized_state
from sret_nas.nn.stage import Stage, drop_path_rates
from sret_nas.nn.stem import batch_norms, stem_of
from sret_nas.nn.weight_shapes import network_shapes
from sret_nas.nn.weights import (
    WeightsFile,
    check_layout,
    layout_of,
    on_meta_device,
    with_empty_tensors,
    wrapper_prefix,
    write_weights,
)

MIN_IMAGE_SIZE = 8
"""Smallest side of an image in pixels, the lower bound of `ArchConfig.image_size`."""

HEADS = ("head.", "head_dist.")
"""How the names of the weights begin that depend on the classes."""

# A traced graph keeps the call: whether it resizes depends on the images. torch.fx finds what it wraps by this module's
# name for it, so a function from elsewhere is named here, where it is called.
torch.fx.wrap("resize_position_embedding")

Application = tuple[int, int, int]
"""Stage, block and recursion, each counted from 0."""


class SReT(ImageModel):
    """A network that maps images (B, channels, H, W) to logits (B, classes).

    Evaluation is deterministic. Training draws new permutations at every pass, from torch's generator of the input's
    device, unless `fresh_permutations` is set to False.
    """

    def __init__(self, arch: ArchConfig) -> None:
        if not isinstance(arch, ArchConfig):
            raise UserError(
                f"SReT takes an ArchConfig, got {describe(arch)}: SReT.from_yaml and ArchConfig.from_dict read others"
            )
        super().__init__(arch)
        self.fresh_permutations = True
        widths = [stage.width for stage in arch.stages]
        side = arch.resolutions[0]
        self.stem = stem_of(arch.stem, arch.channels, widths[0])
        self.pos_embed = nn.Parameter(torch.zeros(1, widths[0], side, side))
        self.stages = nn.ModuleList(
            Stage(stage, index, num_tokens, arch.residual)
            for index, (stage, num_tokens) in enumerate(zip(arch.stages, arch.num_tokens, strict=True))
        )
        self.pools = nn.ModuleList(
            nn.Conv2d(before, after, kernel_size=3, stride=2, padding=1, groups=gcd(before, after))
            for before, after in pairwise(widths)
        )
        self.class_tokens = ClassTokens(arch.class_tokens, widths[-1]) if arch.class_tokens else None
        self.norm = nn.LayerNorm(widths[-1], eps=NORM_EPS)
        self.head = nn.Linear(widths[-1], arch.classes)
        self.head_dist = nn.Linear(widths[-1], arch.classes) if arch.class_tokens == 2 else None
        initialise_network(self, self.pos_embed)

    @classmethod
    def from_yaml(
        cls,
        path: str | Path,
        weights: str | Path | None = None,
        *,
        classes: int | None = None,
        image_size: int | None = None,
        drop_path: float | None = None,
    ) -> SReT:
        """Builds the network of an architecture in a YAML file, such as a search's result.

        Args:
            path: The YAML file.
            weights: A file of `save`, or a model directory, with the network's weights; None initialises them.
            classes: Number of classes, if not the file's. All weights are kept but the head's, which is new.
            image_size: Side of the images in pixels, if not the file's. The position embedding is resized.
            drop_path: Rate of stochastic depth, if not the file's.

        Raises `UserError` if a file cannot be read, or if the weights belong to another architecture.
        """
        changes = {"classes": classes, "image_size": image_size, "drop_path": drop_path}
        described = ArchConfig.from_yaml(path)
        arch = ArchConfig.from_dict(
            {**described.to_dict(), **{name: value for name, value in changes.items() if value is not None}}, str(path)
        )
        if weights is None:
            return cls(arch)
        weights = as_path(weights, "weights")
        source = cls.from_pretrained(weights) if weights.is_dir() else cls.load(weights, described)
        return source.adapted_to(arch, f"{weights}", f"{path}")

    def adapted_to(self, arch: ArchConfig, source: str, target: str) -> SReT:
        """Returns a network of an architecture with these weights; this network itself if it fits as it is.

        Where the number of classes differs the head is new; where the image size differs the position embedding is
        resized.

        Args:
            arch: The architecture.
            source: Where these weights come from, for the message.
            target: Where the architecture comes from.

        Raises `UserError` if the architectures differ in more than classes, image size and drop path.
        """
        free = {"classes": arch.classes, "image_size": arch.image_size, "drop_path": arch.drop_path}
        mine = ArchConfig.from_dict({**self.arch.to_dict(), **free}, source)
        # Groups beyond the tokens of a size have no effect there, so that files differ in them for one network.
        then = ArchConfig.from_dict({**arch.to_dict(), "image_size": self.arch.image_size}, target)
        was = ArchConfig.from_dict({**mine.to_dict(), "image_size": self.arch.image_size}, source)
        if mine.canonical() != arch.canonical() and was.canonical() != then.canonical():
            own = Path(source).parent / f"{Path(source).stem}.yaml"
            fitting = f"{own} describes the network of these weights" if own.is_file() else "SReT.load builds theirs"
            raise UserError(
                f"{source} holds the weights of {self.arch.arch_id}, and {target} describes {arch.arch_id}, which "
                f"differs in {first_difference(mine.canonical(), arch.canonical())}; only classes and image size may: "
                f"{fitting}"
            )
        if self.arch == arch:
            return self
        network = type(self)(arch)
        head = {name: value for name, value in network.state_dict().items() if name.startswith(HEADS)}
        network.load_state_dict(head | self.state_for(arch))
        return network

    def state_for(self, arch: ArchConfig) -> dict[str, Tensor]:
        """Returns the weights for this network with another image size or other classes.

        The position embedding is resized, and a head for other classes left out.
        """
        state = resized_state(self.state_dict(), arch)
        if self.arch.classes != arch.classes:
            state = {name: value for name, value in state.items() if not name.startswith(HEADS)}
        return state

    @classmethod
    def empty(cls, arch: ArchConfig, device: torch.device, dtype: torch.dtype) -> SReT:
        """Returns a network with uninitialised parameters and the buffers of a new one. Draws no random numbers."""
        network = with_empty_tensors(on_meta_device(lambda: cls(arch)).to(dtype), device)
        for norm in batch_norms(network.stem):
            norm.reset_running_stats()
        return network

    @classmethod
    def from_pretrained(cls, directory: str | Path) -> SReT:
        """Returns the network in a model directory, such as `train` writes, or in a training's run, on the CPU.

        Raises `UserError` if a file of the directory is missing, damaged, or does not fit the others.
        """
        from sret_nas.nn.model_directory import find_model_directory, read_model

        return read_model(find_model_directory(as_path(directory, "the model directory")))[0]

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
    def load(cls, path: str | Path, described: ArchConfig | None = None) -> SReT:
        """Returns the network in a file of `save`, on the CPU. Raises `UserError` if the file does not hold one.

        Args:
            path: The file, in the format of safetensors.
            described: The architecture of weights that another program has saved, whose file does not say it. By
                default, it is that of the YAML file of the same name beside it, if there is one. Names and shapes of
                all weights must fit it exactly.
        """
        path = as_path(path, "the file of weights")
        beside = path.with_suffix(".yaml")
        file = WeightsFile(path, "architecture", may_lack=described is not None or beside.is_file())
        if "architecture" in file.header:
            arch = ArchConfig.from_dict(file.header["architecture"], f"{path}: architecture")
        else:
            arch = ArchConfig.from_yaml(beside) if described is None else described
        check_layout(network_shapes(arch), file.layout, str(path))
        check_permutations(arch, sum(prod(shape) for _, shape in file.layout.values()), str(path))
        weights = file.read()
        network = cls.empty(arch, torch.device("cpu"), weights["pos_embed"].dtype)
        network.load_state_dict(weights)
        return network

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Loads weights as every module does; also those of a network wrapped for training or by `torch.compile`."""
        prefix = wrapper_prefix(state_dict) if isinstance(state_dict, Mapping) else ""
        if prefix:
            state_dict = {name.removeprefix(prefix): value for name, value in state_dict.items()}
        return super().load_state_dict(state_dict, strict, assign)

    def forward(self, images: Tensor, max_recursions: int | Sequence[int] | None = None) -> Tensor:
        """Maps images to logits (B, classes).

        Args:
            images: (B, channels, H, W). For sizes other than `arch.image_size`, the position embedding is resized.
            max_recursions: the largest number of recursions to run, one for all stages or one per stage. The result
                is that of the network `arch.with_max_recursions(...)` with these weights, drop path included.

        Raises `UserError` for images with too few pixels or another number of channels.
        """
        # What torch.fx traces is the whole depth: it passes a placeholder for the number of recursions.
        if max_recursions is None or isinstance(max_recursions, torch.fx.Proxy):
            arch = self.arch
        else:
            arch = self.arch.with_max_recursions(max_recursions)
        features = self.embed(images)
        for index, (stage, rates) in enumerate(zip(arch.stages, self._drop_path_of(arch), strict=True)):
            features = self.run_stage(index, features, stage.recursions, rates)
        return self.classify(features)

    def embed(self, images: Tensor) -> Tensor:
        """Maps images (B, channels, H, W) to the stem's features plus the position embedding, (B, D, h, w)."""
        check_images(images, self.arch.channels)
        features: Tensor = self.stem(images)
        return features + resize_position_embedding(self.pos_embed, features.shape[2], features.shape[3])

    def run_stage(
        self, index: int, features: Tensor, recursions: int | None = None, drop_path: Sequence[float] | None = None
    ) -> Tensor:
        """Runs the pooling before a stage, except for the first, and the stage itself.

        Returns features (B, D, h, w); after the last stage of a network with class tokens, tokens (B, class tokens +
        h w, D), the class tokens first.

        Args:
            index: the stage, counted from 0.
            features: (B, D, h, w).
            recursions: how often each block is applied; None means the stage's own number.
            drop_path: the drop rate of each application; None means 0 for all.
        """
        stage = self._stages()[index]
        recursions = stage.config.recursions if recursions is None else recursions
        if index > 0:
            features = convolve_groups(self.pools[index - 1], features)
        tokens = to_tokens(features)
        joining = self.class_tokens if index == len(self.stages) - 1 else None
        if joining is not None:
            tokens = joining(tokens)
        rates = [0.0] * (stage.config.blocks * recursions) if drop_path is None else drop_path
        tokens = stage(tokens, recursions, rates, self.training and self.fresh_permutations)
        return tokens if joining is not None else to_feature_map(tokens, features.shape[2], features.shape[3])

    def classify(self, features: Tensor) -> Tensor:
        """Maps what the last stage returns (see `run_stage`) to logits (B, classes)."""
        return self.forward_head(features)

    def residual_coefficients(self) -> dict[str, float]:
        """Returns the coefficients of all residual connections, e.g. `stage1/block2/attention/identity`.

        NLLs follow the block they belong to, e.g. `stage1/block2/nll1/mlp/branch`. Plain connections have none.
        """
        found: dict[str, float] = {}
        for name, module in self.named_modules():
            if isinstance(module, Block | NLL):
                _, stage, _, block, *nll = name.split(".")
                place = f"stage{int(stage) + 1}/block{int(block) + 1}" + "".join(f"/nll{int(n) + 1}" for n in nll)
                found |= {f"{place}/{key}": value for key, value in module.named_coefficients().items()}
        return found

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

    def stage_drop_path(self) -> list[list[float]]:
        return self._drop_path_of(self.arch)

    def _drop_path_of(self, arch: ArchConfig) -> list[list[float]]:
        """Returns the drop rates of each stage's applications in a network that recurs at most as often as this one."""
        counts = [stage.blocks * stage.recursions for stage in arch.stages]
        rates = iter(drop_path_rates(sum(counts), self.arch.drop_path if self.training else 0.0))
        return [[next(rates) for _ in range(count)] for count in counts]

    def resize(self, image_size: int) -> None:
        """Adapts position embedding and permutations to another image size. The architecture's id changes with it."""
        arch = ArchConfig.from_dict({**self.arch.to_dict(), "image_size": image_size}, "the resized network")
        resized = resized_state({"pos_embed": self.pos_embed.detach()}, arch)["pos_embed"]
        self.pos_embed = nn.Parameter(resized, self.pos_embed.requires_grad)  # frozen if it was
        for stage, num_tokens in zip(self._stages(), arch.num_tokens, strict=True):
            stage.resize(num_tokens)
        self.arch = arch


@torch.fx.wrap
def check_images(images: Tensor, channels: int) -> None:
    """Raises `UserError` for images that are no floating-point tensor (B, channels, H, W), or too small.

    And where torch.export would leave H or W open: the program would have the example's size all the same, because the
    position embedding and the permutations depend on it, and fail only when it runs.
    """
    if not isinstance(images, Tensor):
        raise UserError(f"images must be a tensor (batch, {channels}, height, width), got {type(images).__name__}")
    if not images.is_floating_point():
        raise UserError(f"images must be standardised floating-point numbers, got {images.dtype}")
    if _is_exporting() and any(isinstance(size, torch.SymInt) for size in images.shape[2:]):
        raise UserError("an exported SReT has one image size: leave height and width out of dynamic_shapes")
    if images.dim() != 4 or images.shape[1] != channels:
        raise UserError(f"images must have the shape (batch, {channels}, height, width), got {tuple(images.shape)}")
    if min(images.shape[2:]) < MIN_IMAGE_SIZE:
        raise UserError(f"images must be at least {MIN_IMAGE_SIZE} pixels a side, got {tuple(images.shape)}")


def _is_exporting() -> bool:
    """Returns whether torch.export traces this call; before torch 2.7 nothing tells."""
    is_exporting = getattr(torch.compiler, "is_exporting", None)
    return is_exporting is not None and bool(is_exporting())


def to_tokens(features: Tensor) -> Tensor:
    """Lays features (B, D, h, w) out as contiguous tokens (B, h w, D) in raster order.

    This copies the stem's features. All feature maps after them are channels-last views of tokens, so that later
    stages need no copy.
    """
    return features.flatten(2).transpose(1, 2).contiguous()


def to_feature_map(tokens: Tensor, height: int, width: int) -> Tensor:
    """Views tokens (B, h w, D) as features (B, D, h, w), channels-last."""
    return tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], height, width)
