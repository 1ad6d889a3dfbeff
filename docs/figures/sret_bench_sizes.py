"""What SReT-Bench says of size, in docs/sret-bench.md."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from docs.figures.tables import load, table


def sizes_table() -> str:
    """Returns by how much errors change with size, after short and after long trainings, on each set of images."""
    found = load("sret_bench_sizes")
    rows = [
        (each["images"], each["structure"], f"{len(each['flops'])}", f"{int(length):,}", *_percent(slope))
        for each in found["sizes"]
        for length, slope in each["slopes"].items()
    ]
    rows.append(
        ("ImageNet, published", "SReT-T and SReT-S", "2", "300 epochs", f"{found['slopes']['ImageNet']:+.1f} %", "")
    )
    return table(["images", "structure", "networks", "training", "error per doubling of FLOPs", "95 % interval"], rows)


def _percent(slope: dict[str, Any]) -> tuple[str, str]:
    low, high = slope["interval"]
    return f"{slope['percent']:+.1f} %", f"{low:+.1f} to {high:+.1f} %"


def size_rules_table() -> str:
    """Returns what rules that choose a size cost, in points of error after long training."""
    found = load("sret_bench_sizes")["sizes"]
    shown_rows = [each for each in found if each["structure"] == "best"]
    rows = [
        (rule, *(f"{each['regret'][rule]['mean']:.2f} ({each['regret'][rule]['most']:.2f})" for each in shown_rows))
        for rule in shown_rows[0]["regret"]
    ]
    return table(["rule", *(each["images"] for each in shown_rows)], rows)


FIGURES: dict[str, Callable[[], str]] = {
    "sret-bench-size-rules": size_rules_table,
    "sret-bench-sizes": sizes_table,
}
"""The parts by the names that markers use."""
