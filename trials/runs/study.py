"""A study: one question about networks or their training, as a YAML file that anyone can run again.

It names a base, variants of it, how all are trained, on how many seeds, and what is claimed about the outcome.
`studies/` has the shipped ones. Reading a study trains nothing and imports no torch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StrictFloat, StrictInt, StrictStr, model_validator

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.presets import preset
from sret_nas.errors import ConfigError, UserError, describe
from sret_nas.files import validate
from sret_nas.space.search_space import DepthSchedule, canonical_schedule
from sret_nas.yaml_files import read_yaml

from ..training.full_recipe import Recipe

Built = TypeVar("Built")

MAX_VARIANTS, MAX_CLAIMS, MAX_SEEDS = 32, 16, 1000

Name = Annotated[StrictStr, Field(min_length=1, max_length=40, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$")]
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


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Variant(_Part):
    """One answer to the question: what differs from the base."""

    name: Name
    changes: Changes = {}
    """Fields of the architecture. Under `stages`, a mapping changes all stages, a list each stage by itself."""
    recipe: Changes = {}
    """Values of the recipe."""
    depth_schedule: DepthSchedule | None = None
    labels: Labels = "classes"


class TeacherPart(_Part):
    """The teacher of a study, which is trained first, on the classes."""

    changes: Changes = {}
    recipe: Changes = {}


class StudyData(_Part):
    """How many images of what size, unless the command line says otherwise."""

    image_size: Annotated[StrictInt, Field(ge=8, le=4096)] | None = None
    """Side of the input in pixels; None means the base's."""
    max_train_images: Count | None = None
    max_val_images: Count | None = None
    max_test_images: Count | None = None


class Claim(_Part):
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
        """Returns the two variants that are compared; of an order, the better one first."""
        if self.equal is not None:
            return self.equal
        assert self.better is not None
        assert self.than is not None
        return self.better, self.than


class Study(_Part):
    """A study, as its file has it."""

    name: Name
    title: Text
    question: Text
    setting: Text | None = None
    """How the trainings differ from those of the claims, for readers."""
    base: StrictStr | Changes
    """A preset, a YAML file beside the study, or the architecture itself."""
    changes: Changes = {}
    """What differs from the base in all variants."""
    recipe: StrictStr = "small"
    """A shipped recipe, or a YAML file beside the study."""
    recipe_changes: Changes = {}
    data: StudyData = StudyData()
    seeds: Annotated[StrictInt, Field(ge=1, le=MAX_SEEDS)] = 3
    measure: tuple[Measure, ...] = ()
    teacher: TeacherPart | None = None
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


@dataclass(frozen=True, kw_only=True)
class Training:
    """What is trained for a variant, or for the teacher, whatever the seed."""

    name: str
    arch: ArchConfig
    """With the image size of the study; classes and channels are those of the data, once it is known."""
    recipe: Recipe
    schedule: DepthSchedule
    labels: Labels

    def on(self, *, classes: int, channels: int) -> Training:
        """Returns the training for a data set, with the recipe's stochastic depth."""
        rate = self.arch.drop_path if self.recipe.drop_path is None else self.recipe.drop_path
        changes = {"classes": classes, "channels": channels, "drop_path": rate}
        return replace(self, arch=self.arch.model_copy(update=changes))


@dataclass(frozen=True)
class LoadedStudy:
    """A study whose base, recipe and variants have been read and checked."""

    study: Study
    base: ArchConfig
    recipe: Recipe

    @classmethod
    def load(cls, name_or_path: str) -> Self:
        """Reads a shipped study by its name, or one from a YAML file.

        Raises `UserError` if there is neither, and `ConfigError` with file and key for whatever is wrong in it.
        """
        path = study_file(name_or_path)
        data = read_yaml(path)
        study = validate(Study, data, str(path))
        loaded = cls(study, _base(study, path), _recipe(study, path))
        loaded.require_valid(str(path))
        return loaded

    @classmethod
    def recorded(cls, data: Mapping[str, Any], source: str) -> Self:
        """Returns the study that `to_dict` recorded. Raises `ConfigError` if it is not valid any more."""
        study = validate(Study, data.get("study"), source)
        base = ArchConfig.from_dict(data.get("base"), source)
        return cls(study, base, Recipe.parse(data.get("recipe"), source))

    def to_dict(self) -> dict[str, Any]:
        """Returns the whole study as plain data; it needs no other file."""
        return {
            "study": self.study.model_dump(mode="json"),
            "base": self.base.to_dict(),
            "recipe": self.recipe.model_dump(mode="json"),
        }

    def with_epochs(self, epochs: int) -> LoadedStudy:
        """Returns the study with trainings of another length. Raises `ConfigError` if the recipe cannot be so short."""
        recipe = Recipe.parse({**self.recipe.model_dump(mode="json"), "epochs": epochs}, "--epochs")
        changed = LoadedStudy(self.study, self.base, recipe)
        changed.require_valid("--epochs")
        return changed

    @cached_property
    def trainings(self) -> tuple[Training, ...]:
        """The trainings of a seed: of each variant, in the order of the file."""
        return tuple(self._training(index, "study") for index in range(len(self.study.variants)))

    @cached_property
    def teacher(self) -> Training | None:
        """The training of the teacher; None if there is none."""
        return None if self.study.teacher is None else self._teacher("study")

    def require_valid(self, source: str) -> None:
        """Raises `ConfigError` with the key of the first variant that is not valid."""
        for index in range(len(self.study.variants)):
            self._training(index, source)
        if self.study.teacher is not None:
            self._teacher(source)
        self._require_differences(source)

    def _training(self, index: int, source: str) -> Training:
        variant, key = self.study.variants[index], f"variants[{index}]"
        arch = changed_architecture(self.base, variant.changes, source, f"{key}.changes")
        recipe = _changed_recipe(self.recipe, variant.recipe, source, f"{key}.recipe")
        schedule = variant.depth_schedule or recipe.depth_schedule or "full"
        return Training(
            name=variant.name, arch=arch, recipe=recipe, schedule=canonical_schedule(arch, schedule),
            labels=variant.labels,
        )  # fmt: skip

    def _teacher(self, source: str) -> Training:
        assert self.study.teacher is not None
        part = self.study.teacher
        arch = changed_architecture(self.base, part.changes, source, "teacher.changes")
        recipe = _changed_recipe(self.recipe, part.recipe, source, "teacher.recipe")
        schedule = canonical_schedule(arch, recipe.depth_schedule or "full")
        return Training(name=TEACHER, arch=arch, recipe=recipe, schedule=schedule, labels="classes")

    def _require_differences(self, source: str) -> None:
        """Raises `ConfigError` if two variants are the same training: their difference would be 0 for certain."""
        seen: dict[tuple[str, str, str, str], int] = {}
        for index, training in enumerate(self.trainings):
            content = training.arch.arch_id, training.recipe.model_dump_json(), training.schedule, training.labels
            other = seen.setdefault(content, index)
            if other != index:
                first, second = self.study.variants[other].name, self.study.variants[index].name
                problem = f"{second!r} trains the same network in the same way as {first!r}: nothing would differ"
                raise ConfigError(source, f"variants[{index}]", problem)


def changed_architecture(base: ArchConfig, changes: Mapping[str, Any], source: str, key: str) -> ArchConfig:
    """Returns an architecture with some fields replaced. Raises `ConfigError` with `source` and the key.

    Args:
        base: the architecture.
        changes: new values by field. `stages` holds a mapping for all stages, or a list with one for each.
        source: the file, for messages.
        key: where the changes stand in it, likewise.
    """
    data = base.to_dict()
    for name, value in changes.items():
        if name == "stages":
            data["stages"] = _changed_stages(data["stages"], value, source, f"{key}.stages")
        elif isinstance(value, dict) and isinstance(data.get(name), dict):
            data[name] = {**data[name], **value}
        else:
            data[name] = copy.deepcopy(value)
    return _with_key(lambda: ArchConfig.from_dict(data, source), key)


def _changed_stages(stages: list[dict[str, Any]], changes: Any, source: str, key: str) -> list[dict[str, Any]]:
    if isinstance(changes, dict):
        changes = [changes] * len(stages)
    if not isinstance(changes, list) or not all(isinstance(change, dict) for change in changes):
        raise ConfigError(
            source, key, f"must be a mapping for all stages, or a list with one for each, got {describe(changes)}"
        )
    if len(changes) != len(stages):
        raise ConfigError(source, key, f"must have one mapping for each of {len(stages)} stages, got {len(changes)}")
    return [{**stage, **copy.deepcopy(change)} for stage, change in zip(stages, changes, strict=True)]


def _changed_recipe(recipe: Recipe, changes: Mapping[str, Any], source: str, key: str) -> Recipe:
    data = {**recipe.model_dump(mode="json"), **changes}
    return _with_key(lambda: Recipe.parse(data, source), key)


def _with_key(build: Callable[[], Built], key: str) -> Built:
    """Returns what `build` does; its `ConfigError` gets the key under which the value stands in the study."""
    try:
        return build()
    except ConfigError as error:
        raise ConfigError(error.source, ".".join(filter(None, (key, error.key_path))), error.problem) from None


def _base(study: Study, path: Path) -> ArchConfig:
    """Returns the base with the changes of all variants. Raises `ConfigError` if it is no architecture."""
    source = str(path)
    if isinstance(study.base, dict):
        data = study.base
        base = _with_key(lambda: ArchConfig.from_dict(data, source), "base")
    elif study.base.endswith((".yaml", ".yml")):
        base = ArchConfig.from_yaml(path.parent / study.base)
    else:
        try:
            base = preset(study.base)
        except UserError as error:
            raise ConfigError(source, "base", f"{error}; or name a .yaml file") from None
    changes: dict[str, Any] = dict(study.changes)
    if study.data.image_size is not None:
        if "image_size" in changes:
            raise ConfigError(source, "changes.image_size", "is said by data.image_size as well: leave one out")
        changes["image_size"] = study.data.image_size
    return changed_architecture(base, changes, source, "changes")


def _recipe(study: Study, path: Path) -> Recipe:
    name = study.recipe
    beside = path.parent / name
    file = str(beside) if name.endswith((".yaml", ".yml")) and beside.is_file() else name
    try:
        recipe = Recipe.load(file, {})
    except ConfigError:
        raise  # the recipe's own file is at fault
    except UserError as error:
        raise ConfigError(str(path), "recipe", str(error)) from None
    return _changed_recipe(recipe, study.recipe_changes, str(path), "recipe_changes")


def shipped_studies() -> dict[str, Path]:
    """Returns the files of the shipped studies by name.

    They lie beside the packages in a checkout, and inside `sret_nas` once installed.
    """
    folder = Path(__file__).resolve().parents[2] / "studies"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def study_file(name_or_path: str) -> Path:
    """Returns the file of a shipped study, or the path itself. Raises `UserError` for a name that is neither."""
    shipped = shipped_studies()
    path = Path(name_or_path).expanduser()
    if name_or_path in shipped:
        return shipped[name_or_path]
    if path.suffix not in (".yaml", ".yml") and not path.is_file():
        raise UserError(f"{name_or_path!r} is no study: name a YAML file, or one of {', '.join(shipped)}")
    return path
