"""A study whose base, recipe and variants have been read and checked, and the trainings that it asks for."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.presets import preset
from sret_nas.errors import ConfigError, UserError, describe
from sret_nas.files import expand_home, validate
from sret_nas.space.search_space import DepthSchedule, canonical_schedule
from sret_nas.yaml_files import read_yaml
from sret_nas.yaml_kinds import require_kind

from ..training.full_recipe import Recipe
from .study import TEACHER, Labels, Study

Built = TypeVar("Built")


@dataclass(frozen=True, kw_only=True)
class StudyTraining:
    """What is trained for a variant, or for the teacher, whatever the seed."""

    name: str
    arch: ArchConfig
    """With the image size of the study; classes and channels are those of the data, once it is known."""
    recipe: Recipe
    schedule: DepthSchedule
    labels: Labels

    def on(self, *, classes: int, channels: int) -> StudyTraining:
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
        require_kind(data, "study", path)
        study = validate(Study, data, str(path))
        loaded = cls(study, _base(study, path), _recipe(study, path))
        loaded.require_valid(str(path))
        loaded.require_of_use(str(path))
        return loaded

    @classmethod
    def recorded(cls, data: Mapping[str, Any], source: str) -> Self:
        """Returns the study that `to_dict` recorded. Raises `ConfigError` if it is not valid any more."""
        study = validate(Study, data.get("study"), source)
        base = ArchConfig.from_dict(data.get("base"), source)
        loaded = cls(study, base, Recipe.parse(data.get("recipe"), source))
        loaded.require_valid(source)
        return loaded

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
        changed.require_of_use("--epochs")
        return changed

    @cached_property
    def trainings(self) -> tuple[StudyTraining, ...]:
        """The trainings of a seed: of each variant, in the order of the file."""
        return tuple(self._training(index, "study") for index in range(len(self.study.variants)))

    @cached_property
    def teacher(self) -> StudyTraining | None:
        """The training of the teacher; None if there is none."""
        return None if self.study.teacher is None else self._teacher("study")

    def require_valid(self, source: str) -> None:
        """Raises `ConfigError` with the key of the first variant that is not valid."""
        for index in range(len(self.study.variants)):
            self._training(index, source)
        if self.study.teacher is not None:
            self._teacher(source)

    def require_of_use(self, source: str) -> None:
        """Raises `ConfigError` for trainings that could tell nothing: two equal ones, or a claim that is not measured.

        Records of earlier versions may have such trainings, and are read.
        """
        self._require_differences(source)
        for index, claim in enumerate(self.study.claims):
            if claim.at_depth is not None and "depths" not in self.study.measure:
                problem = "needs the error at every depth, which is not measured: write depths under measure"
                raise ConfigError(source, f"claims[{index}].at_depth", problem)

    def _training(self, index: int, source: str) -> StudyTraining:
        variant, key = self.study.variants[index], f"variants[{index}]"
        arch = changed_architecture(self.base, variant.changes, source, f"{key}.changes")
        recipe = _changed_recipe(self.recipe, variant.recipe, source, f"{key}.recipe")
        schedule = variant.depth_schedule or recipe.depth_schedule or "full"
        return StudyTraining(
            name=variant.name, arch=arch, recipe=recipe, schedule=canonical_schedule(arch, schedule),
            labels=variant.labels,
        )  # fmt: skip

    def _teacher(self, source: str) -> StudyTraining:
        assert self.study.teacher is not None
        part = self.study.teacher
        arch = changed_architecture(self.base, part.changes, source, "teacher.changes")
        recipe = _changed_recipe(self.recipe, part.recipe, source, "teacher.recipe")
        schedule = canonical_schedule(arch, recipe.depth_schedule or "full")
        return StudyTraining(name=TEACHER, arch=arch, recipe=recipe, schedule=schedule, labels="classes")

    def _require_differences(self, source: str) -> None:
        """Raises `ConfigError` if two variants are the same training: their difference would be 0 for certain."""
        seen: dict[tuple[str, str, str, str], int] = {}
        for index, training in enumerate(self.trainings):
            training = training.on(classes=self.base.classes, channels=self.base.channels)
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
    path = expand_home(name_or_path)
    if name_or_path in shipped:
        return shipped[name_or_path]
    if path.suffix not in (".yaml", ".yml") and not path.is_file():
        raise UserError(f"{name_or_path!r} is no study: name a YAML file, or one of {', '.join(shipped)}")
    return path
