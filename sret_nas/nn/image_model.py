"""What users of timm and of feature extractors expect of an image model, as methods that need no timm.

Names and arguments are timm's (`timm.models`), so that its factory, training script and feature wrappers work with an
SReT as with its own models.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.sizes import halved
from sret_nas.errors import UserError
from sret_nas.nn.layers import mean_of_pixels

if TYPE_CHECKING:
    from sret_nas.nn.heads import ClassTokens
    from sret_nas.nn.stage import Stage

Pooling = Literal["avg", "token", ""]


class ImageModel(nn.Module):
    """The base of `SReT`: its head, and what follows from an architecture for users of features."""

    stem: nn.Module
    stages: nn.ModuleList
    pos_embed: nn.Parameter
    class_tokens: ClassTokens | None
    norm: nn.Module
    head: nn.Module
    head_dist: nn.Module | None

    def __init__(self, arch: ArchConfig) -> None:
        super().__init__()
        self.arch = arch
        self.num_classes, self.in_chans = arch.classes, arch.channels
        self.num_features = self.head_hidden_size = arch.stages[-1].width
        self.pooling: Literal["avg", "token"] = "token" if arch.class_tokens else "avg"
        """What the head sees: the average, or class tokens."""
        self.global_pool: Pooling = self.pooling
        """`pooling`, or empty for the last stage's features in place of logits."""
        self.drop_rate = 0.0
        """Rate of dropout before the head."""

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        """Channels, reduction and module of every stage's features. Each pooling halves them."""
        stride = prod(self.arch.stem.strides)
        return [
            {"num_chs": stage.width, "reduction": stride * 2**index, "module": f"stages.{index}"}
            for index, stage in enumerate(self.arch.stages)
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
        """Maps images to the last stage's features, (B, D, h, w), before pooling and norm.

        With class tokens they are tokens (B, class tokens + h w, D), the class tokens first.
        """
        features = self.embed(images)
        for index, rates in enumerate(self.stage_drop_path()):
            features = self.run_stage(index, features, drop_path=rates)
        return features

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Maps the last stage's features (see `forward_features`) to logits (B, classes), or to what the head sees.

        That is (B, D). With an empty `global_pool` the features are returned as they are.
        """
        if not self.global_pool:
            return features
        if self.class_tokens is not None:
            return self._read_class_tokens(features, pre_logits)
        pooled: Tensor = self.norm(mean_of_pixels(features))
        if self.drop_rate > 0:
            pooled = F.dropout(pooled, self.drop_rate, self.training)
        if pre_logits:
            return pooled
        logits: Tensor = self.head(pooled)
        return logits

    def _read_class_tokens(self, tokens: Tensor, pre_logits: bool) -> Tensor:
        """Maps tokens (B, class tokens + h w, D) to logits (B, classes), or to the class tokens' mean, (B, D)."""
        assert self.class_tokens is not None
        read = self.norm(tokens[:, : self.class_tokens.count])
        if self.drop_rate > 0:
            read = F.dropout(read, self.drop_rate, self.training)
        if self.head_dist is None:
            seen: Tensor = read[:, 0] if pre_logits else self.head(read[:, 0])
        elif pre_logits:
            seen = (read[:, 0] + read[:, 1]) * 0.5
        else:
            seen = (self.head(read[:, 0]) + self.head_dist(read[:, 1])) * 0.5
        return seen

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
            before, features = features, self.run_stage(index, features, drop_path=rates)
            if index in wanted:
                found.append(self._as_feature_map(features, before, index))
        return found if intermediates_only else (features, found)

    def _as_feature_map(self, features: Tensor, before: Tensor, index: int) -> Tensor:
        """Returns what stage `index` made of the features `before` it as (B, D, h, w), without class tokens."""
        if features.dim() == 4 or self.class_tokens is None:
            return features
        height, width = before.shape[2:] if index == 0 else (halved(side) for side in before.shape[2:])
        tokens = features[:, self.class_tokens.count :]
        return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, height, width)

    def _stages_at(self, indices: int | Sequence[int] | None) -> list[int]:
        """Returns stages by their positions. Raises `UserError` for one that does not exist."""
        count = len(self.arch.stages)
        if indices is None:
            return list(range(count))
        if isinstance(indices, int | Integral):
            chosen = list(range(count - indices, count)) if indices <= count else []
        else:
            chosen = list(indices)
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

        A `global_pool` of `avg` is the network's own pooling, whatever the head sees. Raises `UserError` for a pooling
        that is neither the network's own nor empty, and for an impossible number of classes.
        """
        if not isinstance(num_classes, Integral) or num_classes < 0:
            raise UserError(f"num_classes must be a whole number of at least 0, got {num_classes!r}")
        if global_pool is not None:
            own = dict.fromkeys((self.pooling, "avg"))
            if global_pool not in (*own, ""):
                raise UserError(f"global_pool must be {', '.join(map(repr, own))} or '', got {global_pool!r}")
            self.global_pool = self.pooling if global_pool else ""
        self.num_classes = int(num_classes)
        self.head = self._new_head()
        if self.head_dist is not None:
            self.head_dist = self._new_head()

    def _new_head(self) -> nn.Module:
        if self.num_classes == 0:
            return nn.Identity()
        like = self.pos_embed
        return nn.Linear(self.num_features, self.num_classes, device=like.device, dtype=like.dtype)

    def set_input_size(self, img_size: int | tuple[int, int]) -> None:
        """Adapts the network to another image size: position embedding resized, permutations made anew.

        Raises `UserError` for a size that is not square.
        """
        height, width = (img_size, img_size) if isinstance(img_size, int | Integral) else img_size
        if height != width:
            raise UserError(f"images must be square, got {height} x {width} pixels")
        self.resize(height)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Sets whether training keeps only the inputs of blocks and computes the rest again: less memory, more time."""
        stages: list[Stage] = list(self.stages)  # type: ignore[arg-type]
        for stage in stages:
            stage.grad_checkpointing = enable

    def no_weight_decay(self) -> set[str]:
        """Returns the embeddings, which are not decayed; vectors never are."""
        tokens = () if self.class_tokens is None else ("class_tokens.embedding", "class_tokens.position")
        return {"pos_embed", *tokens}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Returns patterns that order the weights by depth, for learning rates that decay by layer.

        An NLL belongs to the layer of its block; with `coarse`, a whole stage is one layer.
        """
        if coarse:
            blocks: Any = r"^(?:stages|pools)\.(\d+)"
        else:
            blocks = [(r"^stages\.(\d+)\.(?:blocks|nlls)\.(\d+)", None), (r"^pools\.(\d+)", (99_999,))]
        return {"stem": r"^stem|^pos_embed|^class_tokens", "blocks": blocks}
