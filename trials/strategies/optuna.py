"""Optuna's samplers (NSGA-II, multivariate TPE, Gaussian processes) under hard constraints.

Feasibility is enforced while sampling, before a trial exists. A suggestion that is infeasible or was asked before is
drawn again, then repaired, then replaced by a uniform draw from the feasible set (in a table of results, by the nearest
member). So a sampler never sees an infeasible network, and `ask` always ends. (If rejections were told as failed
trials, TPE would never leave its start-up phase.)

Samplers see the values of a dimension as categories, or as `Ordinals`: their positions, which are numbers. NSGA-II and
TPE ignore the order of values. A Gaussian process uses it, and predicts much better with it (docs/results.md).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Generic

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from threadpoolctl import threadpool_limits

from sret_nas.space.search_space import Value

from .candidates import CandidatePool
from .domain import C, Domain
from .strategy import Strategy
from .stratified import StratifiedDesign, cost_to_spread

MAX_REDRAWS = 16
"""Maximum number of suggestions before the last one is repaired."""
MAX_REPAIRS = 100
"""Maximum number of changes of one dimension before a uniform draw replaces the suggestion."""

MAX_VALUE_OF_GP = 1e30
"""Largest value that the Gaussian process is told: it squares values, and has no place for infinite ones."""


def distributions(domain: Domain[C]) -> dict[str, BaseDistribution]:
    """Returns the domain's dimensions as Optuna distributions. Several assignments may encode one candidate."""
    return {name: CategoricalDistribution(choices) for name, choices in domain.dimensions.items()}


class Categories(Generic[C]):
    """Shows a sampler each dimension as a choice among its values."""

    def __init__(self, domain: Domain[C]) -> None:
        self._domain = domain

    @property
    def space(self) -> dict[str, BaseDistribution]:
        """The distribution of each dimension."""
        return distributions(self._domain)

    def encode(self, candidate: C) -> dict[str, Value]:
        """Returns the parameters that encode a candidate."""
        return dict(self._domain.encode(candidate))

    def decode(self, params: Mapping[str, Value]) -> C | None:
        """Returns the candidate that parameters encode; None if they encode none."""
        return self._domain.decode(params)


class Ordinals(Categories[C]):
    """Shows a sampler each dimension as a whole number: the position of its value, counted from 0."""

    def __init__(self, domain: Domain[C]) -> None:
        super().__init__(domain)
        self._values = {name: tuple(values) for name, values in domain.dimensions.items()}

    @property
    def space(self) -> dict[str, BaseDistribution]:
        return {name: IntDistribution(0, len(values) - 1) for name, values in self._values.items()}

    def encode(self, candidate: C) -> dict[str, Value]:
        return {name: self._values[name].index(value) for name, value in self._domain.encode(candidate).items()}

    def decode(self, params: Mapping[str, Value]) -> C | None:
        return self._domain.decode({name: self._values[name][int(level)] for name, level in params.items()})


class FeasibleSampler(BaseSampler, Generic[C]):
    """Wraps a sampler so that every trial encodes an open candidate of the pool.

    `drawn` is the candidate of the trial sampled last; None if no candidate is left.
    """

    def __init__(
        self,
        inner: BaseSampler,
        pool: CandidatePool[C],
        seed: int,
        first: Callable[[], C | None] | None = None,
        coding: Categories[C] | None = None,
        max_redraws: int = MAX_REDRAWS,
    ) -> None:
        """Wraps `inner`.

        Args:
            first: Draws candidates until the sampler has seen enough to suggest any; by default uniformly.
            coding: How the sampler sees dimensions; by default as categories.
            max_redraws: Maximum number of suggestions before the last one is repaired.
        """
        self._inner = inner
        self._pool = pool
        self._first = first or pool.draw
        self._domain = pool.domain
        self._coding = coding or Categories(pool.domain)
        self._max_redraws = max_redraws
        self._rng = np.random.default_rng([seed, 1])  # other numbers than the pool draws with
        self._space = self._coding.space
        self._searched = {name: dim for name, dim in self._space.items() if not dim.single()}
        self._spelled: dict[Hashable, dict[str, Value]] = {}
        self.drawn: C | None = None

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._space

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:  # fmt: skip
        self.drawn = self._suggest(study, trial)
        return {} if self.drawn is None else dict(self.encode(self.drawn))

    @property
    def has_choices(self) -> bool:
        """Whether any dimension has more than one value."""
        return bool(self._searched)

    def encode(self, candidate: C) -> dict[str, Value]:
        """Returns the parameters of a candidate's trial."""
        return self._coding.encode(candidate)

    def _suggest(self, study: Study, trial: FrozenTrial) -> C | None:
        values: dict[str, Value] = {}
        for _ in range(self._max_redraws):
            suggested = self._inner.sample_relative(study, trial, self._searched)
            if not suggested:
                return self._first()
            values = self._completed(suggested)
            candidate = self._coding.decode(values)
            if candidate is not None and self._pool.is_open(candidate):
                return candidate
            if self._domain.members is not None:
                return self._nearest_member(values)
        return self._repaired(values) or self._pool.draw()

    def _nearest_member(self, values: dict[str, Value]) -> C | None:
        """Returns the open member that differs in the fewest dimensions, ties broken at random; None if there is none.

        A table holds so few of the combinations that redraws and repairs would hardly ever find one.
        """
        remaining = self._pool.remaining()
        if not remaining:
            return None
        spelled = [self._spelled_member(member) for member in remaining]
        distances = np.array([sum(values[name] != value for name, value in member.items()) for member in spelled])
        return remaining[int(self._rng.choice(np.flatnonzero(distances == distances.min())))]

    def _spelled_member(self, member: C) -> dict[str, Value]:
        if member.key not in self._spelled:
            self._spelled[member.key] = self.encode(member)
        return self._spelled[member.key]

    def _completed(self, suggested: Mapping[str, Value]) -> dict[str, Value]:
        """Returns one value per dimension, random where NSGA-II leaves a dimension out to have it mutated."""
        return {name: suggested[name] if name in suggested else self._any(dim) for name, dim in self._space.items()}

    def _any(self, dimension: BaseDistribution) -> Value:
        if isinstance(dimension, IntDistribution):
            return int(self._rng.integers(dimension.low, dimension.high + 1))
        assert isinstance(dimension, CategoricalDistribution)
        choice = dimension.choices[self._rng.integers(len(dimension.choices))]
        assert choice is not None  # the space's dimensions list values only
        return choice

    def _repaired(self, values: dict[str, Value]) -> C | None:
        """Returns an open candidate by random changes of one dimension that never increase the excess; else None."""
        names = list(self._searched)
        candidate = self._coding.decode(values)
        excess = float("inf") if candidate is None else self._domain.excess(candidate)
        for _ in range(MAX_REPAIRS if names else 0):
            name = names[self._rng.integers(len(names))]
            changed = {**values, name: self._any(self._space[name])}
            candidate = self._coding.decode(changed)
            if candidate is None or (new_excess := self._domain.excess(candidate)) > excess:
                continue
            values, excess = changed, new_excess
            if self._pool.is_open(candidate):
                return candidate
        return None

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        if self.drawn is not None:
            raise RuntimeError(f"{param_name} is no dimension of the search space")
        # No candidate is left, and `ask` is about to fail this trial.
        if isinstance(param_distribution, IntDistribution):
            return param_distribution.low
        assert isinstance(param_distribution, CategoricalDistribution)
        return param_distribution.choices[0]

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._inner.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        self._inner.after_trial(study, trial, state, values)


class OneThreadGPSampler(GPSampler):
    """Computes on one core: others are training, and sums must not depend on the number of cores."""

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:  # fmt: skip
        with threadpool_limits(limits=1):
            return super().sample_relative(study, trial, search_space)


class OptunaStrategy(Strategy[C]):
    """Wraps an Optuna sampler and a study in memory (`trials.runs.optuna_journal` writes another to disk)."""

    def __init__(
        self, sampler: FeasibleSampler[C], pool: CandidatePool[C], num_objectives: int, max_value: float = math.inf
    ) -> None:
        """Wraps a sampler, which is told values of at most `max_value`, and at least `-max_value`."""
        self._max_value = max_value
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._pool = pool
        self._sampler = sampler
        self._study = optuna.create_study(directions=["minimize"] * num_objectives, sampler=sampler)
        self._running: dict[Hashable, optuna.Trial] = {}

    def ask(self) -> C | None:
        trial = self._study.ask(self._sampler.infer_relative_search_space(self._study, None))  # type: ignore[arg-type]
        # Optuna asks a sampler for nothing where every dimension has one value.
        candidate = self._sampler.drawn if self._sampler.has_choices else self._pool.draw()
        if candidate is None:
            self._study.tell(trial, state=TrialState.FAIL)  # TPE would avoid a trial left running forever
            return None
        self._pool.claim(candidate)
        self._running[candidate.key] = trial
        return candidate

    def adopt(self, candidate: C) -> None:
        self._study.enqueue_trial(dict(self._sampler.encode(candidate)))
        trial = self._study.ask(self._sampler.infer_relative_search_space(self._study, None))  # type: ignore[arg-type]
        self._pool.claim(candidate)
        self._running[candidate.key] = trial

    def tell(self, candidate: C, values: tuple[float, ...] | None) -> None:
        trial = self._running.pop(candidate.key)
        if values is None:
            self._study.tell(trial, state=TrialState.FAIL)
            return
        for name, slack in constraints(candidate, self._pool.domain).items():
            trial.set_constraint(name, slack)
        self._study.tell(trial, [min(max(value, -self._max_value), self._max_value) for value in values])


def constraints(candidate: C, domain: Domain[C]) -> dict[str, float]:
    """Returns Optuna's constraint values by cost: cost / maximum - 1, which is at most 0 if the constraint is met."""
    terms = zip(domain.chain.cost_names, domain.costs(candidate), domain.bounds, strict=True)
    return {name: cost / most - 1 for name, cost, (_, most) in terms if most < float("inf")}


def nsga2(
    pool: CandidatePool[C], objectives: Sequence[str], seed: int, population: int, *, has_design: bool
) -> OptunaStrategy[C]:
    """Returns Optuna's NSGA-II (Deb et al., 2002).

    Its first generation is drawn uniformly or, if it `has_design`, stratified over cost.
    """
    design = StratifiedDesign(pool, cost_to_spread(pool.domain, objectives))
    inner = NSGAIISampler(population_size=population, seed=seed)
    sampler = FeasibleSampler(inner, pool, seed, design.draw if has_design else None)
    return OptunaStrategy(sampler, pool, len(objectives))


def tpe(pool: CandidatePool[C], num_objectives: int, seed: int, start: int) -> OptunaStrategy[C]:
    """Returns Optuna's multivariate, multi-objective TPE, aware of running trials (constant liar).

    The first `start` trials are drawn uniformly.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = TPESampler(multivariate=True, constant_liar=True, seed=seed, n_startup_trials=start)
    return OptunaStrategy(FeasibleSampler(sampler, pool, seed), pool, num_objectives)


def gp(
    pool: CandidatePool[C], objectives: Sequence[str], seed: int, start: int, *, has_design: bool
) -> OptunaStrategy[C]:
    """Returns Optuna's Gaussian-process sampler: logarithmic expected hypervolume improvement, constraints modelled.

    The first `start` trials are drawn uniformly or, if it `has_design`, stratified over cost. Its one suggestion per
    trial takes a second or more, and a second one would be much the same, so it is repaired at once.
    """
    design = StratifiedDesign(pool, cost_to_spread(pool.domain, objectives))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        inner = OneThreadGPSampler(seed=seed, n_startup_trials=start)
    first = design.draw if has_design else None
    sampler = FeasibleSampler(inner, pool, seed, first, Ordinals(pool.domain), max_redraws=1)
    return OptunaStrategy(sampler, pool, len(objectives), max_value=MAX_VALUE_OF_GP)
