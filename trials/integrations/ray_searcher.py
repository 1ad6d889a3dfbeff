"""The strategies as a searcher, for users who write their own trainable for Ray Tune (`pip install 'sret-nas[ray]'`).

    searcher = StrategySearcher("additive", "sret_tiny", Budget(flops_max=10**9), objectives=("error", "flops"))
    tuner = tune.Tuner(trainable, tune_config=tune.TuneConfig(search_alg=searcher, num_samples=100))

The trainable's `config["architecture"]` is plain data for `ArchConfig.from_dict`, `config["depth_schedule"]` a word.
Only networks inside the budget are ever proposed, each once; when all were, the tuner ends.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from sret_nas.arch.budget import Budget
from sret_nas.errors import UserError
from sret_nas.files import write_atomically
from sret_nas.json_files import read_json
from sret_nas.space.search_space import SearchSpace

from ..strategies.strategy import StrategyName
from .session import StrategySession, restored
from .strategy_spec import StrategySpec


class StrategySearcher(Searcher):
    """Lets a strategy propose every trial of a tuner.

    `objectives` are made small: `flops` and `params` are known, any other is a metric that the trainable reports, at
    the end or last. A trial that errs, or reports an objective as NaN, is told as failed. One that does not report an
    objective ends the tuner. `population` is NSGA-II's, and the length of the others' start, which `additive`
    bounds and strategies that never learn have not.

    Args:
        objectives: Names of the values to minimise. `flops` and `params` are computed exactly, the others are metrics
            that the trainable reports.
        population: The population of NSGA-II, and the number of initial trials of strategies that learn.
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
    ) -> None:
        """Raises `UserError` for invalid arguments, and `BudgetError` if no network is inside the budget."""
        spec = StrategySpec.of(
            strategy, space, budget, objectives=objectives, seed=seed, population=population
        )  # fmt: skip
        super().__init__()
        self._begin(spec)

    def _begin(self, spec: StrategySpec) -> None:
        self._spec, self._session = spec, StrategySession(spec)

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Checks what a tuner is told to do. Raises `UserError` for anything else than minimising our objectives."""
        objectives = self._spec.objectives
        for name in _listed(metric):
            if name not in objectives:
                raise UserError(
                    f"the tuner's metric must be one of the objectives {', '.join(objectives)}, got {name!r}"
                )
        if "max" in _listed(mode):
            raise UserError(
                "the searcher minimises its objectives, got mode 'max': report what is to be small, such as an error "
                "of 1 - accuracy, and set mode to 'min' or leave metric and mode out"
            )
        return bool(super().set_search_properties(metric, mode, config, **spec))

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        candidate = self._session.ask(trial_id)
        if candidate is None:
            return self.FINISHED  # type: ignore[return-value]  # Tune's word for it, beside its own annotation
        return {"architecture": candidate.arch.to_dict(), "depth_schedule": candidate.depth_schedule}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tells the strategy. Raises `UserError` if an objective was not reported, or a cost is not the network's."""
        if (
            trial_id not in self._session.running
        ):  # Tune also reports trials begun after the state it restored was saved
            return
        values: list[float] | None = None
        try:
            values = None if error else self._values(trial_id, result or {})
        finally:
            self._session.tell(trial_id, values)

    def _values(self, trial_id: str, result: dict[str, Any]) -> list[float] | None:
        """Returns the objective values; None if one is NaN."""
        spec, candidate = self._spec, self._session.running[trial_id]
        names = spec.domain.chain.cost_names
        self._session.spec.require_known_costs(
            candidate, {name: float(result[name]) for name in names if name in result}
        )
        values = {**result, **dict(zip(names, spec.domain.costs(candidate), strict=True))}
        missing = [name for name in spec.objectives if name not in values]
        if missing:
            raise UserError(
                f"trial {trial_id} ended without having reported {', '.join(missing)}: the trainable must report "
                f"{', '.join(name for name in spec.objectives if name not in names)}"
            )
        found = [float(values[name]) for name in spec.objectives]
        return found if all(map(math.isfinite, found)) else None

    def __getstate__(self) -> dict[str, Any]:
        """Returns plain data. The key `setting` is that of earlier versions, whose saved searchers stay readable."""
        return {"setting": self._spec.to_dict(), "events": self._session.events}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__init__()
        self._spec = StrategySpec.from_dict(state["setting"])
        self._session = restored(self._spec, state["events"])

    def save(self, checkpoint_path: str) -> None:
        """Writes the state as JSON. Tune calls it during the search."""
        write_atomically(Path(checkpoint_path), json.dumps(self.__getstate__()))

    def restore(self, checkpoint_path: str) -> None:
        """Resumes from a saved state. Raises `UserError` if it is another search's."""
        state = read_json(Path(checkpoint_path))
        here = self._spec.to_dict()
        for name, then in state["setting"].items():
            if here[name] != then:
                raise UserError(f"{name} cannot change in a restored search: it was {then}, got {here[name]}")
        self._session = restored(self._spec, state["events"])


def _listed(value: str | Sequence[str] | None) -> list[str]:
    """Returns what a tuner gives as one word, as several, or not at all."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)
