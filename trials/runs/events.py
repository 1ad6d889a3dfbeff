"""The events of a search's records: one pydantic model per kind of line in `records.jsonl`.

Keys that records of earlier versions lack have defaults, and unknown keys are ignored.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, StrictInt, StrictStr

from sret_nas.arch.config import ArchConfig
from sret_nas.errors import ConfigError, describe
from sret_nas.files import validate
from sret_nas.space.search_space import DepthSchedule

from ..engines.jobs import SupernetSource
from ..engines.results import Failure, FrontTestResult, RetrainResult, TrialResult
from ..training.recipe import Precision
from .recommendation import Recommendations

FORMAT = 1
"""Version of the records' format, written in their header."""

FinalistRole = Literal["fine-tuned", "from scratch", "control"]
"""How a network is trained at the end: a finalist fine-tuned from its inherited weights, the same finalist from
scratch, or its control, a random network of equal FLOPs, from scratch."""

TrialNumber = Annotated[StrictInt, Field(ge=0)]
Timestamp = Annotated[float, Field(allow_inf_nan=False)]
"""Seconds since the epoch."""
Duration = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""Seconds."""
TrialFraction = Annotated[
    float,
    Field(gt=0, le=1, validation_alias=AliasChoices("fraction", "part"), serialization_alias="part"),
]
"""An attempt, as a fraction of a whole trial. Records call it `part`."""


def _current_role(role: object) -> object:
    """Returns today's name of a role; earlier versions recorded a control as `rival`."""
    return "control" if role == "rival" else role


LEFT_OUT_OF_RESULTS: dict[str, JsonValue] = {
    "effective_images": None, "error_by_depth": [], "test_error_by_depth": [], "val_deviation": None,
    "test_deviation": None,
}  # fmt: skip
"""Values in results that are not written: most searches have no other, and earlier versions had no such keys."""


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, serialize_by_alias=True)

    LEFT_OUT: ClassVar[dict[str, JsonValue]] = {}
    """Default values, by recorded key, that are not written, which keeps most lines short."""

    def to_json(self) -> dict[str, Any]:
        """Returns the JSON object that is written to the file."""
        content = self.model_dump(mode="json")
        if isinstance(content.get("result"), dict):
            content["result"] = {
                key: value
                for key, value in content["result"].items()
                if key not in LEFT_OUT_OF_RESULTS or value != LEFT_OUT_OF_RESULTS[key]
            }
        return {key: value for key, value in content.items() if key not in self.LEFT_OUT or value != self.LEFT_OUT[key]}


class HeaderEvent(_Event):
    """The first line: the search's options, space, proxy, images and package versions."""

    model_config = ConfigDict(extra="allow")

    LEFT_OUT: ClassVar[dict[str, JsonValue]] = {"limits_cluster": False}

    event: Literal["header"] = "header"
    format: Literal[1]
    time: Timestamp
    command: list[StrictStr]
    options: dict[str, JsonValue]
    space: dict[str, JsonValue]
    space_digest: JsonValue
    proxy: dict[str, JsonValue]
    data: dict[str, JsonValue]
    device: JsonValue
    versions: dict[str, JsonValue]
    supernet: dict[str, JsonValue] | None = None
    """How the supernet is trained, or its file; None if trials train from scratch."""
    limits_cluster: bool = False
    """Whether the workers among the options were given, for a cluster."""

    @property
    def supernet_processes(self) -> int:
        """The number of processes that train the supernet."""
        processes = None if self.supernet is None else self.supernet.get("processes")
        return processes if isinstance(processes, int) and processes > 0 else 1


class ResumedEvent(_Event):
    """The search was resumed here, with these options and versions."""

    LEFT_OUT: ClassVar[dict[str, JsonValue]] = {"limits_cluster": False}

    event: Literal["resumed"] = "resumed"
    time: Timestamp
    options: dict[str, Any]
    versions: dict[str, str] = {}
    limits_cluster: bool = False
    """Whether the workers among the options were given, for a cluster; as in the header."""


class InterruptedEvent(_Event):
    """The session ended here, by Ctrl-C or another signal."""

    event: Literal["interrupted"] = "interrupted"
    time: Timestamp


class FinalsEvent(_Event):
    """All trials have ended, and what is left begins: finals, tests, measurements and results."""

    event: Literal["finals"] = "finals"
    time: Timestamp


class EndedEvent(_Event):
    """The search has come to its end, with all its results written."""

    event: Literal["ended"] = "ended"
    time: Timestamp


class SupernetEvent(_Event):
    """All trials from here on inherit from this supernet."""

    event: Literal["supernet"] = "supernet"
    time: Timestamp
    seconds: Duration = 0.0
    """How long this search trained it, over all sessions."""
    source: SupernetSource


class AskedEvent(_Event):
    """The strategy proposed a candidate."""

    LEFT_OUT: ClassVar[dict[str, JsonValue]] = {"latency_us": None, "origin": ""}

    event: Literal["asked"] = "asked"
    number: TrialNumber
    time: Timestamp
    arch_id: str
    flops: int
    params: int
    latency_us: int | None = None
    """Predicted latency in microseconds, if the search uses latency."""
    origin: str = ""
    """The part of the strategy that proposed it."""
    depth_schedule: DepthSchedule
    architecture: ArchConfig


class FinishedEvent(_Event):
    """A trial finished with a result."""

    LEFT_OUT: ClassVar[dict[str, JsonValue]] = {"part": 1.0}

    event: Literal["finished"] = "finished"
    result: TrialResult
    number: TrialNumber
    time: Timestamp
    seconds: Duration | None = None
    """How long the attempt took; None in records from before trials were retried."""
    fraction: TrialFraction = 1.0


class FailedEvent(_Event):
    """A trial failed and is not retried."""

    LEFT_OUT: ClassVar[dict[str, JsonValue]] = {"part": 1.0}

    event: Literal["failed"] = "failed"
    failure: Failure
    number: TrialNumber
    time: Timestamp
    seconds: Duration = 0.0
    fraction: TrialFraction = 1.0


class RungEvent(_Event):
    """A trial reached a rung before its end."""

    event: Literal["rung"] = "rung"
    number: TrialNumber
    time: Timestamp
    seconds: Duration
    fraction: TrialFraction
    result: TrialResult


class StoppedEvent(_Event):
    """A trial was stopped early, at the rung that it reached last."""

    event: Literal["stopped"] = "stopped"
    number: TrialNumber
    time: Timestamp


class RetriedEvent(_Event):
    """An attempt at a trial failed and is retried."""

    event: Literal["retried"] = "retried"
    number: TrialNumber
    attempt: int
    """Counted from 1."""
    failure: Failure
    time: Timestamp
    seconds: Duration = 0.0


class TestedEvent(_Event):
    """A member of the front was scored on the test part."""

    event: Literal["tested"] = "tested"
    number: TrialNumber
    time: Timestamp
    result: FrontTestResult


class FinalEvent(_Event):
    """A finalist, or its control, was trained and scored at the end."""

    event: Literal["final"] = "final"
    number: TrialNumber
    role: Annotated[FinalistRole, BeforeValidator(_current_role)]
    time: Timestamp
    result: RetrainResult


class MeasuredEvent(_Event):
    """The latency of a trial's target network was measured at the end."""

    event: Literal["measured"] = "measured"
    number: TrialNumber
    time: Timestamp
    latency_us: Duration


class RecommendedEvent(_Event):
    """The search chose the networks that it recommends. A later choice replaces an earlier one."""

    event: Literal["recommended"] = "recommended"
    time: Timestamp
    recommended: Recommendations

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "recommended": self.recommended.to_json()}


TrialEvent = (
    AskedEvent | FinishedEvent | FailedEvent | RungEvent | StoppedEvent | RetriedEvent | TestedEvent | FinalEvent
    | MeasuredEvent
)  # fmt: skip
"""An event of one trial."""

Event = (
    HeaderEvent | ResumedEvent | InterruptedEvent | FinalsEvent | EndedEvent | SupernetEvent | RecommendedEvent
    | TrialEvent
)  # fmt: skip

_CLASSES: dict[str, type[Event]] = {kind.model_fields["event"].default: kind for kind in get_args(Event)}


class _RecordedData(BaseModel):
    summary: StrictStr
    digest: StrictStr
    classes: StrictInt


class _RecordedLatency(BaseModel):
    digest: StrictStr
    profile: dict[str, JsonValue]


class _WholeHeader(BaseModel):
    """The header keys that resuming a search needs; reading the records needs fewer."""

    command: tuple[StrictStr, ...]
    space_digest: StrictStr
    data: _RecordedData
    device: StrictStr
    precision: Precision = "fp32"
    versions: dict[str, StrictStr]
    expected: dict[str, Duration] = {}
    latency: _RecordedLatency | None = None


def check_header(header: dict[str, Any], source: str) -> None:
    """Raises `ConfigError` unless a header holds everything that resuming the search needs."""
    validate(_WholeHeader, header, source)


def parse_event(data: object, source: str = "event") -> Event:
    """Returns the event in a line's content. Raises `ConfigError` naming `source` if it is not a valid event."""
    if not isinstance(data, dict):
        raise ConfigError(source, "", f"not a record of this tool: must be a mapping, got {describe(data)}")
    kind = data.get("event")
    if not isinstance(kind, str) or kind not in _CLASSES:
        raise ConfigError(source, "event", f"not a record of this tool: unknown event {describe(kind)}")
    try:
        return validate(_CLASSES[kind], data, source)
    except ConfigError as error:
        raise ConfigError(source, error.key_path, f"not a record of this tool: {error.problem}") from None
