"""A study: one question about networks or their training, as a YAML file that anyone can run again.

It names a base, variants of it, how all are trained, on how many seeds, and what is claimed about the outcome.
`studies/` has the shipped ones. Reading a study trains nothing and imports no torch.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StrictFloat,
    StrictInt,
    StrictStr,
    model_validator,
)

from sret_nas.errors import describe
from sret_nas.space.search_space import DepthSchedule

MAX_VARIANTS, MAX_CLAIMS, MAX_SEEDS = 32, 16, 1000

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,39}")


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"must be 1 to 40 letters, digits or _ . + -, the first a letter or digit, got {describe(name)}"
        )
    return name


def _checked_base(base: Any) -> Any:
    if not isinstance(base, str | dict):
        raise ValueError(f"must be a preset, a YAML file, or a mapping with the architecture, got {describe(base)}")
    return base


Name = Annotated[StrictStr, AfterValidator(_checked_name)]
"""A name that is also part of a folder's name."""

Text = Annotated[StrictStr, Field(min_length=1, max_length=2000)]
Count = Annotated[StrictInt, Field(ge=2, le=10**9)]
Changes = dict[StrictStr, JsonValue]

Labels = Literal["classes", "soft", "hard and soft"]
"""What a network learns: the images' classes, a teacher's probabilities, or the mean of both."""

Measure = Literal["depths", "curves", "coefficients"]
"""What is measured beside error, cross-entropy and time: the error at every recursion depth, validation after every
epoch, the residual coefficients."""

TEACHER = "teacher"
"""Name of the teacher among a study's trainings."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Variant(_Section):
    """One answer to the question: what differs from the base."""

    name: Name
    changes: Changes = {}
    """Fields of the architecture. Under `stages`, a mapping changes all stages, a list each stage by itself."""
    recipe: Changes = {}
    """Values of the recipe."""
    depth_schedule: DepthSchedule | None = None
    labels: Labels = "classes"


class TeacherSection(_Section):
    """The teacher of a study, which is trained first, on the classes."""

    changes: Changes = {}
    recipe: Changes = {}


class StudyData(_Section):
    """How many images of what size, unless the command line says otherwise."""

    image_size: Annotated[StrictInt, Field(ge=8, le=4096)] | None = None
    """Side of the input in pixels; None means the base's."""
    max_train_images: Count | None = None
    max_val_images: Count | None = None
    max_test_images: Count | None = None


class Claim(_Section):
    """What somebody claims about two variants, and what would have to be seen if it holds."""

    text: Text
    source: Text
    """Where it was read."""
    figure: Text | None = None
    """The claimed figure, in words; None if the source has none."""
    better: Name | None = None
    """The variant with the smaller error, compared with `than`."""
    than: Name | None = None
    equal: tuple[Name, Name] | None = None
    """Two variants whose errors differ by less than `within`."""
    within: Annotated[StrictFloat, Field(gt=0, le=100)] | None = None
    """Points of top-1 error."""
    at_depth: Annotated[StrictInt, Field(ge=1, le=16)] | None = None
    """Recursions at which the errors are compared, at most; None: all."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        is_order, is_equality = self.better is not None, self.equal is not None
        if is_order == is_equality:
            raise ValueError("a claim needs either better and than, or equal and within")
        if (self.than is None) == is_order:
            raise ValueError("better and than go together: the names of two variants")
        if (self.within is None) == is_equality:
            raise ValueError("equal and within go together: two variants, and the points that they differ by at most")
        return self

    @property
    def pair(self) -> tuple[str, str]:
        """The two variants that are compared; of an order, the better one first."""
        if self.equal is not None:
            return self.equal
        assert self.better is not None
        assert self.than is not None
        return self.better, self.than


class Study(_Section):
    """A study, as its file has it."""

    name: Name
    title: Text
    question: Text
    setting: Text | None = None
    """How the trainings differ from those of the claims, for readers."""
    base: Annotated[StrictStr | Changes, BeforeValidator(_checked_base)]
    """A preset, a YAML file beside the study, or the architecture itself."""
    changes: Changes = {}
    """What differs from the base in all variants."""
    recipe: StrictStr = "small"
    """A shipped recipe, or a YAML file beside the study."""
    recipe_changes: Changes = {}
    data: StudyData = StudyData()
    seeds: Annotated[StrictInt, Field(ge=1, le=MAX_SEEDS)] = 3
    measure: tuple[Measure, ...] = ()
    teacher: TeacherSection | None = None
    variants: Annotated[tuple[Variant, ...], Field(min_length=2, max_length=MAX_VARIANTS)]
    reference: Name | None = None
    """The variant that all others are compared with; None means the first."""
    claims: Annotated[tuple[Claim, ...], Field(max_length=MAX_CLAIMS)] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [variant.name for variant in self.variants]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"variants must have different names, got {twice!r} twice")
        if TEACHER in names:
            raise ValueError(f"a variant must not be called {TEACHER!r}, which is the name of the study's teacher")
        mentioned = [self.reference, *(name for claim in self.claims for name in claim.pair)]
        unknown = next((name for name in mentioned if name is not None and name not in names), None)
        if unknown is not None:
            raise ValueError(f"there is no variant {unknown!r}; the variants are {', '.join(names)}")
        taught = next((variant.name for variant in self.variants if variant.labels != "classes"), None)
        if taught is not None and self.teacher is None:
            raise ValueError(f"the labels of variant {taught!r} need a teacher, which the study must have")
        if self.teacher is not None and taught is None:
            raise ValueError("a teacher is of use only if the labels of a variant are soft, or hard and soft")
        return self

    @property
    def reference_name(self) -> str:
        return self.reference or self.variants[0].name
