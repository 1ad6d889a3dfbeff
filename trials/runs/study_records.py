"""The records of a study: a header, then what became of each training.

`records.jsonl` in the run directory is append-only, as that of a search is. All other files of a study but its
trainings' are derived from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StrictBool,
    StrictInt,
    StrictStr,
    TypeAdapter,
    ValidationError,
)

from sret_nas.errors import ConfigError, UserError
from sret_nas.files import validate

from ..engines.results import Failure, StudyTrainingResult
from .directory import RECORDS_FILE
from .loaded_study import LoadedStudy
from .record_file import read_record_file
from .run_kinds import instead
from .study_options import StudyOptions

Seed = Annotated[StrictInt, Field(ge=0, lt=2**33)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True)

    time: Annotated[float, Field(allow_inf_nan=False)]
    """Seconds since the epoch."""


class StudyImages(BaseModel):
    """The images of a study."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: StrictStr
    digest: StrictStr
    classes: Annotated[StrictInt, Field(ge=2, le=1_000_000)]
    channels: Annotated[StrictInt, Field(ge=1, le=64)]
    train_images: Annotated[StrictInt, Field(ge=1)]
    val_images: Annotated[StrictInt, Field(ge=1)]
    test_images: Annotated[StrictInt, Field(ge=1)]


class StudyHeader(_Event):
    """The first line: everything that decides the trainings."""

    event: Literal["study header"] = "study header"
    format: Literal[1] = 1
    command: tuple[StrictStr, ...]
    options: dict[str, JsonValue]
    study: dict[str, JsonValue]
    """As `LoadedStudy.to_dict` writes it."""
    data: StudyImages
    versions: dict[str, StrictStr]
    device: StrictStr
    processor: StrictStr
    expected_seconds: dict[StrictStr, Seconds]
    """Expected duration of a training, by variant."""
    memory_mb: Seconds
    """Largest memory that a worker was seen to need, in MB (10^6 bytes)."""
    limits_cluster: StrictBool = False
    """Whether the workers among the options were given, for a cluster."""


class StudyResumed(_Event):
    """The study was resumed here, with these options."""

    event: Literal["resumed"] = "resumed"
    options: dict[str, JsonValue]
    versions: dict[str, StrictStr] = {}
    limits_cluster: StrictBool = False
    """As in the header."""


class StudyInterrupted(_Event):
    """The session ended here, by Ctrl-C or another signal."""

    event: Literal["interrupted"] = "interrupted"


class _TrainingEvent(_Event):
    variant: StrictStr
    seed: Seed
    seconds: Seconds
    """Of the attempt, as the driver saw it."""


class TrainingFinished(_TrainingEvent):
    """A training ended with a result."""

    event: Literal["finished"] = "finished"
    result: StudyTrainingResult


class TrainingFailed(_TrainingEvent):
    """A training failed and is not run again."""

    event: Literal["failed"] = "failed"
    failure: Failure


class TrainingRetried(_TrainingEvent):
    """An attempt at a training failed and is repeated."""

    event: Literal["retried"] = "retried"
    failure: Failure


StudyEvent = Annotated[
    StudyHeader | StudyResumed | StudyInterrupted | TrainingFinished | TrainingFailed | TrainingRetried,
    Field(discriminator="event"),
]
_EVENT: TypeAdapter[Any] = TypeAdapter(StudyEvent)

Key = tuple[str, int]
"""Variant and seed of a training."""


@dataclass
class StudyHistory:
    """What the records say: the header, and the trainings that have ended, by variant and seed."""

    header: StudyHeader
    options: StudyOptions
    loaded: LoadedStudy
    finished: dict[Key, TrainingFinished] = field(default_factory=dict)
    failed: dict[Key, Failure] = field(default_factory=dict)
    retried: dict[Key, list[Failure]] = field(default_factory=dict)
    seconds: float = 0.0
    """Time of all attempts together."""

    @property
    def seeds(self) -> range:
        """The seeds that the study is to be run on."""
        first = self.options.seed
        return range(first, first + (self.options.seeds or self.loaded.study.seeds))

    def has_ended(self, key: Key) -> bool:
        return key in self.finished or key in self.failed

    def apply(self, event: Any, source: str) -> None:
        """Applies an event. Raises `ConfigError` for a second header, or a training that the study does not have."""
        match event:
            case StudyHeader():
                raise ConfigError(source, "event", "not a record of this tool: the header must come first, and once")
            case StudyResumed():
                self.options = StudyOptions.recorded(event.options, source, limits_cluster=event.limits_cluster)
            case StudyInterrupted():
                pass
            case _:
                self._apply_training(event, source)

    def _apply_training(self, event: Any, source: str) -> None:
        names = [training.name for training in (*self.loaded.trainings, self.loaded.teacher) if training is not None]
        if event.variant not in names:
            raise ConfigError(source, "variant", f"the study has no {event.variant!r}, but {', '.join(names)}")
        key = event.variant, event.seed
        self.seconds += event.seconds
        if isinstance(event, TrainingFinished):
            self.finished[key] = event
        elif isinstance(event, TrainingFailed):
            self.failed[key] = event.failure
        else:
            self.retried.setdefault(key, []).append(event.failure)


def begin_history(header: StudyHeader, source: str = "study") -> StudyHistory:
    """Returns the history of a study that begins. Raises `ConfigError` with `source` if the header is not valid."""
    options = StudyOptions.recorded(header.options, f"{source}: options", limits_cluster=header.limits_cluster)
    return StudyHistory(header, options, LoadedStudy.recorded(header.study, f"{source}: study"))


def read_study_history(run_dir: Path) -> StudyHistory:
    """Returns the history in a run directory. Raises `UserError` if there is none, or if it is damaged."""
    path = run_dir / RECORDS_FILE
    if not path.is_file():
        raise UserError(f"{run_dir} holds no study: there is no {RECORDS_FILE} in it{instead(run_dir, 'study')}")
    history: StudyHistory | None = None
    for source, content in read_record_file(path):
        if history is None:
            if content.get("event") != "study header":
                raise UserError(
                    f"{run_dir} holds no study: {path.name} is of something else{instead(run_dir, 'study')}"
                )
            history = begin_history(validate(StudyHeader, content, source), source)
            continue
        history.apply(_event(content, source), source)
    if history is None:
        raise UserError(f"{path} is empty: the study ended before it began; start a new one")
    return history


def _event(content: dict[str, Any], source: str) -> Any:
    try:
        return _EVENT.validate_python(content)
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"]))
        raise ConfigError(source, key, "not a record of this tool: is not what it should be") from None
