"""The events of a search's records, one class for each kind: what a line of the file may say, read in one place.

Records of earlier versions lack some keys; their defaults are here. Keys that are not known are passed over.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StrictInt

from sret_nas.arch.config import ArchConfig
from sret_nas.files import validate
from sret_nas.space.search_space import DepthSchedule
from trials.engines.messages import Failure, FrontTestResult, RetrainResult, SupernetSource, TrialResult

FORMAT = 1
"""Of the records, in their header."""

FinalistRole = Literal["fine-tuned", "from scratch", "rival"]
"""A finalist with inherited weights trained on; the same trained from scratch; a random network of equal cost, too."""

Number = Annotated[StrictInt, Field(ge=0)]


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
    time: float
    """Seconds since the epoch, as in all events."""
    command: JsonValue
    options: JsonValue
    space: JsonValue
    space_digest: JsonValue
    proxy: JsonValue
    data: JsonValue
    device: JsonValue
    versions: JsonValue
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
    time: float
    options: dict[str, Any]
    versions: dict[str, str] = {}


class InterruptedEvent(_Event):
    """The session was ended here, by Ctrl-C or its like."""

    event: Literal["interrupted"] = "interrupted"
    time: float


class SupernetEvent(_Event):
    """All trials from here on inherit from this supernet."""

    event: Literal["supernet"] = "supernet"
    time: float
    seconds: float = 0.0
    """How long this search trained it, in all."""
    source: SupernetSource


class AskedEvent(_Event):
    """The strategy proposed a candidate."""

    LEFT_OUT: ClassVar[dict[str, JsonValue]] = {"latency_us": None, "origin": ""}

    event: Literal["asked"] = "asked"
    number: Number
    time: float
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
    time: float
    seconds: float | None = None
    """How long the attempt took; None in records from before there were attempts."""
    part: float = 1.0
    """The attempt's share of a whole trial."""


class FailedEvent(_Event):
    """A trial failed for good."""

    LEFT_OUT: ClassVar[dict[str, JsonValue]] = {"part": 1.0}

    event: Literal["failed"] = "failed"
    failure: Failure
    number: Number
    time: float
    seconds: float = 0.0
    part: float = 1.0


class RungEvent(_Event):
    """A trial came to a rung before its end."""

    event: Literal["rung"] = "rung"
    number: Number
    time: float
    seconds: float
    part: float
    result: TrialResult


class StoppedEvent(_Event):
    """A trial goes no further than the rung that it has come to."""

    event: Literal["stopped"] = "stopped"
    number: Number
    time: float


class RetriedEvent(_Event):
    """An attempt at a trial failed, and another one is to follow."""

    event: Literal["retried"] = "retried"
    number: Number
    attempt: int
    """Counted from 1."""
    failure: Failure
    time: float
    seconds: float = 0.0


class TestedEvent(_Event):
    """A member of the front was scored on the test part."""

    event: Literal["tested"] = "tested"
    number: Number
    time: float
    result: FrontTestResult


class FinalEvent(_Event):
    """A finalist, or its rival, was trained and scored in the end."""

    event: Literal["final"] = "final"
    number: Number
    role: FinalistRole
    time: float
    result: RetrainResult


class MeasuredEvent(_Event):
    """The latency of a trial's target was measured in the end."""

    event: Literal["measured"] = "measured"
    number: Number
    time: float
    latency_us: float


TrialEvent = (
    AskedEvent | FinishedEvent | FailedEvent | RungEvent | StoppedEvent | RetriedEvent | TestedEvent | FinalEvent
    | MeasuredEvent
)  # fmt: skip
"""What happened to one trial."""

Event = HeaderEvent | ResumedEvent | InterruptedEvent | SupernetEvent | TrialEvent

_CLASSES: dict[str, type[Event]] = {kind.model_fields["event"].default: kind for kind in get_args(Event)}


def parse_event(data: object) -> Event:
    """Returns the event that a line's content describes. Raises `ValueError` or `ConfigError` if it is not one."""
    kind = data.get("event") if isinstance(data, dict) else None
    if not isinstance(kind, str) or kind not in _CLASSES:
        raise ValueError(f"unknown event {kind!r}")
    return validate(_CLASSES[kind], data, kind)
