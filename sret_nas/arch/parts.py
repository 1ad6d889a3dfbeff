"""The parts of an architecture as data: its stages and its stem, and the kinds of what they have."""

from __future__ import annotations

from functools import cache
from math import prod
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StrictBool,
    StrictFloat,
    StrictInt,
    ValidationError,
    model_serializer,
    model_validator,
)

from sret_nas.arch.sizes import hidden_width, paper_stem_width
from sret_nas.errors import describe
from sret_nas.files import validate

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)  # it has no public name

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


class _ToldInOneLine(ModelMetaclass):
    """Classes that a program may call: what is wrong is told as of a file's data, in one line.

    Pydantic itself, which builds the parts of a whole, does not call them, so that its errors name the way to a value.
    """

    def __call__(cls: Any, *args: Any, **values: Any) -> Any:  # noqa: N805 - what is called is a class
        """Builds an object. Raises `ConfigError` with the first thing that is wrong."""
        try:
            return super().__call__(*args, **values)
        except ValidationError:
            return validate(cls, values, cls.__name__)


class WithVariants(BaseModel, metaclass=_ToldInOneLine):
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
def _default_variants(part: type[WithVariants]) -> tuple[tuple[str, Any], ...]:
    """Returns the keys of `VARIANTS` with their defaults, which pydantic looks up slowly."""
    return tuple((name, part.model_fields[name].default) for name in part.VARIANTS)


class StageConfig(WithVariants):
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
        """Returns the simplest spelling of the stage: fields that have no effect with `num_tokens` are fixed."""
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


class StemConfig(WithVariants):
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

    @model_validator(mode="before")
    @classmethod
    def _check_convolutions(cls, given: Any) -> Any:
        """Raises `ValueError` for convolutions with other strides than 1 and 2: larger ones skip pixels."""
        if isinstance(given, dict) and given.get("kind", "conv") == "conv":
            require_strides_of_convolutions(given.get("strides"))
        return given

    def canonical(self, width: int) -> StemConfig:
        """Returns the simplest spelling of the stem, given the first stage's width."""
        if self.kind == "conv":
            return self
        spelled = _PATCH_STRIDES[prod(self.strides)]
        return self.model_copy(update={"width": paper_stem_width(width), "strides": spelled, "norm": "batch"})


def require_strides_of_convolutions(strides: Any) -> None:
    """Raises `ValueError` for three whole numbers other than 1 and 2. What else is no list of strides is told later."""
    are_three = isinstance(strides, list | tuple) and [type(one) for one in strides] == [int] * 3
    if are_three and not {1, 2}.issuperset(strides):
        raise ValueError(
            f"strides of 3x3 convolutions must be 1 or 2, got {describe(list(strides))}; a stem of kind patch may have "
            "4"
        )


_PATCH_STRIDES: dict[int, tuple[Stride, Stride, Stride]] = {
    prod(strides): strides for strides in ((1, 1, 1), (2, 1, 1), (2, 2, 1), (2, 2, 2), (4, 2, 2), (4, 4, 2), (4, 4, 4))
}
"""The strides that spell a patch embedding, by the side of its patches."""
