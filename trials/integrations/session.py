"""A strategy's sequence in one study or tuner: what was asked and told, in order, from which it can be replayed."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any, TypedDict

from sret_nas.arch.config import ArchConfig
from sret_nas.errors import UserError

from ..strategies.strategy import Candidate
from .strategy_spec import StrategySpec

TrialId = int | str


class Event(TypedDict, total=False):
    """One step of a sequence, as plain data: a trial that was asked for, or what it was told."""

    asked: TrialId
    key: list[str] | None
    """Of the candidate that was asked for; None where it is not known any more."""
    adopted: TrialId
    architecture: dict[str, Any]
    depth_schedule: str
    """Of a candidate that somebody else proposed."""
    told: TrialId
    values: list[float] | None


class StrategySession:
    """One strategy with the trials that it has running."""

    def __init__(self, spec: StrategySpec) -> None:
        self.spec = spec
        self.running: dict[TrialId, Candidate] = {}
        self.events: list[Event] = []
        self.asked: set[TrialId] = set()
        self._keys: set[Hashable] = set()
        self._repeated: set[TrialId] = set()
        """Running trials of candidates that another trial has tried, of which the strategy learns nothing new."""
        self._strategy = spec.start()

    def ask(self, trial_id: TrialId) -> Candidate | None:
        """Returns the candidate of a new trial, or None once every network inside the budget was proposed."""
        candidate = self._strategy.ask()
        self.asked.add(trial_id)
        if candidate is not None:
            self._keys.add(candidate.key)
            self.running[trial_id] = candidate
            self.events.append({"asked": trial_id, "key": list(candidate.key)})
        return candidate

    def adopt(self, trial_id: TrialId, candidate: Candidate) -> None:
        """Takes a candidate that somebody else proposes for a trial.

        Raises `UserError` if it is not a network of the space inside the budget.
        """
        domain = self.spec.domain
        if not domain.space.contains(candidate.arch):
            raise UserError(f"network {candidate.arch.arch_id} is not one of {domain.space.name}")
        if domain.excess(candidate) > 0:
            raise UserError(f"network {candidate.arch.arch_id} is outside the budget: {domain.budget.describe()}")
        if candidate.key in self._keys:
            self._repeated.add(trial_id)
        else:
            self._strategy.adopt(candidate)
            self._keys.add(candidate.key)
        self.asked.add(trial_id)
        self.running[trial_id] = candidate
        self.events.append({
            "adopted": trial_id, "architecture": candidate.arch.to_dict(), "depth_schedule": candidate.depth_schedule,
        })  # fmt: skip

    @property
    def num_proposed(self) -> int:
        """How many candidates were proposed."""
        return sum("asked" in event for event in self.events)

    def tell(self, trial_id: TrialId, values: Iterable[float] | None) -> None:
        """Takes in the values of a running trial, or None if it failed."""
        found = None if values is None else list(values)
        candidate = self.running.pop(trial_id)
        if trial_id in self._repeated:
            self._repeated.remove(trial_id)
        else:
            self._strategy.tell(candidate, None if found is None else tuple(found))
        self.events.append({"told": trial_id, "values": found})

    def replay(self, events: Iterable[Event]) -> None:
        """Asks and tells again. Raises `UserError` if another candidate comes, as with other versions it may."""
        for event in events:
            if "told" in event:
                self.tell(event["told"], event["values"])
                continue
            if "adopted" in event:
                arch = ArchConfig.from_dict(event["architecture"], "the recorded trial")
                self.adopt(event["adopted"], Candidate(arch, event["depth_schedule"]))  # type: ignore[arg-type]
                continue
            candidate = self.ask(event["asked"])
            key = None if candidate is None else list(candidate.key)
            if event["key"] not in (None, key):
                raise UserError(
                    f"the search cannot be restored: it had asked for {event['key']}, the strategy now asks for {key}; "
                    "use the options and versions of sret-nas, numpy and optuna that it was begun with, or start anew"
                )


def restored(spec: StrategySpec, events: Iterable[Any]) -> StrategySession:
    """Returns a session that has asked and told what the events say. Raises `UserError` as its `replay` does."""
    session = StrategySession(spec)
    session.replay(events)
    return session
