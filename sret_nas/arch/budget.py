"""Budgets: bounds on the FLOPs and the parameters of a network, and on its FLOPs at the shallowest depth."""

from __future__ import annotations

from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any

from sret_nas.errors import UserError, describe
from sret_nas.quantities import format_quantity


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Closed bounds on FLOPs (multiply-adds, fvcore's convention) and on parameters; None is no bound.

    One file of weights runs at several recursion depths (mixed-depth training). `shallowest_flops_max` bounds the FLOPs
    of the shallowest one, where every stage is applied once.
    """

    flops_max: int | None = None
    params_max: int | None = None
    flops_min: int | None = None
    params_min: int | None = None
    shallowest_flops_max: int | None = None

    def __post_init__(self) -> None:
        """Makes all bounds plain integers, since files hold no others.

        Raises `UserError` for what is no whole number or below 1, and for a minimum above its maximum.
        """
        for field in fields(self):
            object.__setattr__(self, field.name, _whole(field.name, getattr(self, field.name)))
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
        return (
            ("FLOPs", self.flops_min, self.flops_max),
            ("parameters", self.params_min, self.params_max),
            ("FLOPs at the shallowest depth", None, self.shallowest_flops_max),
        )

    @property
    def bounded(self) -> tuple[int, ...]:
        """Positions of the bounded costs: 0 for FLOPs, 1 for parameters, 2 for FLOPs at the shallowest depth."""
        return tuple(position for position, (_, low, high) in enumerate(self._bounds()) if (low, high) != (None, None))

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data; what came later than the other bounds is left out where it is no bound."""
        data = dict(vars(self))
        if self.shallowest_flops_max is None:
            del data["shallowest_flops_max"]
        return data

    def allows(self, flops: int, params: int, shallowest_flops: int | None = None) -> bool:
        """Returns whether the costs lie inside the bounds."""
        return self.excess(flops, params, shallowest_flops) == 0.0

    def excess(self, flops: int, params: int, shallowest_flops: int | None = None) -> float:
        """Returns the largest relative violation of a bound: 0 inside the budget, 0.1 for a cost 10 % too high.

        Raises `ValueError` without the FLOPs at the shallowest depth, if they are bounded.
        """
        if shallowest_flops is None and self.shallowest_flops_max is not None:
            raise ValueError("the FLOPs at the shallowest depth are bounded, so they must be given")
        worst = 0.0
        for cost, (_, low, high) in zip((flops, params, shallowest_flops or 0), self._bounds(), strict=True):
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


def _whole(name: str, bound: Any) -> int | None:
    """Returns a bound as an integer. Raises `UserError` for what is no whole number; 1e9 is one."""
    if bound is None:
        return None
    is_number = isinstance(bound, Real) and not isinstance(bound, bool)
    if not is_number or not (isinstance(bound, Integral) or float(bound).is_integer()):
        raise UserError(
            f"{name} must be a whole number, such as 10**9, or None for no bound, got {describe(bound)}; "
            "parse_quantity of sret_nas.quantities reads text such as '1G'"
        )
    return int(bound)
