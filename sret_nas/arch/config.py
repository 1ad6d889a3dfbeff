"""The architecture of a Sliced Recursive Transformer as data; no tensor is built here.

An architecture is a stem, a row of stages and a classifier head (Shen, Liu, Xing, "Sliced Recursive Transformer",
ECCV 2022, arXiv 2111.05297). A stage owns `blocks` distinct transformer blocks and applies each `recursions` times.

Our `blocks` is `recursive_num` of the public code; our `blocks * recursions` is its `depth`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from math import prod
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StrictBool,
    StrictFloat,
    StrictInt,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from sret_nas.errors import ConfigError, describe
from sret_nas.files import short_digest, validate
from sret_nas.yaml_files import read_yaml
from sret_nas.yaml_kinds import require_kind

Loop = Literal["internal", "external"]
NLLPlacement = Literal["every", "between", "last", "none"]

Residual = Literal["path", "branch", "plain"]
StemKind = Literal["conv", "patch"]
StemNorm = Literal["batch", "layer", "none"]
Head = Literal["average", "class_token", "distillation_token"]
Stride = Literal[1, 2, 4]

COEFFICIENTS: dict[Residual, int] = {"path": 2, "branch": 1, "plain": 0}
"""Learnable coefficients of each residual connection."""

CLASS_TOKENS: dict[Head, int] = {"average": 0, "class_token": 1, "distillation_token": 2}
"""Tokens that a head reads in place of the average over all pixels."""

Ratio = Annotated[StrictFloat, Field(gt=0, le=16, allow_inf_nan=False)]


def hidden_width(width: int, ratio: float) -> int:
    """Returns the hidden width of an MLP or NLL: `ratio * width`, rounded down.

    The small addend corrects products that floating point puts just below a whole number: 0.29 * 100 is 28.999...
    """
    return int(width * ratio + 1e-6)


def halved(size: int) -> int:
    """Returns the side length after a 3x3 convolution with stride 2 and padding 1."""
    return strided(size, 2)


def strided(size: int, stride: int) -> int:
    """Returns the side length after a layer with a stride: the size over the stride, rounded up."""
    return -(-size // stride)


def token_sides(image_size: int, strides: Sequence[int], num_stages: int) -> tuple[int, ...]:
    """Returns the side of the token grid in each of `num_stages` stages.

    The stem has the given strides; every pooling between stages halves the side.
    """
    side = image_size
    for stride in strides:
        side = strided(side, stride)
    sides = [side]
    for _ in range(num_stages - 1):
        sides.append(halved(sides[-1]))
    return tuple(sides)


def paper_stem_width(width: Any) -> Any:
    """Returns the width of the paper's stem: half the first stage's `width` (an int or an int array), at least 1."""
    return width // 2 + (width == 1)


class Described(BaseModel):
    """A part of an architecture, or its choices, that is written without the keys that have their default.

    These are the keys of `VARIANTS`, which are younger than files and ids. So what has none of them is written, and
    identified, as before there were any.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    VARIANTS: ClassVar[tuple[str, ...]] = ()
    """Keys that are left out where they have their default."""

    @property
    def variants(self) -> dict[str, Any]:
        """The values of `VARIANTS` that are not the default, by key."""
        defaults = _default_variants(type(self))
        return {name: value for name, default in defaults if (value := getattr(self, name)) != default}

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Returns plain data without the variants that have their default."""
        data: dict[str, Any] = handler(self)
        return {name: value for name, value in data.items() if name not in self.VARIANTS or name in self.variants}


@cache
def _default_variants(part: type[Described]) -> tuple[tuple[str, Any], ...]:
    """Returns the keys of `VARIANTS` with their defaults, which pydantic looks up slowly."""
    return tuple((name, part.model_fields[name].default) for name in part.VARIANTS)


class StageConfig(Described):
    """One stage: `blocks` distinct transformer blocks, each applied `recursions` times at one resolution."""

    VARIANTS = ("permute", "inverse", "permute_single")

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
    permute: StrictBool = True
    """Whether tokens are permuted before they are sliced, from the second recursion on (the paper's P)."""
    inverse: StrictBool = True
    """Whether attention puts permuted tokens back into their order (the paper's I). Without it, a token is added to
    the attention of another one."""
    permute_single: StrictBool = False
    """Whether tokens are also permuted where there is a single slice (the opposite of the paper's -L). With the inverse
    this has no effect."""

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

    def permutes(self, recursion: int, num_tokens: int) -> bool:
        """Returns whether a recursion (from 0) permutes its tokens.

        The first recursion never does. With one token per slice, and with one slice if the order is put back, the order
        makes no difference. One slice without the inverse permutes with `permute_single`.
        """
        if not self.permute or recursion == 0:
            return False
        groups = self.groups[recursion]
        return 1 < groups < num_tokens or (self._permutes_single and groups == 1 < num_tokens)

    @property
    def _permutes_single(self) -> bool:
        """Whether recursions of one slice permute, and do so with an effect."""
        return self.permute and self.permute_single and not self.inverse

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
        if self.variants:
            changes |= self._canonical_permutation(num_tokens)
        differs = any(getattr(self, name) != value for name, value in changes.items())
        return self.model_copy(update=changes) if differs else self

    def _canonical_permutation(self, num_tokens: int) -> dict[str, bool]:
        """Returns `permute`, `inverse` and `permute_single` with the defaults where they have no effect."""
        later = self.groups[1 : self.recursions]
        has_slices = any(1 < groups < num_tokens for groups in later)
        has_single = num_tokens > 1 and 1 in later
        if not has_slices and not (has_single and self._permutes_single):
            return {"permute": True, "inverse": True, "permute_single": False}
        if not self.permute:
            return {"permute": False, "inverse": True, "permute_single": False}
        return {"permute": True, "inverse": self.inverse, "permute_single": self._permutes_single and has_single}


class StemConfig(Described):
    """What turns images into tokens: three 3x3 convolutions in -> `width` -> D -> D, or one patch embedding.

    D is the first stage's width. Every convolution is followed by a norm and ReLU. A patch embedding is one convolution
    whose side and stride are the product of the strides (ViT, DeiT); it has no norm and no width of its own.
    """

    VARIANTS = ("kind", "norm")

    width: Annotated[StrictInt, Field(ge=1, le=8192)]
    """Output channels of the first convolution; D / 2 in the paper."""
    strides: tuple[Stride, Stride, Stride] = (2, 2, 2)
    """Stride of each convolution, 1 or 2; (2, 2, 2) in the paper, smaller ones suit small images. A patch embedding may
    also have 4 among them: (4, 2, 2) makes patches of 16 pixels a side."""
    kind: StemKind = "conv"
    """`conv`: three convolutions. `patch`: a patch embedding."""
    norm: StemNorm = "batch"
    """What follows each convolution: BatchNorm, LayerNorm over the channels of each pixel, or nothing."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Raises `ValueError` for convolutions with a stride that skips pixels."""
        if self.kind == "conv" and 4 in self.strides:
            raise ValueError(
                f"strides of 3x3 convolutions must be 1 or 2, got {list(self.strides)}; a stem of kind patch may have 4"
            )
        return self

    def canonical(self, width: int) -> StemConfig:
        """Returns the simplest spelling of the stem, given the first stage's width."""
        if self.kind == "conv":
            return self
        strides = tuple(sorted(self.strides, reverse=True))
        spelled = _PATCH_STRIDES[prod(strides)]
        return self.model_copy(update={"width": paper_stem_width(width), "strides": spelled, "norm": "batch"})


_PATCH_STRIDES: dict[int, tuple[Stride, Stride, Stride]] = {
    prod(strides): strides for strides in ((1, 1, 1), (2, 1, 1), (2, 2, 1), (2, 2, 2), (4, 2, 2), (4, 4, 2), (4, 4, 4))
}
"""The strides that spell a patch embedding, by the side of its patches."""


def paper_stem(fields: dict[str, Any]) -> StemConfig:
    """Returns the default stem of an architecture, given its validated `stages`."""
    return StemConfig(width=_paper_stem_width_of(fields))


def _paper_stem_width_of(fields: dict[str, Any]) -> int:
    stages = fields.get("stages") or ()  # absent if invalid, which is a reported error of its own
    return int(paper_stem_width(stages[0].width)) if stages else 1


class ArchConfig(Described):
    """A whole network. Equal networks, however they are written, have equal `arch_id`s."""

    VARIANTS = ("residual", "head")

    stages: Annotated[tuple[StageConfig, ...], Field(min_length=1, max_length=8)]
    stem: Annotated[StemConfig, Field(default_factory=paper_stem)]
    """By default the paper's: half the first stage's width, strides of 2."""
    image_size: Annotated[StrictInt, Field(ge=8, le=4096)] = 224
    """Side of the square input, in pixels."""
    channels: Annotated[StrictInt, Field(ge=1, le=1024)] = 3
    classes: Annotated[StrictInt, Field(ge=1, le=1_000_000)] = 1000
    drop_path: Annotated[StrictFloat, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.0
    """Stochastic depth: the rate of the last block application; earlier ones rise to it linearly from 0."""
    residual: Residual = "path"
    """Residual connections of blocks and NLLs. `path`: a learnable coefficient on each path, `a z + b f(z)` (LRC, the
    paper's). `branch`: one on the branch, `z + b f(z)`. `plain`: `z + f(z)`."""
    head: Head = "average"
    """What the classifier sees: the `average` over all tokens, a `class_token`, or two of them (`distillation_token`),
    whose logits are averaged (DeiT). They join the tokens before the last stage."""

    @field_validator("stem", mode="before")
    @classmethod
    def _fill_in_width(cls, stem: Any, info: ValidationInfo) -> Any:
        """Returns a stem without a width with the paper's."""
        if isinstance(stem, dict) and "width" not in stem:
            return {"width": _paper_stem_width_of(info.data), **stem}
        return stem

    @model_validator(mode="after")
    def _check_head(self) -> Self:
        """Raises `ValueError` for class tokens where attention is sliced, so that they would not see all tokens."""
        last = self.stages[-1]
        if self.head != "average" and any(groups > 1 for groups in last.groups[: last.recursions]):
            raise ValueError(
                f"head {self.head} needs attention over all tokens in the last stage, groups of 1, "
                f"got groups={list(last.groups)}"
            )
        if self.head != "average" and last.recursions > 1 and last.permute_single and not last.inverse and last.permute:
            raise ValueError(
                f"head {self.head} needs tokens that keep their places in the last stage, got permute_single without "
                "inverse"
            )
        return self

    @property
    def class_tokens(self) -> int:
        """Tokens that join those of the image before the last stage."""
        return CLASS_TOKENS[self.head]

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Side of the token grid in each stage."""
        return token_sides(self.image_size, self.stem.strides, len(self.stages))

    @property
    def num_tokens(self) -> tuple[int, ...]:
        """Tokens of the image (N) in each stage."""
        return tuple(side * side for side in self.resolutions)

    @property
    def attended_tokens(self) -> tuple[int, ...]:
        """Tokens in each stage, with the class tokens in the last one."""
        *others, last = self.num_tokens
        return *others, last + self.class_tokens

    @property
    def max_recursions(self) -> int:
        """Recursions of the deepest stage."""
        return max(stage.recursions for stage in self.stages)

    def with_max_recursions(self, limit: int | Sequence[int]) -> ArchConfig:
        """Returns the network cut to at most `limit` recursions per stage.

        `limit` is one number for all stages, or one per stage. Raises `ValueError` for any other number of limits, or
        for limits below 1.
        """
        limits = list(limit) if isinstance(limit, Sequence) else [limit] * len(self.stages)
        if len(limits) != len(self.stages) or not all(isinstance(one, int) and one >= 1 for one in limits):
            raise ValueError(f"limit must be one positive number, or one per stage, got {limit}")
        stages = tuple(
            stage.model_copy(update={"recursions": min(stage.recursions, stage_limit)})
            for stage, stage_limit in zip(self.stages, limits, strict=True)
        )
        return self.model_copy(update={"stages": stages})

    def canonical(self) -> ArchConfig:
        """Returns the simplest spelling of the network, e.g. without surplus groups; see `StageConfig.canonical`."""
        stages = tuple(stage.canonical(tokens) for stage, tokens in zip(self.stages, self.num_tokens, strict=True))
        stem = self.stem.canonical(self.stages[0].width)
        return self.model_copy(update={"stages": stages, "stem": stem})

    @property
    def arch_id(self) -> str:
        """Twelve hexadecimal digits that identify the network, equal for all spellings of it.

        Ratios enter as hidden widths: with width 64, ratios of 3.6 and 3.59375 give the same network. Variants enter
        where they are not the default, so that ids do not depend on variants that came later.
        """
        canonical = self.canonical()
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
            for stage in canonical.stages
        ]
        network = [self.image_size, self.channels, self.classes, float(self.drop_path)]
        content: list[Any] = [stages, [canonical.stem.width, list(canonical.stem.strides)], network]
        parts = (canonical, canonical.stem, *canonical.stages)
        variants = [part.variants for part in parts]
        if any(variants):
            content.append(variants)
        return short_digest(json.dumps(content, sort_keys=True))

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
        require_kind(data, "network", path)
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
        ratio, MLP ratio. Variants that are not the default follow, e.g. `permute=false`; those of the whole network,
        e.g. `residual=plain`, are at the end.
        """
        canonical = self.canonical()
        stages = [
            f"{s.width}/{s.heads}h {s.blocks}x{s.recursions} g{','.join(map(str, s.groups))} "
            f"{s.loop[:3]} {s.nll}{f'*{s.nll_ratio:g}' if s.num_nlls else ''} m{s.mlp_ratio:g}"
            + "".join(f" {name}={str(value).lower()}" for name, value in s.variants.items())
            for s in canonical.stages
        ]
        return " | ".join([*stages, *canonical.variant_words()])

    def variant_words(self) -> list[str]:
        """Returns the variants of the whole network that are not the default, e.g. `residual=plain`, `stem=patch`."""
        stem = {"stem" if name == "kind" else f"stem {name}": value for name, value in self.stem.variants.items()}
        return [f"{name}={value}" for name, value in {**stem, **self.variants}.items()]
