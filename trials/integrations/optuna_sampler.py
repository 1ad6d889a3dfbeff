"""The strategies for people who write their own objective for Optuna.

    sampler = StrategySampler("additive", "sret_tiny", Budget(flops_max=10**9), objectives=("error", "flops"))
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)

In the objective, `arch, depth_schedule = architecture(trial)` is the network to train. Only networks inside the budget
are ever proposed, each once; when all were, `optimize` ends.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
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
from trials.integrations.search_setting import SearchSetting
from trials.strategies.optuna import distributions
from trials.strategies.strategy import Candidate, StrategyName


def architecture(trial: Trial) -> tuple[ArchConfig, DepthSchedule]:
    """The network that a trial is to try, and the mixed-depth schedule to train it with.

    The trial keeps both, as parameters and as user attributes (`ArchConfig.from_dict(user_attrs["architecture"])`).
    Raises `TrialPruned` once every network inside the budget has been tried, and `UserError` for a trial of a study
    without a `StrategySampler` or with parameters of its own.
    """
    sampler = trial.study.sampler
    if not isinstance(sampler, StrategySampler):
        raise UserError(f"the study's sampler must be a StrategySampler, got {type(sampler).__name__}")
    candidate = sampler.candidate(trial.number)
    domain = sampler.setting.domain
    given = {name: trial.suggest_categorical(name, choices) for name, choices in domain.dimensions.items()}
    if given != domain.encode(candidate):
        raise UserError(f"trial {trial.number} was enqueued with parameters, but the strategy must propose all trials")
    trial.set_user_attr("architecture", candidate.arch.to_dict())
    trial.set_user_attr("depth_schedule", candidate.depth_schedule)
    return candidate.arch, candidate.depth_schedule


class StrategySampler(BaseSampler):
    """Lets one of our strategies propose every trial of a study, from its first on.

    `objectives` name the values that the study minimises, in order: `flops` and `params` are known beforehand, any
    other name is learned. `population` is NSGA-II's, and the length of the others' start. Trials that fail or are
    pruned are told as failed. With `n_jobs` above 1, what is proposed depends on which trial ends first.
    """

    def __init__(
        self,
        strategy: StrategyName,
        space: str | SearchSpace,
        budget: Budget,
        *,
        objectives: Sequence[str] = ("error", "flops"),
        seed: int = 0,
        population: int = 16,
    ) -> None:
        """Raises `UserError` for anything that cannot be, `BudgetError` for an impossible budget."""
        self.setting = SearchSetting.of(
            strategy, space, budget, objectives=objectives, seed=seed, population=population
        )  # fmt: skip
        self._strategy = self.setting.start()
        self._space = distributions(self.setting.domain)
        self._running: dict[int, Candidate] = {}
        self._num_asked = 0
        self._lock = threading.Lock()  # threads of `n_jobs` ask and tell one strategy

    def candidate(self, number: int) -> Candidate:
        """What a running trial is to try. Raises `TrialPruned` where nothing was left for it."""
        if number not in self._running:
            raise optuna.TrialPruned(f"all {self._num_asked} candidates inside the budget have been tried")
        return self._running[number]

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Asks the strategy here, since Optuna asks for parameters only once an objective suggests them."""
        self._check(study)
        with self._lock:
            candidate = self._strategy.ask()
            if candidate is not None:
                self._running[trial.number] = candidate
                self._num_asked += 1
        if candidate is None:
            with suppress(RuntimeError):  # asked outside `optimize`, there is no loop to stop: see `candidate`
                study.stop()

    def _check(self, study: Study) -> None:
        objectives = self.setting.objectives
        if study.directions != [StudyDirection.MINIMIZE] * len(objectives):
            found = ", ".join(direction.name.lower() for direction in study.directions)
            raise UserError(
                f"the study must minimise {len(objectives)} values, {', '.join(objectives)}, got the directions {found}"
            )
        if self._num_asked == 0 and study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            raise UserError("the study has finished trials that this sampler did not propose: start a new study")

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._space

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:  # fmt: skip
        return dict(self.setting.domain.encode(self.candidate(trial.number)))

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        self.candidate(trial.number)
        raise UserError(f"{param_name} is no dimension of {self.setting.space.name}: decide it outside the trial")

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        with self._lock:
            candidate = self._running.pop(trial.number, None)
            if candidate is not None:
                finished = values if state == TrialState.COMPLETE else None  # a pruned trial has its last report
                self._strategy.tell(candidate, None if finished is None else tuple(finished))
