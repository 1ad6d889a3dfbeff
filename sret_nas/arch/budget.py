"""Budgets: lower and upper bounds on the FLOPs and the parameters of a network."""

from __future__ import annotations

from dataclasses import dataclass

from sret_nas.errors import UserError
from sret_nas.quantities import format_quantity


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Closed bounds on FLOPs (multiply-adds, fvcore's convention) and on parameters; None is no bound."""

    flops_max: int | None = None
    params_max: int | None = None
    flops_min: int | None = None
    params_min: int | None = None

    def __post_init__(self) -> None:
        """Raises `UserError` for a bound below 1, or a minimum above its maximum."""
        for name, low, high in self._bounds():
            if any(bound is not None and bound < 1 for bound in (low, high)):
                raise UserError(f"a bound on {name} must be at least 1, got {low} and {high}")
            if low is not None and high is not None and low > high:
                raise UserError(
                    f"the minimum of {name} must not exceed their budget, "
                    f"got a minimum of {format_quantity(low)} and a budget of {format_quantity(high)}"
                )

    def _bounds(self) -> tuple[tuple[str, int | None, int | None], ...]:
        """Returns name, minimum and maximum of each cost."""
        return ("FLOPs", self.flops_min, self.flops_max), ("parameters", self.params_min, self.params_max)

    def allows(self, flops: int, params: int) -> bool:
        """Returns whether both costs lie inside the bounds."""
        return self.excess(flops, params) == 0.0

    def excess(self, flops: int, params: int) -> float:
        """Returns the largest relative violation of a bound: 0 inside the budget, 0.1 for a cost 10 % too high."""
        worst = 0.0
        for cost, (_, low, high) in zip((flops, params), self._bounds(), strict=True):
            if high is not None and cost > high:
                worst = max(worst, cost / high - 1)
            if low is not None and cost < low:
                worst = max(worst, low / max(cost, 1) - 1)
        return worst

    def describe(self) -> str:
        """Returns e.g. `FLOPs at most 1G, parameters 2.4M to 2.5M`, or `no budget` without any bound."""
        texts = []
        for name, low, high in self._bounds():
            if low is not None and high is not None:
                texts.append(f"{name} {format_quantity(low, 9)} to {format_quantity(high, 9)}")
            elif high is not None:
                texts.append(f"{name} at most {format_quantity(high, 9)}")
            elif low is not None:
                texts.append(f"{name} at least {format_quantity(low, 9)}")
        return ", ".join(texts) or "no budget"
