"""A trial of a search and its outcome so far, kept in a few hundred bytes.

A search holds all its trials until its end. Networks and results as objects take 15 to 25 kB a trial, so a trial keeps
their JSON text, and builds them again (in 10 to 20 microseconds each) whenever they are asked for.
"""

from __future__ import annotations

import sys

from sret_nas.arch.config import ArchConfig
from sret_nas.space.search_space import DepthSchedule

from ..engines.results import Failure, FrontTestResult, RetrainResult, TrialResult
from ..strategies.strategy import Candidate
from .events import (
    FailedEvent,
    FinalEvent,
    FinalistRole,
    FinishedEvent,
    MeasuredEvent,
    RetriedEvent,
    RungEvent,
    StoppedEvent,
    TestedEvent,
    TrialEvent,
)


class Trial:
    """A candidate of a search and its outcome so far; it has neither result nor failure while it runs."""

    __slots__ = (
        "_arch", "_partial", "_result",
        "began", "depth_schedule", "ended", "failure", "finals", "is_stopped", "key", "measured_us", "number", "origin",
        "retried", "test",
    )  # fmt: skip

    def __init__(
        self,
        number: int,
        candidate: Candidate,
        origin: str = "",
        result: TrialResult | None = None,
        failure: Failure | None = None,
    ) -> None:
        self.number = number
        self.key: tuple[str, str] = candidate.key
        """Identity of the candidate: the architecture's id and the schedule."""
        self.depth_schedule: DepthSchedule = candidate.depth_schedule
        self.origin = sys.intern(origin)
        """The part of the strategy that proposed it, e.g. its design or one of its models; empty if unknown."""
        self.failure = failure
        self.retried: list[Failure] = []
        """Failures of earlier attempts, oldest first."""
        self.is_stopped = False
        """Whether it was stopped early, at the last of the rungs that it reached."""
        self.test: FrontTestResult | None = None
        self.finals: dict[FinalistRole, RetrainResult] = {}
        """With a supernet: the results of the network, and of its control, as a finalist."""
        self.measured_us: float | None = None
        """Latency of the target in microseconds, if it was measured at the end."""
        self.began: float | None = None
        """When its first attempt started, in seconds since the epoch; None before the end of one is recorded."""
        self.ended: float | None = None
        """When it finished, failed for good or was stopped, in seconds since the epoch."""
        self._arch = candidate.arch.model_dump_json().encode()
        self._result: bytes | None = None
        self._partial: list[bytes] = []
        self.result = result

    @property
    def arch_id(self) -> str:
        return self.key[0]

    @property
    def arch(self) -> ArchConfig:
        """The candidate's architecture: a new object at every call."""
        return ArchConfig.model_validate_json(self._arch)

    @property
    def candidate(self) -> Candidate:
        """The candidate: a new object at every call."""
        return Candidate.with_key(self.arch, self.depth_schedule, self.key)

    @property
    def result(self) -> TrialResult | None:
        """The final result: a new object at every call. `is_finished` says at no cost whether there is one."""
        return None if self._result is None else _unpacked(self._result)

    @result.setter
    def result(self, result: TrialResult | None) -> None:
        self._result = None if result is None else _packed(result)

    @property
    def is_finished(self) -> bool:
        """Whether it has a final result."""
        return self._result is not None

    @property
    def has_ended(self) -> bool:
        """Whether it has a result, has failed for good, or was stopped early."""
        return self.is_finished or self.failure is not None or self.is_stopped

    @property
    def num_partial(self) -> int:
        """The number of rungs before the end that it has reached."""
        return len(self._partial)

    @property
    def partial(self) -> list[TrialResult]:
        """The results at these rungs: new objects at every call."""
        return [_unpacked(text) for text in self._partial]

    def add_partial(self, result: TrialResult) -> None:
        """Adds the result at the next rung before its end."""
        self._partial.append(_packed(result))

    @property
    def findings(self) -> dict[str, float]:
        """What was found of the network at the end of the search: errors (0 to 1), latency (microseconds)."""
        found: dict[str, float] = {}
        if self.test is not None:
            found["test_error"] = self.test.error
        for role, final in self.finals.items():
            name = role.replace("-", "_").replace(" ", "_")
            found |= {f"{name}_error": final.error, f"{name}_test_error": final.test_error}
        if self.measured_us is not None:
            found["latency_us"] = self.measured_us
        return found

    def apply(self, event: TrialEvent) -> None:
        """Applies an event that follows `asked`."""
        if self.began is None and isinstance(event, FinishedEvent | FailedEvent | RetriedEvent | RungEvent):
            self.began = event.time - (event.seconds or 0.0)
        if isinstance(event, FinishedEvent | FailedEvent | StoppedEvent):
            self.ended = event.time
        match event:
            case FinishedEvent():
                self.result = event.result
            case RungEvent():
                self.add_partial(event.result)
            case StoppedEvent():
                self.is_stopped = True
            case FailedEvent():
                self.failure = event.failure
            case RetriedEvent():
                self.retried.append(event.failure)
            case TestedEvent():
                self.test = event.result
            case FinalEvent():
                self.finals[event.role] = event.result
            case MeasuredEvent():
                self.measured_us = event.latency_us


def _packed(result: TrialResult) -> bytes:
    return result.model_dump_json().encode()


def _unpacked(text: bytes) -> TrialResult:
    return TrialResult.model_validate_json(text)
