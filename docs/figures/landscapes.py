"""The figures of docs/landscapes.md: what was measured of the networks of the study `deep`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from docs.figures.tables import load, table


def deep_landscape_table() -> str:
    """Returns error, loss, width and sharpness of each network, for both losses."""
    found = load("landscape_deep")
    errors = {network["name"]: network["test_error"] for network in found["networks"]}
    header = ("network", "test error", "loss", "nats at the network", "width", "sharpness")
    return table(header, [_row(one, errors[one["network"]]) for one in found["landscapes"]])


def _row(landscape: dict[str, Any], error: float) -> tuple[str, ...]:
    basin = landscape["basin"]
    width = f"{'≥ ' if basin['is_wider'] else ''}{basin['mean_width']:.2f}"
    if basin["std_width"] > 0:  # else the loss doubles in no direction
        width += f" ± {basin['std_width']:.2f}"
    sharpness = f"{basin['mean_sharpness']:.1f} ± {basin['std_sharpness']:.1f}"
    return landscape["network"], f"{error:.1%}", landscape["loss"], f"{landscape['centre']:.3f}", width, sharpness


FIGURES: dict[str, Callable[[], str]] = {"deep-landscape-table": deep_landscape_table}
"""The parts by the names that markers use."""
