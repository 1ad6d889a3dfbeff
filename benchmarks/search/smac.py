"""SMAC's ParEGO as a strategy of the comparison. Needs `pip install smac`; the package itself does not use it.

Every proposal draws a weight of the two objectives (Knowles, 2006). SMAC's random forest is fitted to the weighted sum
of what is known, and its expected improvement chooses from the pool; model, weighting and acquisition are those of
SMAC's facade for hyperparameters. Unlike SMAC's own loop, it fits anew for every proposal instead of every eighth, and
proposes no network that is infeasible or was evaluated before.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from ConfigSpace import Configuration, ConfigurationSpace
from ConfigSpace.hyperparameters import UniformIntegerHyperparameter
from smac import Scenario
from smac.acquisition.function.expected_improvement import EI
from smac.model.random_forest.random_forest import RandomForest
from smac.multi_objective.parego import ParEGO

from benchmarks.search.pooled import PooledStrategy
from sret_nas.arrays import FloatArray
from trials.strategies.domain import C, Domain

TREES = 10
PERCENTILE = 5.0


class ParEGOStrategy(PooledStrategy[C]):
    """Proposes by ParEGO; for two objectives, the first learned and the second a cost."""

    def __init__(self, domain: Domain[C], objectives: Sequence[str], seed: int, start: int) -> None:
        super().__init__(domain, objectives, seed, start)
        self._searched = [len(values) > 1 for values in domain.dimensions.values()]
        self._space = ConfigurationSpace(seed=seed)
        for name, values in domain.dimensions.items():
            if len(values) > 1:
                self._space.add(UniformIntegerHyperparameter(name, 0, len(values) - 1))
        self._weighting = ParEGO(Scenario(self._space, objectives=list(objectives), seed=seed, deterministic=True))

    def gains(self, candidates: Sequence[C]) -> FloatArray:
        known = [candidate for candidate, _ in self.told]
        objectives = np.column_stack([[value for _, value in self.told], self.costs(known)])
        least, most = objectives.min(axis=0), objectives.max(axis=0)
        self._weighting.update_on_iteration_start()
        scaled = (objectives - least) / np.maximum(most - least, 1e-12)
        labels = _logarithms(np.array([self._weighting(list(row)) for row in scaled]))
        model = RandomForest(
            self._space, log_y=True, n_trees=TREES, ratio_features=1.0, min_samples_split=2, min_samples_leaf=1,
            # As many leaves as labels are enough; the default has memory for a million, which takes most of the time.
            max_leaf_nodes=len(labels), seed=self.seed * 1000 + self.asked, n_jobs=1,
        )  # fmt: skip
        acquisition = EI(xi=0.0, log=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.train(self._rows(known), labels[:, None])
            acquisition.update(model=model, eta=float(labels.min()))
            offered = [Configuration(self._space, vector=row) for row in self._rows(candidates)]
            gains: FloatArray = acquisition(offered).ravel()
        return gains

    def _rows(self, candidates: Sequence[C]) -> FloatArray:
        """Returns levels from 0 to 1, of the dimensions that have a choice."""
        return self.levels(candidates)[:, self._searched]


def _logarithms(labels: FloatArray) -> FloatArray:
    """Returns labels as SMAC's `RunHistoryLogScaledEncoder` scales them."""
    least = 2 * labels.min() - np.percentile(labels, PERCENTILE) - 1e-10
    scaled: FloatArray = np.log((labels - least) / max(labels.max() - least, 1e-12))
    return scaled
