"""Lists of choices for the stem and for one stage, as a search space's YAML writes them, with their rules.

Every listed value must be distinct and part of a legal stage. A mistyped number is therefore refused at once; it would
otherwise silently shrink the space.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from math import prod
from typing import Annotated, Any, NamedTuple, Self, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    StrictBool,
    StrictInt,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError

from sret_nas.arch.parts import (
    Loop,
    NLLPlacement,
    Ratio,
    StemConfig,
    StemKind,
    StemNorm,
    Stride,
    WithVariants,
    require_strides_of_convolutions,
)
from sret_nas.arch.sizes import hidden_width, paper_stem_width
from sret_nas.errors import describe

MAX_SPELLINGS = 250_000
"""Most combinations of listed values in all stages of a space, because their tables are held in memory."""

Item = TypeVar("Item")


def _must_be_list(value: Any) -> Any:
    """Returns the value. Raises `ValueError` if it is no list."""
    if not isinstance(value, list | tuple):
        got = describe(value)
        raise ValueError(f"must be a list of choices, got {got}; a single choice is a list of one: [{got}]")
    return value


def _must_be_schedule(value: Any) -> Any:
    """Returns the value. Raises `ValueError` if it is no list of group counts."""
    if not isinstance(value, list | tuple):
        got = describe(value)
        raise ValueError(f"must be a schedule, one number per recursion, got {got}; [{got}] repeats it")
    return value


def _must_be_distinct(values: tuple[Item, ...]) -> tuple[Item, ...]:
    """Returns the values. Raises `ValueError` if one is listed twice."""
    if len(set(values)) < len(values):
        seen: set[Item] = set()
        for value in values:
            if value in seen:
                raise ValueError(f"must list every choice once, got {_format_value(value)} twice")
            seen.add(value)
    return values


def _must_be_distinct_schedules(schedules: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
    """Returns the schedules. Raises `ValueError` if two are equal once their last numbers are repeated."""
    seen: dict[tuple[int, ...], tuple[int, ...]] = {}
    longest = max(map(len, schedules))
    for schedule in schedules:
        full_schedule = schedule_of(schedule, longest)
        if full_schedule in seen:
            raise ValueError(
                f"must list every schedule once, got {_format_value(seen[full_schedule])} and "
                f"{_format_value(schedule)}, which mean the same because the last number is repeated"
            )
        seen[full_schedule] = schedule
    return schedules


def _format_value(value: Any) -> str:
    """Formats a listed value, or the list of all, as YAML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return describe(list(value)) if isinstance(value, tuple) else str(value)


Listed = Annotated[
    tuple[Item, ...], Field(min_length=1), BeforeValidator(_must_be_list), AfterValidator(_must_be_distinct)
]
"""The values to choose from: at least one, all distinct."""


def _one_or_listed(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """Validates a list of values, or a single value as a list of one, whose errors then name the key alone."""
    if isinstance(value, list | tuple):
        return validate(value)
    try:
        return validate([value])
    except ValidationError as error:
        problems = [
            InitErrorDetails(type=one["type"], loc=one["loc"][1:], input=one["input"], ctx=one.get("ctx", {}))
            for one in error.errors(include_url=False)
        ]
        raise ValidationError.from_exception_data(error.title, problems) from None


def _one_or_all(values: tuple[Item, ...]) -> Any:
    """Returns a single value without its list, as it was written before there were lists."""
    return values[0] if len(values) == 1 else list(values)


OneOrListed = Annotated[
    tuple[Item, ...],
    Field(min_length=1),
    AfterValidator(_must_be_distinct),
    WrapValidator(_one_or_listed),
    PlainSerializer(_one_or_all),
]
"""A value that all networks have, or a list of those to choose from."""

Width = Annotated[StrictInt, Field(ge=1, le=8192)]
"""Channels; the bounds are those of `StageConfig.width` and `StemConfig.width`."""

Schedule = Annotated[
    tuple[Annotated[StrictInt, Field(ge=1, le=1_000_000)], ...],
    Field(min_length=1, max_length=16),
    BeforeValidator(_must_be_schedule),
]
"""Slices of the attention (G) in recursion 1, 2, ...; the last number repeats for all further recursions."""


class StemChoice(NamedTuple):
    """One choice of a stem. `width` is None for the paper's: half the first stage's."""

    width: int | None
    kind: StemKind
    norm: StemNorm


class StemChoices(WithVariants):
    """The choices of the stem. Strides are those of all networks."""

    VARIANTS = ("kind", "norm")

    width: Listed[Width] | None = None
    """Output channels of the first convolution; null means the paper's stem: half the first stage's width."""
    strides: tuple[Stride, Stride, Stride] = (2, 2, 2)
    kind: OneOrListed[StemKind] = ("conv",)
    norm: OneOrListed[StemNorm] = ("batch",)

    @model_validator(mode="before")
    @classmethod
    def _check_convolutions(cls, given: Any) -> Any:
        """Raises `ValueError` for strides that convolutions, if they are listed, cannot have."""
        if isinstance(given, dict):
            kinds = given.get("kind", "conv")
            if "conv" in (kinds if isinstance(kinds, list | tuple) else [kinds]):
                require_strides_of_convolutions(given.get("strides"))
        return given

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Raises `ValueError` for choices that contradict each other."""
        for stem in self.stems:
            self.config(stem, 1)
        for name in ("width", "norm"):
            value = getattr(self, name)
            if self.kind == ("patch",) and value != type(self).model_fields[name].default:
                got = value[0] if name == "norm" and len(value) == 1 else _format_value(value)
                raise ValueError(f"a stem of kind patch has no {name}, got {got}")
        return self

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The keys that list what to choose from: the width wherever it is listed, kind and norm if several are."""
        varied = tuple(name for name in self.VARIANTS if len(getattr(self, name)) > 1)
        return ("width", *varied) if self.width else varied

    @property
    def stems(self) -> tuple[StemChoice, ...]:
        """The distinct stems. A patch embedding has neither a width of its own nor a norm, so it is one of them."""
        patches = StemChoice(None, "patch", "batch")
        every = [StemChoice(*one) for one in product(self.width or (None,), self.kind, self.norm)]
        return tuple(dict.fromkeys(stem if stem.kind == "conv" else patches for stem in every))

    def spelling(self, stem: StemChoice) -> dict[str, Any]:
        """Returns the listed values that spell one of `stems`, by dimension: of several, the first."""
        spelled = {"width": stem.width, "kind": stem.kind, "norm": stem.norm}
        without = ("width", "norm") if stem.kind == "patch" else ()
        return {name: getattr(self, name)[0] if name in without else spelled[name] for name in self.dimensions}

    def find(self, stem: StemConfig, width: int) -> StemChoice | None:
        """Returns the one of `stems` that a stem before a first stage of some width is, or None."""
        if stem.kind == "patch":
            found, is_same = StemChoice(None, "patch", "batch"), prod(stem.strides) == prod(self.strides)
        else:
            found = StemChoice(stem.width if self.width else None, "conv", stem.norm)
            is_same = stem.strides == self.strides and (bool(self.width) or stem.width == paper_stem_width(width))
        return found if is_same and found in self.stems else None

    def config(self, stem: StemChoice, width: int) -> StemConfig:
        """Returns one of `stems` before a first stage of some width."""
        own = paper_stem_width(width) if stem.width is None else stem.width
        return StemConfig(width=own, strides=self.strides, kind=stem.kind, norm=stem.norm).canonical(width)


class StageChoices(WithVariants):
    """The choices of one stage: each key lists the values that the same field of `StageConfig` may take."""

    VARIANTS = ("permute", "inverse", "permute_single")

    width: Listed[Width]
    heads: Listed[Annotated[StrictInt, Field(ge=1, le=512)]]
    blocks: Listed[Annotated[StrictInt, Field(ge=1, le=128)]]
    recursions: Listed[Annotated[StrictInt, Field(ge=1, le=16)]]
    groups: Annotated[Listed[Schedule], AfterValidator(_must_be_distinct_schedules)]
    """Complete schedules, one number per recursion; a shorter schedule repeats its last number."""
    loop: Listed[Loop]
    nll: Listed[NLLPlacement]
    nll_ratio: Listed[Ratio]
    mlp_ratio: Listed[Ratio]
    permute: Listed[StrictBool] = (True,)
    inverse: Listed[StrictBool] = (True,)
    permute_single: Listed[StrictBool] = (False,)

    @property
    def dimensions(self) -> tuple[str, ...]:
        """`STAGE_DIMENSIONS`, and the variants that do not have their default."""
        return (*STAGE_DIMENSIONS, *self.variants)

    @property
    def num_spellings(self) -> int:
        """Number of combinations of the listed values, including illegal and equivalent ones."""
        return prod(len(getattr(self, name)) for name in self.dimensions)

    @model_validator(mode="before")
    @classmethod
    def _check_num_spellings(cls, data: Any) -> Any:
        """Raises `ValueError` for too many combinations, before the values themselves are validated."""
        if isinstance(data, dict):
            listed = [data[name] for name in cls.model_fields if isinstance(data.get(name), list | tuple)]
            num_spellings = prod(max(1, len(values)) for values in listed)
            if num_spellings > MAX_SPELLINGS:
                raise ValueError(
                    f"a stage must spell at most {MAX_SPELLINGS:,} combinations, got {num_spellings:,}; "
                    "list fewer values"
                )
        return data

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Raises `ValidationError` for a listed value that occurs in no legal stage."""
        widths = f"and widths are {_format_value(self.width)}"
        for name in ("nll_ratio", "mlp_ratio"):
            self._check_useful(
                name,
                lambda ratio: hidden_width(max(self.width), ratio) >= 1,
                f"{name} * width must be at least 1, {widths}",
            )
        self._check_useful(
            "heads", lambda heads: any(w % heads == 0 for w in self.width), f"heads must divide width, {widths}"
        )
        others = list(product(self.heads, self.nll_ratio, self.mlp_ratio))
        self._check_useful(
            "width",
            lambda width: any(is_legal(width, *other) for other in others),
            f"heads must divide width and ratio * width be at least 1, and heads are {_format_value(self.heads)}, "
            f"nll_ratio {_format_value(self.nll_ratio)}, mlp_ratio {_format_value(self.mlp_ratio)}",
        )
        return self

    def _check_useful(self, name: str, is_useful: Callable[[Any], bool], rule: str) -> None:
        """Raises `ValidationError` if a value of one dimension occurs in no legal stage.

        Heads and ratios do not constrain each other, and every width is itself checked to be in a legal stage. So a
        value of theirs that fits one width is in a legal stage.
        """
        for position, value in enumerate(getattr(self, name)):
            if not is_useful(value):
                raise error_at((name, position), f"{value} is in no legal network: {rule}", value)


def error_at(location: tuple[str | int, ...], problem: str, value: object) -> ValidationError:
    """Returns a validation error at a key inside the model; a plain `ValueError` would only name the model."""
    kind = PydanticCustomError("value_error", "{error}", {"error": problem})
    return ValidationError.from_exception_data("choices", [InitErrorDetails(type=kind, loc=location, input=value)])


STAGE_DIMENSIONS = tuple(name for name in StageChoices.model_fields if name not in StageChoices.VARIANTS)
"""The keys that every stage has, in the order of `StageTable.spelling` and `SearchSpace.dimensions`."""


def is_legal(width: int, heads: int, nll_ratio: float, mlp_ratio: float) -> bool:
    """Returns whether `StageConfig` accepts these values together; its other fields cannot contradict each other."""
    return width % heads == 0 and hidden_width(width, nll_ratio) >= 1 and hidden_width(width, mlp_ratio) >= 1


def schedule_of(groups: tuple[int, ...], recursions: int) -> tuple[int, ...]:
    """Returns one group count per recursion: the schedule is cut, or its last number repeated."""
    return (groups + groups[-1:] * recursions)[:recursions]
