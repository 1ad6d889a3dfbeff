"""BoTorch's qLogNEHVI as a strategy of the comparison. Needs `pip install botorch`; the package itself does not use it.

It is given what `additive` has: the same design spread over cost, costs known exactly, and a pool of feasible networks.
After the design, a Gaussian process with a Matern kernel and a length for every dimension (BoTorch's default) is fitted
to the learned objective, over levels scaled to 0 to 1. The network of the pool with the largest noisy expected
hypervolume improvement (Daulton, Balandat and Bakshy, 2021; its logarithm by Ament et al., 2023) is evaluated. The pool
is a table's open members, or draws spread over cost and neighbours of the observed front; at most `POOL` of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
from botorch.acquisition.multi_objective.objective import GenericMCMultiOutputObjective
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.transforms import Standardize
from botorch.sampling import SobolQMCNormalSampler
from gpytorch.mlls import ExactMarginalLogLikelihood

from sret_nas.pareto import non_dominated
from trials.strategies.candidates import CandidatePool
from trials.strategies.domain import C, Domain
from trials.strategies.neighbours import Neighbours
from trials.strategies.strategy import Strategy

POOL = 500
SAMPLES = 32
"""Of the Monte Carlo acquisition."""
CHUNK = 250


class QLogNEHVIStrategy(Strategy[C]):
    """Proposes by qLogNEHVI; for two objectives, the first learned and the second a cost."""

    def __init__(self, pool: CandidatePool[C], objectives: Sequence[str], seed: int, start: int) -> None:
        torch.set_num_threads(1)
        self._pool, self._domain, self._seed, self._start = pool, pool.domain, seed, start
        self._rng = np.random.default_rng([seed, 3])
        self._by = objectives[1]
        self._column = self._domain.chain.cost_names.index(objectives[1])
        self._neighbours = Neighbours(self._domain.chain, self._domain.bounds)
        self._sizes = {name: (values, len(values)) for name, values in self._domain.dimensions.items()}
        self._design: list[C] = []
        self._asked = 0
        self._told: list[tuple[C, float]] = []

    def ask(self) -> C | None:
        candidate = self._from_design() if self._asked < self._start else self._most_improving()
        if candidate is not None:
            self._pool.claim(candidate)
            self._asked += 1
        return candidate

    def tell(self, candidate: C, values: tuple[float, ...] | None) -> None:
        if values is not None:
            self._told.append((candidate, values[0]))

    def _from_design(self) -> C | None:
        if not self._design:
            self._design = self._pool.draw_stratified(self._start, self._by)
        return self._design.pop(0) if self._design else self._pool.draw()

    def _rows(self, candidates: Sequence[C]) -> torch.Tensor:
        """Returns levels from 0 to 1, then the logarithm of the cost."""
        rows = []
        for candidate in candidates:
            encoded = self._domain.encode(candidate)
            levels = [values.index(encoded[name]) / max(size - 1, 1) for name, (values, size) in self._sizes.items()]
            rows.append([*levels, np.log(self._domain.costs(candidate)[self._column])])
        return torch.tensor(rows, dtype=torch.float64)

    def _candidates(self) -> list[C]:
        """Returns what the acquisition is evaluated on."""
        members = self._domain.members
        if members is not None:
            open_ones = [member for member in members if self._pool.is_open(member)]
            chosen = self._rng.permutation(len(open_ones))[:POOL]
            return [open_ones[position] for position in chosen]
        costs = [self._domain.costs(candidate)[self._column] for candidate, _ in self._told]
        front = non_dominated(np.column_stack([[value for _, value in self._told], costs]))
        points = np.array([self._domain.point(candidate) for candidate, _ in self._told])[front]
        near = self._neighbours.draw(points, POOL // 2, self._rng).tolist()
        found = [self._domain.candidate(tuple(point)) for point in near]
        found += self._pool.draw_stratified(POOL - len(found), self._by)
        distinct = {candidate.key: candidate for candidate in found if self._pool.is_open(candidate)}
        return list(distinct.values())

    def _most_improving(self) -> C | None:
        candidates = self._candidates()
        if not candidates:
            return self._pool.draw()
        known = self._rows([candidate for candidate, _ in self._told])
        values = -torch.tensor([[value] for _, value in self._told], dtype=torch.float64)  # BoTorch maximises
        center, scale = known[:, -1].mean(), known[:, -1].std()
        inputs, offered = (self._scaled(rows, center, scale) for rows in (known, self._rows(candidates)))
        torch.manual_seed(self._seed * 1000 + self._asked)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = SingleTaskGP(inputs, values, outcome_transform=Standardize(1))
            fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
            reference = [float(values.min() - 0.1 * (values.max() - values.min())), float(-inputs[:, -1].max() - 0.1)]
            acquisition = qLogNoisyExpectedHypervolumeImprovement(
                model, reference, inputs, prune_baseline=True, objective=GenericMCMultiOutputObjective(_with_cost),
                sampler=SobolQMCNormalSampler(torch.Size([SAMPLES]), seed=self._asked),
            )  # fmt: skip
            with torch.no_grad():
                gains = torch.cat([acquisition(part[:, None]) for part in offered.split(CHUNK)])
        return candidates[int(gains.argmax())]

    @staticmethod
    def _scaled(rows: torch.Tensor, center: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        scaled = rows.clone()
        scaled[:, -1] = (rows[:, -1] - center) / scale
        return scaled


def _with_cost(samples: torch.Tensor, X: torch.Tensor) -> torch.Tensor:  # noqa: N803 - BoTorch passes it by this name
    """Returns values drawn from the model, and beside each the network's cost, which is known."""
    cost = -X[..., -1:].expand(*samples.shape[:-1], 1)
    return torch.cat([samples, cost], dim=-1)


def create(domain: Domain[C], objectives: Sequence[str], seed: int, start: int) -> QLogNEHVIStrategy[C]:
    """Returns a new strategy."""
    return QLogNEHVIStrategy(CandidatePool(domain, seed), objectives, seed, start)
