"""What a search recommends: one network for each cost that the user can use, as plain data.

A short proxy tells structures of equal cost apart, but hardly sizes (docs/results.md). So a network is recommended for
its structure, at a cost that is given: the budget, and shares of it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from sret_nas.quantities import format_latency, format_quantity

CostName = Literal["flops", "params", "latency"]

BestBy = Literal["expected", "proxy"]
"""How `best.yaml` is chosen: by what a full training is expected to give, or by the proxy's error alone."""

SHARES = (1.0, 0.75, 0.5, 0.25)
"""Shares of the budget that networks are recommended for."""

ORIGIN = "recommended"
"""The `origin` of trials that no strategy proposed, but that evaluate a recommendation."""

Finite = Annotated[float, Field(allow_inf_nan=False)]


class Recommendation(BaseModel):
    """The network whose structure is the best at a cost, by the model that was fitted to all trials."""

    model_config = ConfigDict(frozen=True)

    cost: CostName
    share: Annotated[float, Field(gt=0, le=1)]
    """Share of the budget."""
    limit: Annotated[StrictInt, Field(ge=1)]
    """Most that the network may cost; latency in microseconds."""
    number: Annotated[StrictInt, Field(ge=0)]
    """The trial that evaluates it."""
    predicted_error: Finite
    """Posterior mean of the proxy's validation error, 0 to 1."""
    deviation: Annotated[Finite, Field(ge=0)]
    """Posterior standard deviation of it."""

    @property
    def label(self) -> str:
        """Returns the limit with its unit, e.g. `750M FLOPs`."""
        if self.cost == "latency":
            return format_latency(self.limit)
        return f"{format_quantity(self.limit)} {'FLOPs' if self.cost == 'flops' else 'params'}"


class SizeEffect(BaseModel):
    """What the model says of size: the error at the largest recommended cost, less that at the smallest."""

    model_config = ConfigDict(frozen=True)

    difference: Finite
    """Posterior mean, in error from 0 to 1; negative if the largest is better."""
    deviation: Annotated[Finite, Field(ge=0)]

    @property
    def is_seen(self) -> bool:
        """Returns whether the proxy shows that the largest is better, beyond two standard deviations."""
        return self.difference < -2 * self.deviation


class Recommendations(BaseModel):
    """All that a search recommends, most expensive first, after so many trials."""

    model_config = ConfigDict(frozen=True)

    num_trials: Annotated[StrictInt, Field(ge=0)]
    """Finished trials that the model was fitted to. With more trials, a resumed search recommends anew."""
    networks: tuple[Recommendation, ...]
    size: SizeEffect | None = None
    """None if fewer than two networks are recommended."""
