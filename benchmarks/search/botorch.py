"""BoTorch's qLogNEHVI as a strategy of the comparison. Needs `pip install botorch`; the package itself does not use it.

A Gaussian process with a Matern kernel and a length for every dimension (BoTorch's default) is fitted to the learned
objective, over levels scaled to 0 to 1 and the logarithm of the cost; costs are known exactly. The network of the pool
with the largest noisy expected hypervolume improvement (Daulton, Balandat and Bakshy, 2021; its logarithm by Ament et
al., 2023) is evaluated.
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

from benchmarks.search.pooled import PooledStrategy
from sret_nas.arrays import FloatArray
from trials.strategies.domain import C

SAMPLES = 32
"""Of the Monte Carlo acquisition."""
CHUNK = 250


class QLogNEHVIStrategy(PooledStrategy[C]):
    """Proposes by qLogNEHVI; for two objectives, the first learned and the second a cost."""

    def gains(self, candidates: Sequence[C]) -> FloatArray:
        torch.set_num_threads(1)
        known = self._rows([candidate for candidate, _ in self.told])
        values = -torch.tensor([[value] for _, value in self.told], dtype=torch.float64)  # BoTorch maximises
        center, scale = known[:, -1].mean(), known[:, -1].std()
        inputs, offered = (_scaled(rows, center, scale) for rows in (known, self._rows(candidates)))
        torch.manual_seed(self.seed * 1000 + self.asked)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = SingleTaskGP(inputs, values, outcome_transform=Standardize(1))
            fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
            reference = [float(values.min() - 0.1 * (values.max() - values.min())), float(-inputs[:, -1].max() - 0.1)]
            acquisition = qLogNoisyExpectedHypervolumeImprovement(
                model, reference, inputs, prune_baseline=True, objective=GenericMCMultiOutputObjective(_with_cost),
                sampler=SobolQMCNormalSampler(torch.Size([SAMPLES]), seed=self.asked),
            )  # fmt: skip
            with torch.no_grad():
                gains = torch.cat([acquisition(part[:, None]) for part in offered.split(CHUNK)])
        found: FloatArray = gains.numpy()
        return found

    def _rows(self, candidates: Sequence[C]) -> torch.Tensor:
        """Returns levels from 0 to 1, then the logarithm of the cost."""
        return torch.from_numpy(np.column_stack([self.levels(candidates), np.log(self.costs(candidates))]))


def _scaled(rows: torch.Tensor, center: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    scaled = rows.clone()
    scaled[:, -1] = (rows[:, -1] - center) / scale
    return scaled


def _with_cost(samples: torch.Tensor, X: torch.Tensor) -> torch.Tensor:  # noqa: N803 - BoTorch passes it by this name
    """Returns values drawn from the model, and beside each the network's cost, which is known."""
    cost = -X[..., -1:].expand(*samples.shape[:-1], 1)
    return torch.cat([samples, cost], dim=-1)
