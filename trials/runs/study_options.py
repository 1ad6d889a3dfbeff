"""The options of `study run`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StrictInt, field_validator

from sret_nas.errors import UserError

from ..data import DataConfig
from .engine_options import EngineOptions
from .loaded_study import LoadedStudy, shipped_studies
from .option_groups import DataOptions, absolute_if_there, flag
from .study import MAX_SEEDS

CHANGEABLE = {
    "data", "data_root", "seeds", "engine", "ray_address", "gpus_per_trial", "workers", "threads", "device",
    "trial_timeout",
}  # fmt: skip
"""Options that may change when a study is resumed. The images must be the same, but may have moved."""


class StudyOptions(DataOptions, EngineOptions):
    """The options of `study run`; `seed` is the first of its seeds."""

    study: str
    """Name of a shipped study, or a YAML file."""
    seeds: Annotated[StrictInt, Field(ge=1, le=MAX_SEEDS)] | None = None
    """Trainings of each variant; None means as many as the study says."""
    epochs: Annotated[StrictInt, Field(ge=1, le=100_000)] | None = None
    """Length of every training; None means the study's."""

    @field_validator("study")
    @classmethod
    def _absolute(cls, study: str) -> str:
        return study if study in shipped_studies() else absolute_if_there(study)

    def load(self) -> LoadedStudy:
        """Returns the study, with the length that the command line says. Raises as `LoadedStudy.load` does."""
        loaded = LoadedStudy.load(self.study)
        return loaded if self.epochs is None else loaded.with_epochs(self.epochs)

    def data_config_of(self, loaded: LoadedStudy) -> DataConfig:
        """Returns the images: of the command line, bounded as the study says where the command line does not."""
        bounds = loaded.study.data.model_dump(include={"max_train_images", "max_val_images", "max_test_images"})
        bounded = self.model_copy(update={name: value for name, value in bounds.items() if getattr(self, name) is None})
        return bounded.data_config_at(loaded.base.image_size)

    def resumed_with(self, given: dict[str, object]) -> StudyOptions:
        """Returns the recorded options with those given now. Raises `UserError` for one that must not change."""
        others = sorted(given.keys() - CHANGEABLE)
        if others:
            name = "the study" if others[0] == "study" else flag(others[0])
            raise UserError(f"a resumed study keeps its options, {name} among them: leave it out, or start a new one")
        return self.with_given(given, "study run")
