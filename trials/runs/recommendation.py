"""What a search recommends: one network for each cost that the user can use, as plain data.

A short proxy tells structures of equal cost apart, but hardly sizes (docs/results.md). So a network is recommended for
its structure, at a cost that is given: the budget, and shares of it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from sret_nas.quantities import format_latency, format_quantity

BudgetCost = Literal["flops", "params", "latency"]

MAX_BENDS = 1
"""Most networks that are recommended where the model's front bends."""

MAX_ROUNDS, MAX_ROUNDS_FROM_SCRATCH = 3, 1
"""Most rounds of choosing networks and evaluating them. A trial from scratch is long, so it has one."""

BestBy = Literal["expected", "proxy"]
"""How `best.yaml` is chosen: by what a full training is expected to give, or by the proxy's error alone."""

SHARES = (1.0, 0.75, 0.5, 0.25)
"""Shares of the budget that networks are recommended for, or of the most that is possible within it."""

ORIGIN = "recommended"
"""The `origin` of trials that no strategy proposed, but that evaluate a recommendation."""

Finite = Annotated[float, Field(allow_inf_nan=False)]


def max_rounds(*, from_scratch: bool) -> int:
    """Returns the most rounds of a search, by whether its trials train from scratch."""
    return MAX_ROUNDS_FROM_SCRATCH if from_scratch else MAX_ROUNDS


def max_evaluations(*, from_scratch: bool) -> int:
    """Returns the most trials that a search runs to evaluate what it recommends."""
    return max_rounds(from_scratch=from_scratch) * (len(SHARES) + MAX_BENDS)


def format_cost(cost: BudgetCost, amount: int) -> str:
    """Returns an amount of a cost with its unit, e.g. `750M FLOPs`; latency is in microseconds."""
    if cost == "latency":
        return format_latency(amount)
    return f"{format_quantity(amount)} {'FLOPs' if cost == 'flops' else 'params'}"


class Recommendation(BaseModel):
    """The network whose structure is the best at a cost, by the model that was fitted to all trials."""

    model_config = ConfigDict(frozen=True)

    cost: BudgetCost
    share: Annotated[float, Field(gt=0, le=1)]
    """Share of the budget, or of the most that a network within it costs if that is far less."""
    limit: Annotated[StrictInt, Field(ge=1)]
    """Most that the network may cost; latency in microseconds."""
    number: Annotated[StrictInt, Field(ge=0)]
    """The trial that evaluates it."""
    is_bend: bool = False
    """Whether it is recommended because the model's front bends there; its share is then that of its own cost."""
    predicted_error: Finite
    """Posterior mean of the proxy's error on the validation images, 0 to 1."""
    deviation: Annotated[Finite, Field(ge=0)]
    """Posterior standard deviation of it: on these images, not on new ones (`trials.runs.uncertainty`)."""

    @property
    def label(self) -> str:
        """The limit with its unit, e.g. `750M FLOPs`."""
        return format_cost(self.cost, self.limit)


class SizeEffect(BaseModel):
    """What the model says of size: the error at the largest share of the budget, less that at the smallest."""

    model_config = ConfigDict(frozen=True)

    difference: Finite
    """Posterior mean, in error from 0 to 1; negative if the largest is better."""
    deviation: Annotated[Finite, Field(ge=0)]

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the difference."""
        return self.difference - 2 * self.deviation, self.difference + 2 * self.deviation

    @property
    def is_seen(self) -> bool:
        """Whether the proxies show that the largest is better: the interval is below 0."""
        return self.interval[1] < 0


class Recommendations(BaseModel):
    """All that a search recommends, most expensive first, after so many trials."""

    model_config = ConfigDict(frozen=True)

    num_trials: Annotated[StrictInt, Field(ge=0)]
    """Finished trials that networks were chosen by. With more trials, a resumed search recommends anew."""
    round_number: Annotated[StrictInt, Field(ge=1)] = 1
    """Rounds of choosing and evaluating so far."""
    is_final: bool = True
    """Whether predictions know the results of all that is recommended. Before that, networks are to be evaluated."""
    networks: tuple[Recommendation, ...]
    size: SizeEffect | None = None
    """None if there are fewer than two shares of the budget with a network."""
    awaited: tuple[Annotated[StrictInt, Field(ge=0)], ...] = ()
    """Numbers of those of `num_trials` that were chosen before they had ended: an exhausted budget left them waiting.
    One that fails then was in vain among them. Earlier versions recorded none."""

    def to_json(self) -> dict[str, Any]:
        """Returns plain data for the record, in which what is as in earlier versions is left out."""
        content = self.model_dump(mode="json")
        for name in ("round_number", "is_final"):
            if content[name] == Recommendations.model_fields[name].default:
                del content[name]
        if not self.awaited:
            del content["awaited"]
        return {
            **content,
            "networks": [network.model_dump(mode="json", exclude_defaults=True) for network in self.networks],
        }

    def of(self, number: int) -> Recommendation | None:
        """Returns what is recommended with a trial's network; None if it is not recommended."""
        return next((network for network in self.networks if network.number == number), None)

    @property
    def shares(self) -> tuple[Recommendation, ...]:
        """The networks at shares of the budget, most expensive first; that at a bend is left out."""
        return tuple(network for network in self.networks if not network.is_bend)
