"""What may vary in the stem and in one stage: lists of choices, as a search space's YAML writes them, and their rules.

Every listed value must be of use: none twice, and none that is in no legal stage. A mistyped number is so refused at
once, where it would silently shrink the space.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from math import prod
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError

from sret_nas.arch.config import Loop, NLLPlacement, Ratio, hidden_width
from sret_nas.errors import describe

MAX_SPELLINGS = 1_000_000
"""Combinations that one stage may spell; its table is held in memory."""

Item = TypeVar("Item")


def _must_be_list(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        got = describe(value)
        raise ValueError(f"must be a list of choices, got {got}; a single choice is a list of one: [{got}]")
    return value


def _must_be_schedule(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        got = describe(value)
        raise ValueError(f"must be a schedule, one number per recursion, got {got}; [{got}] repeats it")
    return value


def _must_be_distinct(values: tuple[Item, ...]) -> tuple[Item, ...]:
    if len(set(values)) < len(values):
        seen: set[Item] = set()
        for value in values:
            if value in seen:
                raise ValueError(f"must list every choice once, got {_spell(value)} twice")
            seen.add(value)
    return values


def _must_be_distinct_schedules(schedules: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
    seen: dict[tuple[int, ...], tuple[int, ...]] = {}
    longest = max(map(len, schedules))
    for schedule in schedules:
        spelled_out = schedule_of(schedule, longest)
        if spelled_out in seen:
            raise ValueError(
                f"must list every schedule once, got {_spell(seen[spelled_out])} and {_spell(schedule)}, "
                "which mean the same because the last number is repeated"
            )
        seen[spelled_out] = schedule
    return schedules


def _spell(value: Any) -> str:
    return describe(list(value)) if isinstance(value, tuple) else str(value)


Listed = Annotated[
    tuple[Item, ...], Field(min_length=1), BeforeValidator(_must_be_list), AfterValidator(_must_be_distinct)
]
"""The values that may be chosen: at least one, each once."""

Width = Annotated[StrictInt, Field(ge=1, le=8192)]
"""Channels; the bounds are those of `StageConfig.width` and `StemConfig.width`."""

Schedule = Annotated[
    tuple[Annotated[StrictInt, Field(ge=1, le=1_000_000)], ...],
    Field(min_length=1, max_length=16),
    BeforeValidator(_must_be_schedule),
]
"""Slices of the attention (G) in recursion 1, 2, ...; the last number is repeated as often as needed."""


class StemChoices(BaseModel):
    """What may vary in the stem."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: Listed[Width] | None = None
    """Output channels of the first convolution; null is the paper's half of the first stage's width."""
    strides: tuple[Literal[1, 2], Literal[1, 2], Literal[1, 2]] = (2, 2, 2)


class StageChoices(BaseModel):
    """What may vary in one stage; every key is a list of the values that `StageConfig` may take there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: Listed[Width]
    heads: Listed[Annotated[StrictInt, Field(ge=1, le=512)]]
    blocks: Listed[Annotated[StrictInt, Field(ge=1, le=128)]]
    recursions: Listed[Annotated[StrictInt, Field(ge=1, le=16)]]
    groups: Annotated[Listed[Schedule], AfterValidator(_must_be_distinct_schedules)]
    """Whole schedules, one number per recursion; one that is too short repeats its last number."""
    loop: Listed[Loop]
    nll: Listed[NLLPlacement]
    nll_ratio: Listed[Ratio]
    mlp_ratio: Listed[Ratio]

    @property
    def num_spellings(self) -> int:
        """Combinations of the listed values, illegal and repeated ones included."""
        return prod(len(getattr(self, name)) for name in STAGE_DIMENSIONS)

    @model_validator(mode="before")
    @classmethod
    def _check_number(cls, data: Any) -> Any:
        """Before any value is looked at: what is too much is refused at once."""
        if isinstance(data, dict):
            listed = [data[name] for name in cls.model_fields if isinstance(data.get(name), list | tuple)]
            number = prod(max(1, len(values)) for values in listed)
            if number > MAX_SPELLINGS:
                raise ValueError(
                    f"a stage must spell at most {MAX_SPELLINGS:,} combinations, got {number:,}; list fewer values"
                )
        return data

    @model_validator(mode="after")
    def _check(self) -> Self:
        widths = f"and widths are {_spell(self.width)}"
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
            f"heads must divide width and ratio * width be at least 1, and heads are {_spell(self.heads)}, "
            f"nll_ratio {_spell(self.nll_ratio)}, mlp_ratio {_spell(self.mlp_ratio)}",
        )
        return self

    def _check_useful(self, name: str, is_useful: Callable[[Any], bool], rule: str) -> None:
        """Raises if a value of one dimension is in no legal stage.

        Every width that passes is legal with some heads and ratios, and each of those with any other such ratio, so
        that to find one width for every value of the other dimensions is enough.
        """
        for position, value in enumerate(getattr(self, name)):
            if not is_useful(value):
                raise _error_at((name, position), f"{value} is in no legal network: {rule}", value)


def _error_at(location: tuple[str | int, ...], problem: str, value: object) -> ValidationError:
    """A validation error at a place inside the model that raises it; a `ValueError` would name the model only."""
    kind = PydanticCustomError("value_error", "{error}", {"error": problem})
    return ValidationError.from_exception_data("StageChoices", [InitErrorDetails(type=kind, loc=location, input=value)])


STAGE_DIMENSIONS = tuple(StageChoices.model_fields)
"""The keys of a stage, in the order in which `StageTable.spelling` and `SearchSpace.dimensions` have them."""


def is_legal(width: int, heads: int, nll_ratio: float, mlp_ratio: float) -> bool:
    """Whether `StageConfig` accepts these together; its other values cannot contradict each other."""
    return width % heads == 0 and hidden_width(width, nll_ratio) >= 1 and hidden_width(width, mlp_ratio) >= 1


def schedule_of(groups: tuple[int, ...], recursions: int) -> tuple[int, ...]:
    """The group count of every recursion: the schedule cut to `recursions`, or its last number repeated."""
    return (groups + groups[-1:] * recursions)[:recursions]
