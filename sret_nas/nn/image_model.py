"""What users of timm and of feature extractors expect of an image model, as methods that need no timm.

Names and arguments are timm's (`timm.models`), so that its factory, training script and feature wrappers work with an
SReT as with its own models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from sret_nas.arch.config import ArchConfig
from sret_nas.errors import UserError
from sret_nas.nn.layers import Stem, mean_of_pixels

if TYPE_CHECKING:
    from sret_nas.nn.stage import Stage

Pooling = Literal["avg", ""]


class ImageModel(nn.Module):
    """The base of `SReT`: its head, and what follows from an architecture for users of features."""

    stem: Stem
    stages: nn.ModuleList
    pos_embed: nn.Parameter
    norm: nn.Module
    head: nn.Module

    def __init__(self, arch: ArchConfig) -> None:
        super().__init__()
        self.arch = arch
        self.num_classes, self.in_chans = arch.classes, arch.channels
        self.num_features = self.head_hidden_size = arch.stages[-1].width
        self.global_pool: Pooling = "avg"
        """`avg`, or empty for the last stage's features in place of logits."""
        self.drop_rate = 0.0
        """Rate of dropout before the head."""

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        """Channels, reduction and module of every stage's features."""
        sides = self.arch.resolutions
        return [
            {"num_chs": stage.width, "reduction": self.arch.image_size // side, "module": f"stages.{index}"}
            for index, (stage, side) in enumerate(zip(self.arch.stages, sides, strict=True))
        ]

    def embed(self, images: Tensor) -> Tensor:
        """Maps images (B, channels, H, W) to the features before the first stage, (B, D, h, w)."""
        raise NotImplementedError

    def run_stage(
        self, index: int, features: Tensor, recursions: int | None = None, drop_path: Sequence[float] | None = None
    ) -> Tensor:
        """Runs the pooling before a stage, except for the first, and the stage."""
        raise NotImplementedError

    def stage_drop_path(self) -> list[list[float]]:
        """Returns the drop rates of each stage's applications; 0 in evaluation."""
        raise NotImplementedError

    def resize(self, image_size: int) -> None:
        """Adapts position embedding and permutations to another image size."""
        raise NotImplementedError

    def forward_features(self, images: Tensor) -> Tensor:
        """Maps images to the last stage's features, (B, D, h, w), before pooling and norm."""
        features = self.embed(images)
        for index, rates in enumerate(self.stage_drop_path()):
            features = self.run_stage(index, features, drop_path=rates)
        return features

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Maps the last stage's features (B, D, h, w) to logits (B, classes), or to what the head sees, (B, D).

        With an empty `global_pool` the features are returned as they are.
        """
        if not self.global_pool:
            return features
        pooled: Tensor = self.norm(mean_of_pixels(features))
        if self.drop_rate > 0:
            pooled = F.dropout(pooled, self.drop_rate, self.training)
        if pre_logits:
            return pooled
        logits: Tensor = self.head(pooled)
        return logits

    def forward_intermediates(
        self,
        images: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Returns the features of some stages, and those of the last one.

        Args:
            images: (B, channels, H, W).
            indices: Stages, counted from 0 or, if negative, from the end; a number is that many last ones; None is all.
            norm: Ignored: the network's norm follows the pooling.
            stop_early: Whether stages after the last one asked for are left out.
            output_fmt: Only `NCHW`.
            intermediates_only: Whether the last stage's features are not returned beside the list.

        Raises `UserError` for a stage that does not exist, or another format.
        """
        if output_fmt != "NCHW":
            raise UserError(f"output_fmt must be 'NCHW', got {output_fmt!r}")
        wanted = self._stages_at(indices)
        features, found = self.embed(images), []
        for index, rates in enumerate(self.stage_drop_path()):
            if stop_early and index > max(wanted):
                break
            features = self.run_stage(index, features, drop_path=rates)
            if index in wanted:
                found.append(features)
        return found if intermediates_only else (features, found)

    def _stages_at(self, indices: int | Sequence[int] | None) -> list[int]:
        """Returns stages by their positions. Raises `UserError` for one that does not exist."""
        count = len(self.arch.stages)
        if indices is None:
            return list(range(count))
        chosen = list(range(count - indices, count)) if isinstance(indices, int) else list(indices)
        wanted = [index + count if index < 0 else index for index in chosen]
        if not wanted or not all(0 <= index < count for index in wanted):
            raise UserError(f"the network has stages 0 to {count - 1}, got {indices}")
        return wanted

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Removes what features of some stages do not need, and returns these stages.

        Later stages stay, since a state dict names all; they are not run (see `stop_early`).
        """
        if prune_norm:
            self.norm = nn.Identity()
        if prune_head:
            self.reset_classifier(0)
        return self._stages_at(indices)

    def get_classifier(self) -> nn.Module:
        """Returns the head."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replaces the head by one for `num_classes` that starts as a new network's, or by none for 0.

        Raises `UserError` for a pooling that is neither `avg` nor empty.
        """
        if global_pool is not None:
            if global_pool not in ("avg", ""):
                raise UserError(f"global_pool must be 'avg' or '', got {global_pool!r}")
            self.global_pool = "avg" if global_pool else ""
        self.num_classes = num_classes
        if num_classes == 0:
            self.head = nn.Identity()
            return
        self.head = nn.Linear(self.num_features, num_classes, device=self.pos_embed.device, dtype=self.pos_embed.dtype)

    def set_input_size(self, img_size: int | tuple[int, int]) -> None:
        """Adapts the network to another image size: position embedding resized, permutations made anew.

        Raises `UserError` for a size that is not square.
        """
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        if height != width:
            raise UserError(f"images must be square, got {height} x {width} pixels")
        self.resize(height)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Sets whether training keeps only the inputs of blocks and computes the rest again: less memory, more time."""
        stages: list[Stage] = list(self.stages)  # type: ignore[arg-type]
        for stage in stages:
            stage.grad_checkpointing = enable

    def no_weight_decay(self) -> set[str]:
        """Returns the matrix that is not decayed; vectors never are."""
        return {"pos_embed"}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Returns patterns that order the weights by depth, for learning rates that decay by layer.

        An NLL belongs to the layer of its block; with `coarse`, a whole stage is one layer.
        """
        if coarse:
            blocks: Any = r"^(?:stages|pools)\.(\d+)"
        else:
            blocks = [(r"^stages\.(\d+)\.(?:blocks|nlls)\.(\d+)", None), (r"^pools\.(\d+)", (99_999,))]
        return {"stem": r"^stem|^pos_embed", "blocks": blocks}
