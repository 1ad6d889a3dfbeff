"""The trainings of a study: which variant on which seed, in which order, as jobs for a worker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..data import DataConfig
from ..engines.jobs import StudyTrainingJob
from ..runs.loaded_study import LoadedStudy, StudyTraining
from ..runs.study import TEACHER, Labels
from ..runs.study_options import StudyOptions
from ..runs.study_records import Key

TRAININGS = "trainings"
"""Folder in the run directory with a folder for each training."""

_HARD_SHARE: dict[Labels, float] = {"classes": 0.0, "soft": 0.0, "hard and soft": 0.5}


@dataclass(frozen=True)
class PlannedTraining:
    """A training on a seed."""

    training: StudyTraining
    seed: int
    job: StudyTrainingJob

    @property
    def key(self) -> Key:
        return self.training.name, self.seed

    @property
    def needs_teacher(self) -> bool:
        return self.training.labels != "classes"

    @property
    def directory(self) -> Path:
        return Path(self.job.directory)


@dataclass(frozen=True, kw_only=True)
class StudyJobContext:
    """What the jobs of a study share."""

    run_dir: Path
    options: StudyOptions
    data: DataConfig
    data_digest: str
    classes: int
    channels: int


def planned_trainings(loaded: LoadedStudy, seeds: range, context: StudyJobContext) -> list[PlannedTraining]:
    """Returns all trainings: the teacher first, then all variants of the first seed, of the second, and so on.

    So a study that is interrupted has compared its variants on some seeds, instead of having some variants alone.
    """
    planned = [] if loaded.teacher is None else [_planned(loaded, loaded.teacher, context.options.seed, context)]
    return [*planned, *(_planned(loaded, training, seed, context) for seed in seeds for training in loaded.trainings)]


def _planned(loaded: LoadedStudy, training: StudyTraining, seed: int, context: StudyJobContext) -> PlannedTraining:
    training = training.on(classes=context.classes, channels=context.channels)
    measure, options = loaded.study.measure, context.options
    recipe = training.recipe
    if "curves" not in measure and "coefficients" not in measure:
        recipe = recipe.model_copy(update={"validate_every": recipe.epochs})
    job = StudyTrainingJob(
        directory=str(_directory(context.run_dir, training.name, seed)),
        arch=training.arch,
        recipe=recipe,
        depth_schedule=training.schedule,
        seed=seed,
        data=context.data,
        data_digest=context.data_digest,
        teacher=None if training.labels == "classes" else str(teacher_directory(context)),
        hard_share=_HARD_SHARE[training.labels],
        depths="depths" in measure and training.name != TEACHER,
        device=options.device,
        threads=options.usable_threads,
    )
    return PlannedTraining(training, seed, job)


def teacher_directory(context: StudyJobContext) -> Path:
    """Returns the model directory of the teacher's best weights."""
    return _directory(context.run_dir, TEACHER, context.options.seed) / "best"


def _directory(run_dir: Path, name: str, seed: int) -> Path:
    return run_dir.absolute() / TRAININGS / f"{name}-seed{seed}"
