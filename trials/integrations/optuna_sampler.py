"""The strategies as a sampler, for users who write their own objective for Optuna.

    sampler = StrategySampler("additive", "sret_tiny", Budget(flops_max=10**9), objectives=("error", "flops"))
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)

In the objective, `arch, depth_schedule = architecture(trial)` is the network to train. Only networks inside the budget
are ever proposed, each once; when all were, `optimize` ends.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.errors import UserError
from sret_nas.space.search_space import DepthSchedule, SearchSpace

from ..strategies.optuna import distributions
from ..strategies.strategy import Candidate, StrategyName
from .session import Event, StrategySession, restored
from .strategy_spec import StrategySpec

_logger = logging.getLogger(__name__)


def architecture(trial: Trial) -> tuple[ArchConfig, DepthSchedule]:
    """Returns the network of a trial, and the mixed-depth schedule to train it with.

    The trial stores both, as parameters and as user attributes (`ArchConfig.from_dict(user_attrs["architecture"])`).
    Raises `TrialPruned` once every network inside the budget has been tried, and `UserError` if the study has no
    `StrategySampler`.
    """
    sampler = trial.study.sampler
    if not isinstance(sampler, StrategySampler):
        raise UserError(f"the study's sampler must be a StrategySampler, got {type(sampler).__name__}")
    candidate = sampler.candidate(trial.study, trial.number)
    for name, choices in sampler.spec.domain.dimensions.items():
        trial.suggest_categorical(name, choices)
    trial.set_user_attr("architecture", candidate.arch.to_dict())
    trial.set_user_attr("depth_schedule", candidate.depth_schedule)
    return candidate.arch, candidate.depth_schedule


class StrategySampler(BaseSampler):
    """Lets a strategy propose every trial of a new study.

    `objectives` name the values that the study minimises, in order: `flops` and `params` are known beforehand, any
    other name is learned. `population` is NSGA-II's, and the length of the others' start, which `additive` bounds and
    strategies that never learn have not. Trials that fail or are pruned are told as failed. With `n_jobs` above 1, what
    is proposed depends on which trial ends first.

    Trials that others propose are learned from: a network that was enqueued with all its dimensions (`enqueue_trial`),
    and finished trials that were added (`add_trial`). Parameters of your own, such as a learning rate, are suggested by
    `independent_sampler`.

    A sampler serves one study. In a new process, a sampler with the same options resumes a study: its trials are
    replayed from the storage. One process at a time may propose. A pickled sampler resumes as well.
    """

    def __init__(
        self,
        strategy: StrategyName,
        space: str | Path | SearchSpace,
        budget: Budget,
        *,
        objectives: Sequence[str] = ("error", "flops"),
        seed: int = 0,
        population: int = 16,
        independent_sampler: BaseSampler | None = None,
    ) -> None:
        """Prepares the strategy.

        Args:
            strategy: Name of the strategy.
            space: Name, file or content of the search space.
            budget: The bounds that every proposed network meets.
            objectives: Names of the study's values, in order.
            seed: Seed of everything random.
            population: Of NSGA-II; the length of the others' start.
            independent_sampler: Suggests parameters that are no dimensions of the space; None draws them at random.

        Raises `UserError` for anything that cannot be, `BudgetError` for an impossible budget."""
        spec = StrategySpec.of(strategy, space, budget, objectives=objectives, seed=seed, population=population)
        spec.start()  # what cannot be is told here, not at the first trial
        self._independent = independent_sampler or optuna.samplers.RandomSampler(seed=seed)
        self._begin(spec)

    def _begin(self, spec: StrategySpec) -> None:
        self.spec = spec
        self._space = distributions(spec.domain)
        self._session: StrategySession | None = None
        self._study_name: str | None = None
        self._lock = threading.RLock()  # threads of `n_jobs` ask and tell one strategy

    def __getstate__(self) -> dict[str, Any]:
        """Returns plain data. The key `setting` is that of earlier versions, whose pickled samplers stay readable."""
        with self._lock:
            events = None if self._session is None else list(self._session.events)
        return {
            "setting": self.spec.to_dict(), "study_name": self._study_name, "events": events,
            "independent": self._independent,
        }  # fmt: skip

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._begin(StrategySpec.from_dict(state["setting"]))
        self._study_name, self._independent = state["study_name"], state["independent"]
        self._session = None if state["events"] is None else restored(self.spec, state["events"])

    def candidate(self, study: Study, number: int) -> Candidate:
        """Returns what a running trial is to try. Raises `TrialPruned` where nothing was left for it."""
        session = self._session
        if session is None or study.study_name != self._study_name:
            raise UserError(f"study {study.study_name} has asked this sampler for no trial")
        if number not in session.running:
            raise optuna.TrialPruned(f"all {session.num_proposed} candidates inside the budget have been tried")
        return session.running[number]

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Asks the strategy here, since Optuna asks for parameters only once an objective suggests them."""
        with _failing(study, trial), self._lock:
            self._check_directions(study)
            session = self._session_of(study, trial)
            known = self._enqueued(trial)
            if known is not None:
                session.adopt(trial.number, known)
                return
            candidate = session.ask(trial.number)
        if candidate is None:
            with suppress(RuntimeError):  # outside `optimize` there is no loop to stop, and `candidate` raises
                study.stop()

    def _enqueued(self, trial: FrozenTrial) -> Candidate | None:
        """Returns the network that a trial was enqueued with; None if it was not enqueued with one.

        Raises `UserError` for dimensions that are no network, or not all of them.
        """
        fixed = trial.system_attrs.get("fixed_params", {})
        dimensions = self.spec.domain.dimensions
        given = {name: value for name, value in fixed.items() if name in dimensions}
        return self._network_of(given, f"trial {trial.number} was enqueued") if given else None

    def _network_of(self, given: Mapping[str, Any], what: str) -> Candidate:
        domain = self.spec.domain
        missing = [name for name in domain.dimensions if name not in given]
        if missing:
            raise UserError(f"{what} with some dimensions of {domain.space.name}, but without {missing[0]}: give all")
        for name, choices in domain.dimensions.items():
            if given[name] not in choices:
                raise UserError(f"{what} with {name} = {given[name]!r}, which is no choice of {domain.space.name}")
        candidate = domain.decode(given)
        if candidate is None:
            raise UserError(f"{what} with dimensions that are no network of {domain.space.name} together")
        return candidate

    def _check_directions(self, study: Study) -> None:
        objectives = self.spec.objectives
        if study.directions != [StudyDirection.MINIMIZE] * len(objectives):
            directions = ", ".join(direction.name.lower() for direction in study.directions)
            raise UserError(
                f"the study must minimise {len(objectives)} values, {', '.join(objectives)}, got the directions "
                f"{directions}"
            )

    def _session_of(self, study: Study, trial: FrozenTrial) -> StrategySession:
        """Returns the study's sequence; that of a study begun by another process is replayed."""
        session = self._session
        if session is None:
            earlier = [other for other in study.get_trials(deepcopy=False) if other.number < trial.number]
            session, self._study_name = self._replayed(earlier), study.study_name
            self._session = session
        elif self._study_name != study.study_name:
            raise UserError(
                f"this sampler proposes the trials of study {self._study_name}: give study {study.study_name} a "
                "sampler of its own, with another seed if it is to try other networks"
            )
        elif trial.number > len(session.asked):  # or it is another thread's, which has not come here yet
            ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL))
            for other in ended:
                if other.number not in session.asked and "architecture" not in other.user_attrs:
                    self._learn_from(session, other)
            foreign = [other.number for other in ended if other.number not in session.asked]
            if foreign:
                raise UserError(
                    f"trial {foreign[0]} of the study was proposed by another process: only one at a time may propose "
                    "trials of a study; give each process a study of its own"
                )
        return session

    def _learn_from(self, session: StrategySession, trial: FrozenTrial) -> None:
        """Takes in a finished trial that somebody added; one without a network of the space teaches nothing."""
        for event in self._events_of_added(trial):
            session.replay([event])
        session.asked.add(trial.number)

    def _events_of_added(self, trial: FrozenTrial) -> list[Event]:
        if trial.state != TrialState.COMPLETE:
            return []
        try:
            candidate = self._network_of(trial.params, f"trial {trial.number} was added")
        except UserError:
            _logger.warning("Trial %d has no network of %s, so nothing is learned from it.", trial.number,
                            self.spec.space.name)  # fmt: skip
            return []
        try:
            self.spec.require_known_costs(candidate, dict(zip(self.spec.objectives, trial.values, strict=True)))
        except UserError as error:
            _logger.warning("Nothing is learned from trial %d: %s", trial.number, error)
            return []
        if self.spec.domain.excess(candidate) > 0:
            _logger.warning("Trial %d is outside the budget, so nothing is learned from it.", trial.number)
            return []
        adopted: Event = {
            "adopted": trial.number, "architecture": candidate.arch.to_dict(),
            "depth_schedule": candidate.depth_schedule,
        }  # fmt: skip
        return [adopted, {"told": trial.number, "values": trial.values}]

    def _replayed(self, trials: Sequence[FrozenTrial]) -> StrategySession:
        try:
            return restored(self.spec, self._events_of(trials))
        except UserError as error:
            raise UserError(
                f"the study has trials that this sampler did not propose: start a new study ({error})"
            ) from None

    def _events_of(self, trials: Sequence[FrozenTrial]) -> list[Event]:
        """Returns what was asked, adopted and told in a study's trials, in the order in which it happened."""
        timed: list[tuple[datetime, Event]] = []
        for trial in trials:
            if trial.state == TrialState.WAITING or trial.datetime_start is None:
                continue
            architecture = trial.user_attrs.get("architecture")
            if architecture is None and trial.state == TrialState.COMPLETE:
                end = trial.datetime_complete or trial.datetime_start
                timed += [(end, event) for event in self._events_of_added(trial)]
                continue
            key, was_enqueued = None, bool(trial.system_attrs.get("fixed_params"))
            if architecture is not None:
                arch = ArchConfig.from_dict(architecture, "the study")
                schedule = str(trial.user_attrs.get("depth_schedule"))
                key = [arch.arch_id, schedule]
                if was_enqueued:
                    adopted: Event = {"adopted": trial.number, "architecture": architecture, "depth_schedule": schedule}
                    timed.append((trial.datetime_start, adopted))
            if not was_enqueued:
                timed.append((trial.datetime_start, {"asked": trial.number, "key": key}))
            if trial.state.is_finished() and trial.datetime_complete is not None and (key or not was_enqueued):
                values = trial.values if trial.state == TrialState.COMPLETE else None
                timed.append((trial.datetime_complete, {"told": trial.number, "values": values}))
        return [event for _, event in sorted(timed, key=lambda item: item[0])]

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._space

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:  # fmt: skip
        return dict(self.spec.domain.encode(self.candidate(study, trial.number)))

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        self.candidate(study, trial.number)
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Tells the strategy. Raises `UserError` for costs that are not the network's."""
        with self._lock:
            session = self._session
            if session is None or self._study_name != study.study_name or trial.number not in session.running:
                return
            candidate = session.running[trial.number]
            finished = values if state == TrialState.COMPLETE else None  # a pruned trial has its last report
            try:
                if finished is not None:
                    self.spec.require_known_costs(candidate, dict(zip(self.spec.objectives, finished, strict=True)))
            except UserError:
                finished = None
                raise
            finally:
                session.tell(trial.number, finished)


@contextmanager
def _failing(study: Study, trial: FrozenTrial) -> Iterator[None]:
    """Ends a trial as failed where it is refused; it would be running for ever."""
    try:
        yield
    except UserError:
        study.tell(trial.number, state=TrialState.FAIL)
        raise
