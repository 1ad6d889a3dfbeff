"""What people and programs read of an objective: its name, its unit and how its values are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sret_nas.quantities import format_latency, format_quantity

from ..engines.results import TrialResult
from .objectives import Objective, error_named, objective_values


@dataclass(frozen=True)
class ObjectiveText:
    """How an objective is named and written."""

    title: str
    """Its full name, for sentences, axes and the titles of tables."""
    word: str
    """Its name in a line, beside the number."""
    metric: str
    """Its name for trackers and in tables for programs."""
    metric_scale: float = 1.0
    """What a value is multiplied by for trackers."""
    averaged: str = ""
    """Over what it is a mean, for the end of a title."""

    @property
    def proxy_title(self) -> str:
        """Its name on the axis of a picture that also has scores of other parts."""
        return f"{self.word} of the proxy{self.averaged}"

    def write(self, value: float) -> str:
        """Returns a value with name and unit, e.g. `error 2.31%` or `79.34M FLOPs`."""
        if self.word in ("FLOPs", "params"):
            return f"{format_quantity(round(value))} {self.word}"
        if self.word == "latency":
            return format_latency(value)
        return f"{self.word} {value:.4f} nats" if self.word == "cross-entropy" else f"{self.word} {value:.2%}"


_OVER_DEPTHS = " over its recursion depths"

TEXTS: dict[Objective, ObjectiveText] = {
    "error": ObjectiveText("validation error", "error", "error"),
    "cross_entropy": ObjectiveText("validation cross-entropy", "cross-entropy", "cross_entropy"),
    "depth_error": ObjectiveText(
        f"mean validation error{_OVER_DEPTHS}", "mean error", "depth_error", averaged=_OVER_DEPTHS
    ),
    "flops": ObjectiveText("FLOPs", "FLOPs", "flops"),
    "params": ObjectiveText("parameters", "params", "params"),
    "latency": ObjectiveText("predicted latency", "latency", "latency_ms", 1e-3),
}


def error_text(objectives: Sequence[Objective]) -> ObjectiveText:
    """Returns the text of the error by which a search compares networks."""
    return TEXTS[error_named(objectives)]


def known_values(result: TrialResult, objectives: Sequence[Objective]) -> dict[Objective, float]:
    """Returns the value of every objective that is known of a result, those that are not minimised too.

    The mean over depths is known only if it is an objective: other searches score the shallower depths on fewer images,
    or not at all.
    """
    unknown = set() if "depth_error" in objectives else {"depth_error"}
    if result.target.latency_us is None:
        unknown.add("latency")
    names = [name for name in TEXTS if name not in unknown]
    return dict(zip(names, objective_values(result, names), strict=True))


def metrics_of(result: TrialResult, objectives: Sequence[Objective]) -> dict[str, float]:
    """Returns the known values as trackers get them: errors from 0 to 1, cross-entropy in nats, latency in ms."""
    known = known_values(result, objectives)
    return {TEXTS[name].metric: TEXTS[name].metric_scale * value for name, value in known.items()}
