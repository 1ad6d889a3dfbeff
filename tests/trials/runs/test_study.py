"""Study files: the shipped ones, and how wrong ones are explained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sret_nas.arch.config import ArchConfig
from sret_nas.errors import ConfigError, UserError
from sret_nas.yaml_files import dump_yaml, read_yaml
from tests.trials.studies.tiny_study import DEFINITION, write_study
from trials.runs.loaded_study import LoadedStudy, changed_architecture, shipped_studies, study_file
from trials.runs.study_options import StudyOptions

BASE = ArchConfig.from_dict(DEFINITION["base"])


@pytest.mark.parametrize("name", sorted(shipped_studies()))
def test_shipped_studies_are_valid_and_long_enough(name: str) -> None:
    loaded = LoadedStudy.load(name)
    assert loaded.study.name == name
    assert loaded.study.seeds >= 3
    assert loaded.study.claims
    bounds = loaded.study.data
    assert bounds.max_train_images is not None
    recipe = loaded.recipe
    assert bounds.max_train_images // recipe.batch_size * recipe.batch_size * recipe.epochs > 100_000


def test_there_is_a_study_for_each_of_the_papers_questions() -> None:
    names = "deep depths distillation groups head loops nll recursion residuals stem"
    assert sorted(shipped_studies()) == names.split()


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"variant": []}, "variant: unknown key (known here: name, title, question"),
    ({"title": None}, "title: is missing"),
    ({"name": "../x"}, "name: must be 1 to 40 letters, digits or _ . + -, the first a letter or digit, got '../x'"),
    ({"base": 3}, "base: must be a preset, a YAML file, or a mapping with the architecture, got 3"),
    ({"seeds": 0}, "seeds: must be greater than or equal to 1, got 0"),
    ({"measure": ["speed"]}, "measure[0]: must be 'depths', 'curves' or 'coefficients', got 'speed'"),
    ({"base": "sret_huge"}, "base: unknown preset 'sret_huge'; the presets are "),
    ({"base": {"image_size": 16}}, "base.stages: is missing"),
    ({"recipe": "large"}, "recipe: 'large' is no recipe: name a YAML file, or one of "),
    ({"recipe_changes": {"epoch": 3}}, "recipe_changes.epoch: unknown key (known here: epochs"),
    ({"changes": {"stages": [{}, {}]}}, "changes.stages: must have one mapping for each of 1 stages, got 2"),
    ({"changes": {"stages": 3}}, "changes.stages: must be a mapping for all stages, or a list with one for each, got"),
    ({"changes": {"image_size": 8}, "data": {"image_size": 16}}, "changes.image_size: is said by data.image_size"),
    ({"reference": "none"}, "there is no variant 'none'; the variants are internal, external"),
    ({"teacher": {}}, "a teacher is of use only if the labels of a variant are soft, or hard and soft"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "problem"), WRONG)
def test_what_is_wrong_is_named_with_file_and_key(changes: dict[str, Any], problem: str, tmp_path: Path) -> None:
    path = write_study(tmp_path, **changes)
    with pytest.raises(ConfigError) as error:
        LoadedStudy.load(str(path))
    assert str(error.value).startswith(f"{path}: {problem}")


WRONG_VARIANTS: list[tuple[dict[str, Any], str]] = [
    ({"changes": {"stages": {"loop": "outer"}}}, "variants[1].changes.stages[0].loop: must be 'internal' or"),
    ({"changes": {"loop": "external"}}, "variants[1].changes.loop: unknown key"),
    ({"changes": {"stages": {"heads": 3}}}, "variants[1].changes.stages[0]: heads must divide width"),
    ({"recipe": {"learning_rate": -1.0}}, "variants[1].recipe.learning_rate: must be greater than 0"),
    ({"depth_schedule": "deep"}, "variants[1].depth_schedule: must be"),
    ({"labels": "soft"}, "the labels of variant 'external' need a teacher, which the study must have"),
    ({"name": "internal"}, "variants must have different names, got 'internal' twice"),
    ({"name": "teacher"}, "a variant must not be called 'teacher'"),
    ({}, "variants[1]: 'external' trains the same network in the same way as 'internal': nothing would differ"),
    ({"changes": {"stages": {"groups": [2, 1, 1]}}}, "variants[1]: 'external' trains the same network"),
]  # fmt: skip


@pytest.mark.parametrize(("variant", "problem"), WRONG_VARIANTS)
def test_a_wrong_variant_is_named(variant: dict[str, Any], problem: str, tmp_path: Path) -> None:
    path = write_study(tmp_path, variants=[{"name": "internal"}, {"name": "external", **variant}], claims=None)
    with pytest.raises(ConfigError) as error:
        LoadedStudy.load(str(path))
    assert str(error.value).startswith(f"{path}: {problem}")


WRONG_CLAIMS: list[tuple[dict[str, Any], str]] = [
    ({}, "claims[0]: a claim needs either better and than, or equal and within"),
    ({"better": "internal"}, "claims[0]: better and than go together"),
    ({"equal": ["internal", "external"]}, "claims[0]: equal and within go together"),
    ({"better": "internal", "than": "outer"}, "there is no variant 'outer'; the variants are internal, external"),
]  # fmt: skip


@pytest.mark.parametrize(("claim", "problem"), WRONG_CLAIMS)
def test_a_wrong_claim_is_named(claim: dict[str, Any], problem: str, tmp_path: Path) -> None:
    path = write_study(tmp_path, claims=[{"text": "It is.", "source": "nobody", **claim}])
    with pytest.raises(ConfigError) as error:
        LoadedStudy.load(str(path))
    assert str(error.value).startswith(f"{path}: {problem}")


def test_a_claim_at_a_depth_needs_the_depths_to_be_measured(tmp_path: Path) -> None:
    path = write_study(tmp_path, measure=["curves"])
    with pytest.raises(ConfigError) as error:
        LoadedStudy.load(str(path))
    assert str(error.value) == (
        f"{path}: claims[1].at_depth: needs the error at every depth, which is not measured: write depths under measure"
    )
    loaded = LoadedStudy.load(str(write_study(tmp_path)))
    recorded = loaded.to_dict()
    recorded["study"]["measure"] = ["curves"]
    assert LoadedStudy.recorded(recorded, "a run of an earlier version").study.claims[1].at_depth == 1


@pytest.mark.parametrize("changes", [{"drop_path": 0.3}, {"classes": 7}, {"channels": 1}])
def test_variants_that_differ_in_what_the_recipe_or_the_images_decide_are_the_same(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    how = {**DEFINITION["recipe_changes"], "drop_path": 0.1}
    variants = [{"name": "internal"}, {"name": "external", "changes": changes}]
    path = write_study(tmp_path, recipe_changes=how, variants=variants)
    with pytest.raises(ConfigError, match=r"variants\[1\]: 'external' trains the same network in the same way as"):
        LoadedStudy.load(str(path))


def test_variants_may_differ_in_stochastic_depth(tmp_path: Path) -> None:
    variants = [{"name": "internal"}, {"name": "external", "changes": {"drop_path": 0.3}}]
    loaded = LoadedStudy.load(str(write_study(tmp_path, variants=variants)))
    assert [training.on(classes=10, channels=1).arch.drop_path for training in loaded.trainings] == [0.0, 0.3]


def test_a_search_space_is_no_study() -> None:
    with pytest.raises(UserError, match=r"smoke.yaml: is a search space, which .* take, not a study"):
        LoadedStudy.load("search_spaces/smoke.yaml")


def test_a_name_that_is_neither_study_nor_file() -> None:
    with pytest.raises(UserError, match=r"'no-such' is no study: name a YAML file, or one of deep, depths"):
        study_file("no-such")


@pytest.mark.parametrize("name", ["mine.yaml", "mine.yml"])
def test_a_yaml_file_may_be_missing_yet(name: str) -> None:
    """Whoever reads it says so."""
    assert study_file(name) == Path(name)


def test_changes_replace_single_values() -> None:
    changed = changed_architecture(BASE, {"stem": {"width": 6}, "stages": [{"blocks": 3}]}, "file", "changes")
    expected = BASE.to_dict()
    expected["stem"]["width"], expected["stages"][0]["blocks"] = 6, 3
    assert changed == ArchConfig.from_dict(expected)


def test_what_is_recorded_is_the_whole_study(tmp_path: Path) -> None:
    """A study of a preset and a recipe by name needs neither of them once it is recorded."""
    changes = {"base": "sret_t", "changes": {"image_size": 64, "classes": 10}}
    loaded = LoadedStudy.load(str(write_study(tmp_path, **changes)))
    again = LoadedStudy.recorded(loaded.to_dict(), "records")
    assert again.trainings == loaded.trainings
    assert again.study == loaded.study


def test_a_teacher_is_the_base_with_its_own_changes(tmp_path: Path) -> None:
    """It learns from the classes alone, at the depths that its recipe trains."""
    teacher: dict[str, Any] = {"changes": {"stages": {"width": 16}}, "recipe": {"epochs": 5, "depth_schedule": "joint"}}
    variants = [{"name": "classes"}, {"name": "soft", "labels": "soft"}]
    loaded = LoadedStudy.load(str(write_study(tmp_path, teacher=teacher, variants=variants, claims=None)))
    assert loaded.teacher is not None
    assert loaded.teacher.arch == changed_architecture(BASE, {"stages": {"width": 16}}, "file", "changes")
    assert loaded.teacher.recipe == loaded.recipe.model_copy(update=teacher["recipe"])
    assert (loaded.teacher.name, loaded.teacher.labels, loaded.teacher.schedule) == ("teacher", "classes", "joint")
    assert LoadedStudy.load(str(write_study(tmp_path))).teacher is None


def test_a_wrong_teacher_is_named(tmp_path: Path) -> None:
    teacher = {"changes": {"stages": {"heads": 3}}}
    variants = [{"name": "classes"}, {"name": "soft", "labels": "soft"}]
    path = write_study(tmp_path, teacher=teacher, variants=variants, claims=None)
    with pytest.raises(ConfigError, match=rf"^{path}: teacher\.changes\.stages\[0\]: heads must divide width"):
        LoadedStudy.load(str(path))


def test_what_a_study_does_not_say(tmp_path: Path) -> None:
    """Three seeds, and all images at the base's size."""
    definition = {key: value for key, value in DEFINITION.items() if key not in ("seeds", "data")}
    path = tmp_path / "short.yaml"
    path.write_text(dump_yaml(definition))
    study = LoadedStudy.load(str(path)).study
    assert study.seeds == 3
    assert set(study.data.model_dump().values()) == {None}


def test_the_command_line_goes_before_the_studys_bounds(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    options = StudyOptions.parse({"study": str(path), "max_train_images": 32, "epochs": 1}, "study run")
    loaded = options.load()
    config = options.data_config_of(loaded)
    assert (config.max_train, config.max_val, config.max_test, config.image_size) == (32, 20, 40, 16)
    assert {training.recipe.epochs for training in loaded.trainings} == {1}


def test_a_resumed_study_keeps_the_bounds_that_it_was_begun_with(tmp_path: Path) -> None:
    begun = StudyOptions.parse({"study": str(write_study(tmp_path)), "max_train_images": 32}, "study run")
    recorded = StudyOptions.parse(begun.model_dump(mode="json"), "records")
    resumed = recorded.resumed_with({"workers": 1})
    assert resumed.data_config_of(resumed.load()) == begun.data_config_of(begun.load())


def test_files_beside_the_study_are_found(tmp_path: Path) -> None:
    from sret_nas.yaml_files import dump_yaml

    (tmp_path / "net.yaml").write_text(dump_yaml(BASE.to_dict()))
    (tmp_path / "own.yaml").write_text(dump_yaml({**read_yaml(Path("recipes/small.yaml")), "epochs": 7}))
    loaded = LoadedStudy.load(str(write_study(tmp_path, base="net.yaml", recipe="own.yaml", recipe_changes=None)))
    assert loaded.base == BASE
    assert loaded.recipe.epochs == 7
