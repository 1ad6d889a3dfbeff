"""The events of a search's records, one class for each kind: what a line of the file may say, read in one place.

Records of earlier versions lack some keys; their defaults are here. Keys that are not known are passed over.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StrictInt, StrictStr

from sret_nas.arch.config import ArchConfig
from sret_nas.errors import ConfigError, describe
from sret_nas.files import validate
from sret_nas.space.search_space import DepthSchedule

from ..engines.messages import Failure, FrontTestResult, RetrainResult, SupernetSource, TrialResult

FORMAT = 1
"""Of the records, in their header."""

FinalistRole = Literal["fine-tuned", "from scratch", "rival"]
"""A finalist with inherited weights trained on; the same trained from scratch; a random network of equal cost, too."""

Number = Annotated[StrictInt, Field(ge=0)]
Moment = Annotated[float, Field(allow_inf_nan=False)]
"""Seconds since the epoch."""
Duration = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""Seconds."""
Part = Annotated[float, Field(gt=0, le=1)]
"""A share of a whole trial."""


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True)

    LEFT_OUT: ClassVar[dict[str, JsonValue]] = {}
    """Values that are not written, by key: those of most events."""

    def to_json(self) -> dict[str, Any]:
        """Returns what is written to the file."""
        content = self.model_dump(mode="json")
        return {key: value for key, value in content.items() if key not in self.LEFT_OUT or value != self.LEFT_OUT[key]}


class HeaderEvent(_Event):
    """The first line: what the search was asked to do, with which space, proxy, images and versions."""

    model_config = ConfigDict(extra="allow")

    event: Literal["header"] = "header"
    format: Literal[1]
    time: Moment
    command: JsonValue
    options: dict[str, JsonValue]
    space: dict[str, JsonValue]
    space_digest: JsonValue
    proxy: dict[str, JsonValue]
    data: dict[str, JsonValue]
    device: JsonValue
    versions: dict[str, JsonValue]
    supernet: dict[str, JsonValue] | None = None
    """How it is trained or had; None where trials train from scratch."""

    @property
    def supernet_processes(self) -> int:
        """How many processes train the supernet."""
        processes = None if self.supernet is None else self.supernet.get("processes")
        return processes if isinstance(processes, int) and processes > 0 else 1


class ResumedEvent(_Event):
    """The search was carried on from here, with these options and versions."""

    event: Literal["resumed"] = "resumed"
    time: Moment
    options: dict[str, Any]
    versions: dict[str, str] = {}


class InterruptedEvent(_Event):
    """The session was ended here, by Ctrl-C or its like."""

    event: Literal["interrupted"] = "interrupted"
    time: Moment


class SupernetEvent(_Event):
    """All trials from here on inherit from this supernet."""

    event: Literal["supernet"] = "supernet"
    time: Moment
    seconds: Duration = 0.0
    """How long this search trained it, in all."""
    source: SupernetSource


class AskedEvent(_Event):
    """The strategy proposed a candidate."""

    LEFT_OUT: ClassVar[dict[str, JsonValue]] = {"latency_us": None, "origin": ""}

    event: Literal["asked"] = "asked"
    number: Number
    time: Moment
    arch_id: str
    flops: int
    params: int
    latency_us: int | None = None
    """Predicted, where the search looks at it."""
    origin: str = ""
    """Where the strategy had it from."""
    depth_schedule: DepthSchedule
    architecture: ArchConfig


class FinishedEvent(_Event):
    """A trial came to its end."""

    LEFT_OUT: ClassVar[dict[str, JsonValue]] = {"part": 1.0}

    event: Literal["finished"] = "finished"
    result: TrialResult
    number: Number
    time: Moment
    seconds: Duration | None = None
    """How long the attempt took; None in records from before there were attempts."""
    part: Part = 1.0
    """The attempt's share of a whole trial."""


class FailedEvent(_Event):
    """A trial failed for good."""

    LEFT_OUT: ClassVar[dict[str, JsonValue]] = {"part": 1.0}

    event: Literal["failed"] = "failed"
    failure: Failure
    number: Number
    time: Moment
    seconds: Duration = 0.0
    part: Part = 1.0


class RungEvent(_Event):
    """A trial came to a rung before its end."""

    event: Literal["rung"] = "rung"
    number: Number
    time: Moment
    seconds: Duration
    part: Part
    result: TrialResult


class StoppedEvent(_Event):
    """A trial goes no further than the rung that it has come to."""

    event: Literal["stopped"] = "stopped"
    number: Number
    time: Moment


class RetriedEvent(_Event):
    """An attempt at a trial failed, and another one is to follow."""

    event: Literal["retried"] = "retried"
    number: Number
    attempt: int
    """Counted from 1."""
    failure: Failure
    time: Moment
    seconds: Duration = 0.0


class TestedEvent(_Event):
    """A member of the front was scored on the test part."""

    event: Literal["tested"] = "tested"
    number: Number
    time: Moment
    result: FrontTestResult


class FinalEvent(_Event):
    """A finalist, or its rival, was trained and scored in the end."""

    event: Literal["final"] = "final"
    number: Number
    role: FinalistRole
    time: Moment
    result: RetrainResult


class MeasuredEvent(_Event):
    """The latency of a trial's target was measured in the end."""

    event: Literal["measured"] = "measured"
    number: Number
    time: Moment
    latency_us: Duration


TrialEvent = (
    AskedEvent | FinishedEvent | FailedEvent | RungEvent | StoppedEvent | RetriedEvent | TestedEvent | FinalEvent
    | MeasuredEvent
)  # fmt: skip
"""What happened to one trial."""

Event = HeaderEvent | ResumedEvent | InterruptedEvent | SupernetEvent | TrialEvent

_CLASSES: dict[str, type[Event]] = {kind.model_fields["event"].default: kind for kind in get_args(Event)}


class _RecordedData(BaseModel):
    summary: StrictStr
    digest: StrictStr
    classes: StrictInt


class _RecordedLatency(BaseModel):
    digest: StrictStr
    profile: dict[str, JsonValue]


class _WholeHeader(BaseModel):
    """What a search is carried on with; a file of records alone is read with less."""

    command: tuple[StrictStr, ...]
    space_digest: StrictStr
    data: _RecordedData
    device: StrictStr
    versions: dict[str, StrictStr]
    expected: dict[str, Duration] = {}
    latency: _RecordedLatency | None = None


def check_header(header: dict[str, Any], source: str) -> None:
    """Raises `ConfigError` unless a header holds all that a search is carried on with."""
    validate(_WholeHeader, header, source)


def parse_event(data: object, source: str = "event") -> Event:
    """Returns the event that a line's content describes. Raises `ConfigError` naming `source` if it is none of ours."""
    if not isinstance(data, dict):
        raise ConfigError(source, "", f"not a record of this tool: must be a mapping, got {describe(data)}")
    kind = data.get("event")
    if not isinstance(kind, str) or kind not in _CLASSES:
        raise ConfigError(source, "event", f"not a record of this tool: unknown event {describe(kind)}")
    try:
        return validate(_CLASSES[kind], data, source)
    except ConfigError as error:
        raise ConfigError(source, error.key_path, f"not a record of this tool: {error.problem}") from None
