"""The architecture of a Sliced Recursive Transformer as data; no tensor is built here.

An architecture is a stem, a row of stages and a classifier head (Shen, Liu, Xing, "Sliced Recursive Transformer",
ECCV 2022, arXiv 2111.05297). A stage owns `blocks` distinct transformer blocks and applies each `recursions` times.

Our `blocks` is `recursive_num` of the public code; our `blocks * recursions` is its `depth`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, StrictFloat, StrictInt, ValidationInfo, field_validator, model_validator

from sret_nas.arch.parts import CLASS_TOKENS, Head, Residual, StageConfig, StemConfig, WithVariants
from sret_nas.arch.sizes import paper_stem_width, token_sides
from sret_nas.errors import ConfigError, describe
from sret_nas.files import as_path, short_digest, validate
from sret_nas.yaml_files import read_yaml
from sret_nas.yaml_kinds import require_kind


def paper_stem(fields: dict[str, Any]) -> StemConfig:
    """Returns the default stem of an architecture, given its validated `stages`."""
    return StemConfig(width=_paper_stem_width_of(fields))


def _paper_stem_width_of(fields: dict[str, Any]) -> int:
    stages = fields.get("stages") or ()  # absent if invalid, which is a reported error of its own
    return int(paper_stem_width(stages[0].width)) if stages else 1


class ArchConfig(WithVariants):
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
        if len(limits) != len(self.stages) or not all(isinstance(one, Integral) and one >= 1 for one in limits):
            raise ValueError(f"limit must be one positive number, or one per stage, got {limit}")
        stages = tuple(
            stage.model_copy(update={"recursions": min(stage.recursions, int(stage_limit))})
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
        path = as_path(path, "the YAML file")
        data = read_yaml(path)
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
