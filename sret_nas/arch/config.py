"""What a Sliced Recursive Transformer is, as data: no tensor is built here.

An architecture is a stem, a row of stages and a classifier head (Shen, Liu, Xing, "Sliced Recursive Transformer",
ECCV 2022, arXiv 2111.05297). A stage owns `blocks` distinct transformer blocks and applies each `recursions` times.

Our `blocks` is `recursive_num` of the public code; our `blocks * recursions` is its `depth`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, model_validator

from sret_nas.errors import ConfigError, describe
from sret_nas.files import short_digest, validate
from sret_nas.yaml_files import read_yaml

Loop = Literal["internal", "external"]
NLLPlacement = Literal["every", "between", "last", "none"]

Ratio = Annotated[StrictFloat, Field(gt=0, le=16, allow_inf_nan=False)]


def hidden_width(width: int, ratio: float) -> int:
    """The hidden width of an MLP or NLL: `ratio * width`, rounded down.

    The small addend keeps a product that is whole on paper whole in floating point: 0.29 * 100 is 28.999...
    """
    return int(width * ratio + 1e-6)


def halved(size: int) -> int:
    """Side length after a 3x3 convolution with stride 2 and padding 1."""
    return (size + 1) // 2


def token_sides(image_size: int, strides: Sequence[int], number: int) -> tuple[int, ...]:
    """Returns the side of the token grid in each of `number` stages, behind a stem with these strides."""
    side = image_size
    for stride in strides:
        side = halved(side) if stride == 2 else side
    sides = [side]
    for _ in range(number - 1):
        sides.append(halved(sides[-1]))
    return tuple(sides)


def paper_stem_width(width: Any) -> Any:
    """Returns half the first stage's width, and at least 1: the paper's stem. An `int`, or an array of them."""
    return width // 2 + (width == 1)


class StageConfig(BaseModel):
    """One stage: `blocks` distinct transformer blocks, each applied `recursions` times at one resolution."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: Annotated[StrictInt, Field(ge=1, le=8192)]
    """Channels of every token (D)."""
    heads: Annotated[StrictInt, Field(ge=1, le=512)]
    """Attention heads (H); must divide the width."""
    blocks: Annotated[StrictInt, Field(ge=1, le=128)]
    """Distinct blocks, each with weights of its own."""
    recursions: Annotated[StrictInt, Field(ge=1, le=16)]
    """How often each block is applied (R)."""
    groups: Annotated[tuple[Annotated[StrictInt, Field(ge=1, le=1_000_000)], ...], Field(max_length=16)]
    """Slices of the attention (G) in recursion 1, 2, ...: one number per recursion; further ones mean nothing."""
    loop: Loop = "internal"
    """`internal`: a block is repeated before the next one starts. `external`: the whole row of blocks is repeated."""
    nll: NLLPlacement = "every"
    """Which applications of a block a non-linear projection layer follows: `every` one, only those `between` two
    recursions of the block, only the `last` recursion, or `none`."""
    nll_ratio: Ratio = 1.0
    """Hidden width of an NLL over the stage's width."""
    mlp_ratio: Ratio = 4.0
    """Hidden width of a block's MLP over the stage's width."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads must divide width, got heads={self.heads}, width={self.width}")
        if len(self.groups) < self.recursions:
            raise ValueError(
                f"groups must give one number per recursion, got groups={list(self.groups)}, "
                f"recursions={self.recursions}"
            )
        if self.mlp_hidden < 1:
            raise ValueError(f"mlp_ratio * width must be at least 1, got {self.mlp_ratio} * {self.width}")
        if self.nll_hidden < 1:
            raise ValueError(f"nll_ratio * width must be at least 1, got {self.nll_ratio} * {self.width}")
        return self

    @property
    def mlp_hidden(self) -> int:
        return hidden_width(self.width, self.mlp_ratio)

    @property
    def nll_hidden(self) -> int:
        return hidden_width(self.width, self.nll_ratio)

    @property
    def num_nlls(self) -> int:
        """NLLs that each distinct block owns. The NLL of recursion r is number r, but for `last` it is always number 0,
        so that a stage run with fewer recursions uses the first of the same NLLs."""
        return {"every": self.recursions, "between": self.recursions - 1, "last": 1, "none": 0}[self.nll]

    def nll_after(self, recursion: int, recursions: int | None = None) -> int | None:
        """Number of the NLL that follows a block's application in `recursion` (from 0); None if none does.

        `recursions` is how many are run, where fewer than the configured number are (mixed-depth training).
        """
        is_last = recursion == (recursions or self.recursions) - 1
        if self.nll == "every" or (self.nll == "between" and not is_last):
            return recursion
        return 0 if self.nll == "last" and is_last else None

    def applications(self, recursions: int | None = None) -> list[tuple[int, int]]:
        """The (block, recursion) pairs of the stage in the order in which they are run."""
        repeats = range(recursions or self.recursions)
        if self.loop == "internal":
            return [(block, recursion) for block in range(self.blocks) for recursion in repeats]
        return [(block, recursion) for recursion in repeats for block in range(self.blocks)]

    def canonical(self, num_tokens: int) -> StageConfig:
        """The same stage without what has no effect on it when it sees `num_tokens` tokens."""
        groups = tuple(min(groups, num_tokens) for groups in self.groups[: self.recursions])
        changes: dict[str, Any] = {"groups": groups}
        if self.recursions == 1:
            changes["nll"] = {"every": "last", "between": "none"}.get(self.nll, self.nll)
        if self.recursions == 1 or self.blocks == 1:
            changes["loop"] = "internal"
        if changes.get("nll", self.nll) == "none":
            changes["nll_ratio"] = 1.0
        return self.model_copy(update=changes)


class StemConfig(BaseModel):
    """Three 3x3 convolutions in -> `width` -> D -> D, each with BatchNorm and ReLU; D is the first stage's width."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: Annotated[StrictInt, Field(ge=1, le=8192)]
    """Output channels of the first convolution; D / 2 in the paper."""
    strides: tuple[Literal[1, 2], Literal[1, 2], Literal[1, 2]] = (2, 2, 2)
    """Stride of each convolution; (2, 2, 2) in the paper, smaller ones suit small images."""


def paper_stem(fields: dict[str, Any]) -> StemConfig:
    """The stem that an architecture has unless it names one, given its validated `stages`."""
    stages = fields.get("stages") or ()  # none if they are invalid, which is reported for itself
    return StemConfig(width=paper_stem_width(stages[0].width) if stages else 1)


class ArchConfig(BaseModel):
    """A whole network. Equal networks, however they are written, have equal `arch_id`s."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stages: Annotated[tuple[StageConfig, ...], Field(min_length=1, max_length=8)]
    stem: Annotated[StemConfig, Field(default_factory=paper_stem)]
    """Left out, it is the paper's: half the first stage's width, strides of 2."""
    image_size: Annotated[StrictInt, Field(ge=8, le=4096)] = 224
    """Side of the square input, in pixels."""
    channels: Annotated[StrictInt, Field(ge=1, le=1024)] = 3
    classes: Annotated[StrictInt, Field(ge=1, le=1_000_000)] = 1000
    drop_path: Annotated[StrictFloat, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.0
    """Stochastic depth: the rate of the last block application; earlier ones rise to it linearly from 0."""

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Side of the token grid in each stage."""
        return token_sides(self.image_size, self.stem.strides, len(self.stages))

    @property
    def num_tokens(self) -> tuple[int, ...]:
        """Tokens (N) in each stage."""
        return tuple(side * side for side in self.resolutions)

    @property
    def max_recursions(self) -> int:
        return max(stage.recursions for stage in self.stages)

    def with_max_recursions(self, limit: int | Sequence[int]) -> ArchConfig:
        """The network whose stages stop after at most `limit` recursions (one number, or one per stage)."""
        limits = [limit] * len(self.stages) if isinstance(limit, int) else list(limit)
        if len(limits) != len(self.stages) or min(limits) < 1:
            raise ValueError(f"limit must be one positive number, or one per stage, got {limit}")
        stages = tuple(
            stage.model_copy(update={"recursions": min(stage.recursions, most)})
            for stage, most in zip(self.stages, limits, strict=True)
        )
        return self.model_copy(update={"stages": stages})

    def canonical(self) -> ArchConfig:
        """The same network without what has no effect: further groups, the loop order of a single recursion, ..."""
        stages = tuple(stage.canonical(tokens) for stage, tokens in zip(self.stages, self.num_tokens, strict=True))
        return self.model_copy(update={"stages": stages})

    @property
    def arch_id(self) -> str:
        """Twelve hexadecimal digits that name the network: equal for two spellings of one network.

        Ratios enter as the hidden widths they amount to, so 3.6 and 3.59375 of width 64 are one network.
        """
        stages = [
            [
                stage.width,
                stage.heads,
                stage.blocks,
                stage.recursions,
                list(stage.groups),
                stage.loop,
                stage.nll,
                stage.nll_hidden if stage.num_nlls else 0,
                stage.mlp_hidden,
            ]
            for stage in self.canonical().stages
        ]
        network = [self.image_size, self.channels, self.classes, float(self.drop_path)]
        spelled = json.dumps([stages, [self.stem.width, list(self.stem.strides)], network])
        return short_digest(spelled)

    @classmethod
    def from_dict(cls, data: Any, source: str = "architecture") -> ArchConfig:
        """An architecture from plain data, as YAML gives it. Raises `ConfigError` naming `source` and the key path."""
        return validate(cls, data, source)

    @classmethod
    def from_yaml(cls, path: str | Path) -> ArchConfig:
        """An architecture from a file: as `to_dict` gives it, or under the key `architecture` as a search writes it."""
        data = read_yaml(Path(path))
        if not isinstance(data, dict) or "architecture" not in data:
            return cls.from_dict(data, str(path))
        arch = cls.from_dict(data["architecture"], f"{path}: architecture")
        if data.get("arch_id", arch.arch_id) != arch.arch_id:
            raise ConfigError(
                str(path),
                "arch_id",
                f"is {describe(data['arch_id'])}, but the architecture is {arch.arch_id}: it was edited, so its "
                "metrics are another network's; keep the architecture alone, in a file of its own",
            )
        return arch

    def to_dict(self) -> dict[str, Any]:
        """Plain data (lists, numbers, words) that `from_dict` turns into an equal architecture."""
        return self.model_dump(mode="json")

    def summary(self) -> str:
        """One line a stage, e.g. `64x2h 2x2 8,2 i/every` (width x heads, blocks x recursions, groups, loop/NLL)."""
        return " | ".join(
            f"{s.width}/{s.heads}h {s.blocks}x{s.recursions} g{','.join(map(str, s.groups))} "
            f"{s.loop[:3]} {s.nll}{f'*{s.nll_ratio:g}' if s.num_nlls else ''} m{s.mlp_ratio:g}"
            for s in self.canonical().stages
        )
