"""The strategies for people who write their own trainable for Ray Tune (`pip install 'sret-nas[ray]'`).

    searcher = StrategySearcher("additive", "sret_tiny", Budget(flops_max=10**9), objectives=("error", "flops"))
    tuner = tune.Tuner(trainable, tune_config=tune.TuneConfig(search_alg=searcher, num_samples=100))

The trainable's `config["architecture"]` is plain data for `ArchConfig.from_dict`, `config["depth_schedule"]` a word.
Only networks inside the budget are ever proposed, each once; when all were, the tuner ends.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from sret_nas.arch.budget import Budget
from sret_nas.errors import UserError
from sret_nas.files import write_atomically
from sret_nas.space.search_space import SearchSpace
from trials.integrations.search_setting import SearchSetting
from trials.strategies.strategy import Candidate, StrategyName

logger = logging.getLogger(__name__)


class StrategySearcher(Searcher):
    """Lets one of our strategies propose every trial of a tuner.

    `objectives` are made small: `flops` and `params` are known, any other is a metric that the trainable reports, at
    the end or last. A trial that errs, or reports an objective as NaN or not at all, is told as failed. `population` is
    NSGA-II's, and the length of the others' start.

    Its state is what was asked and told, in order, from which `restore` and unpickling replay the strategy.
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
        setting = SearchSetting.of(
            strategy, space, budget, objectives=objectives, seed=seed, population=population
        )  # fmt: skip
        super().__init__()
        self._begin(setting)

    def _begin(self, setting: SearchSetting) -> None:
        self._setting = setting
        self._strategy = setting.start()
        self._running: dict[str, Candidate] = {}
        self._events: list[dict[str, Any]] = []

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        candidate = self._strategy.ask()
        if candidate is None:
            return self.FINISHED  # type: ignore[return-value]  # Tune's word for it, beside its own annotation
        self._running[trial_id] = candidate
        self._events.append({"asked": trial_id, "key": list(candidate.key)})
        return {"architecture": candidate.arch.to_dict(), "depth_schedule": candidate.depth_schedule}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if trial_id in self._running:  # Tune also reports trials begun after the state it restored was saved
            self._tell(trial_id, None if error else self._values(trial_id, result or {}))

    def _values(self, trial_id: str, result: dict[str, Any]) -> list[float] | None:
        domain = self._setting.domain
        known = zip(domain.chain.cost_names, domain.costs(self._running[trial_id]), strict=True)
        values = {**result, **dict(known)}
        missing = [name for name in self._setting.objectives if name not in values]
        if missing:
            logger.warning("trial %s reported no %s and counts as failed", trial_id, ", ".join(missing))
            return None
        found = [float(values[name]) for name in self._setting.objectives]
        return None if any(map(math.isnan, found)) else found

    def _tell(self, trial_id: str, values: list[float] | None) -> None:
        self._strategy.tell(self._running.pop(trial_id), None if values is None else tuple(values))
        self._events.append({"told": trial_id, "values": values})

    def __getstate__(self) -> dict[str, Any]:
        return {"setting": self._setting.to_dict(), "events": self._events}

    def __setstate__(self, state: dict[str, Any]) -> None:
        setting = SearchSetting.from_dict(state["setting"])
        super().__init__()
        self._replay(setting, state["events"])

    def _replay(self, setting: SearchSetting, events: list[dict[str, Any]]) -> None:
        """Asks and tells again. Raises `UserError` if another candidate comes, as with other versions it may."""
        self._begin(setting)
        for event in events:
            if "told" in event:
                self._tell(event["told"], event["values"])
                continue
            self.suggest(event["asked"])
            key = self._events[-1]["key"]
            if key != event["key"]:
                raise UserError(
                    f"the search cannot be restored: it had asked for {event['key']}, the strategy now asks for {key}; "
                    "use the versions of sret-nas, numpy and optuna that it was begun with, or start anew"
                )

    def save(self, checkpoint_path: str) -> None:
        """Writes the state as JSON; Tune calls it as the search goes."""
        write_atomically(Path(checkpoint_path), json.dumps(self.__getstate__()))

    def restore(self, checkpoint_path: str) -> None:
        """Carries on from a saved state. Raises `UserError` if it is another search's."""
        state = json.loads(Path(checkpoint_path).read_text(encoding="utf-8"))
        here = self._setting.to_dict()
        for name, then in state["setting"].items():
            if here[name] != then:
                raise UserError(f"{name} cannot change in a restored search: it was {then}, got {here[name]}")
        self._replay(self._setting, state["events"])
