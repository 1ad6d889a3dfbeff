"""The architecture of a Sliced Recursive Transformer as data; no tensor is built here.

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
    """Returns the hidden width of an MLP or NLL: `ratio * width`, rounded down.

    The small addend corrects products that floating point puts just below a whole number: 0.29 * 100 is 28.999...
    """
    return int(width * ratio + 1e-6)


def halved(size: int) -> int:
    """Returns the side length after a 3x3 convolution with stride 2 and padding 1."""
    return (size + 1) // 2


def token_sides(image_size: int, strides: Sequence[int], num_stages: int) -> tuple[int, ...]:
    """Returns the side of the token grid in each of `num_stages` stages.

    The stem's convolutions have the given strides; every pooling between stages halves the side.
    """
    side = image_size
    for stride in strides:
        side = halved(side) if stride == 2 else side
    sides = [side]
    for _ in range(num_stages - 1):
        sides.append(halved(sides[-1]))
    return tuple(sides)


def paper_stem_width(width: Any) -> Any:
    """Returns the width of the paper's stem: half the first stage's `width` (an int or an int array), at least 1."""
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
    """Number of times each block is applied (R)."""
    groups: Annotated[tuple[Annotated[StrictInt, Field(ge=1, le=1_000_000)], ...], Field(max_length=16)]
    """Slices of the attention (G) in recursion 1, 2, ...: one number per recursion; further numbers have no effect."""
    loop: Loop = "internal"
    """`internal`: a block is repeated before the next one starts. `external`: the whole row of blocks is repeated."""
    nll: NLLPlacement = "every"
    """Block applications followed by a non-linear projection layer (NLL): `every` one, only those `between` two
    recursions of the block, only the `last` recursion, or `none`."""
    nll_ratio: Ratio = 1.0
    """Hidden width of an NLL over the stage's width."""
    mlp_ratio: Ratio = 4.0
    """Hidden width of a block's MLP over the stage's width."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Raises `ValueError` for values that contradict each other."""
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
        """Hidden width of a block's MLP."""
        return hidden_width(self.width, self.mlp_ratio)

    @property
    def nll_hidden(self) -> int:
        """Hidden width of an NLL."""
        return hidden_width(self.width, self.nll_ratio)

    @property
    def num_nlls(self) -> int:
        """Number of NLLs that each distinct block owns.

        Recursion r is followed by NLL number r, except that `last` always uses number 0. A stage that is run with fewer
        recursions therefore uses the first of the same NLLs.
        """
        return {"every": self.recursions, "between": self.recursions - 1, "last": 1, "none": 0}[self.nll]

    def nll_after(self, recursion: int, recursions: int | None = None) -> int | None:
        """Returns the number of the NLL after a block's application in `recursion` (from 0), or None.

        `recursions` is the number of recursions run, if fewer than configured (mixed-depth training).
        """
        is_last = recursion == (recursions or self.recursions) - 1
        if self.nll == "every" or (self.nll == "between" and not is_last):
            return recursion
        return 0 if self.nll == "last" and is_last else None

    def applications(self, recursions: int | None = None) -> list[tuple[int, int]]:
        """Returns the (block, recursion) pairs of the stage, in the order in which they are run.

        `recursions` is the number of recursions run, if fewer than configured.
        """
        repeats = range(recursions or self.recursions)
        if self.loop == "internal":
            return [(block, recursion) for block in range(self.blocks) for recursion in repeats]
        return [(block, recursion) for recursion in repeats for block in range(self.blocks)]

    def canonical(self, num_tokens: int) -> StageConfig:
        """Returns the simplest spelling of the stage: settings that have no effect with `num_tokens` are fixed."""
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
    """Returns the default stem of an architecture, given its validated `stages`."""
    stages = fields.get("stages") or ()  # absent if invalid, which is a reported error of its own
    return StemConfig(width=paper_stem_width(stages[0].width) if stages else 1)


class ArchConfig(BaseModel):
    """A whole network. Equal networks, however they are written, have equal `arch_id`s."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stages: Annotated[tuple[StageConfig, ...], Field(min_length=1, max_length=8)]
    stem: Annotated[StemConfig, Field(default_factory=paper_stem)]
    """By default the paper's: half the first stage's width, strides of 2."""
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
        """Recursions of the deepest stage."""
        return max(stage.recursions for stage in self.stages)

    def with_max_recursions(self, limit: int | Sequence[int]) -> ArchConfig:
        """Returns the network cut to at most `limit` recursions per stage.

        `limit` is one number for all stages, or one per stage. Raises `ValueError` for any other number of limits, or
        for limits below 1.
        """
        limits = [limit] * len(self.stages) if isinstance(limit, int) else list(limit)
        if len(limits) != len(self.stages) or min(limits) < 1:
            raise ValueError(f"limit must be one positive number, or one per stage, got {limit}")
        stages = tuple(
            stage.model_copy(update={"recursions": min(stage.recursions, stage_limit)})
            for stage, stage_limit in zip(self.stages, limits, strict=True)
        )
        return self.model_copy(update={"stages": stages})

    def canonical(self) -> ArchConfig:
        """Returns the simplest spelling of the network, e.g. without surplus groups; see `StageConfig.canonical`."""
        stages = tuple(stage.canonical(tokens) for stage, tokens in zip(self.stages, self.num_tokens, strict=True))
        return self.model_copy(update={"stages": stages})

    @property
    def arch_id(self) -> str:
        """Twelve hexadecimal digits that identify the network, equal for all spellings of it.

        Ratios enter as hidden widths: with width 64, ratios of 3.6 and 3.59375 give the same network.
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
        content = json.dumps([stages, [self.stem.width, list(self.stem.strides)], network])
        return short_digest(content)

    @classmethod
    def from_dict(cls, data: Any, source: str = "architecture") -> ArchConfig:
        """Builds an architecture from plain data, as YAML gives it.

        Raises `ConfigError` that names `source` and the key path.
        """
        return validate(cls, data, source)

    @classmethod
    def from_yaml(cls, path: str | Path) -> ArchConfig:
        """Reads an architecture from a YAML file.

        The file holds the data of `to_dict`, or has it under the key `architecture`, as a search's result does. Raises
        `UserError` or `ConfigError` if it cannot be read, or if a result's architecture was edited (another `arch_id`).
        """
        data = read_yaml(Path(path))
        if isinstance(data, dict) and {"name", "stages"} <= data.keys():
            raise ConfigError(
                str(path), "", "is a search space, which `space` and `search --space` take, not a network"
            )
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
        """Returns plain data (lists, numbers, strings) that `from_dict` turns into an equal architecture."""
        return self.model_dump(mode="json")

    def summary(self) -> str:
        """Returns one line that lists the stages, separated by `|`.

        A stage is `64/2h 2x2 g8,2 int every*1 m3.6`: width/heads, blocks x recursions, groups, loop, NLL placement *
        ratio, MLP ratio.
        """
        return " | ".join(
            f"{s.width}/{s.heads}h {s.blocks}x{s.recursions} g{','.join(map(str, s.groups))} "
            f"{s.loop[:3]} {s.nll}{f'*{s.nll_ratio:g}' if s.num_nlls else ''} m{s.mlp_ratio:g}"
            for s in self.canonical().stages
        )
