"""The figures of the README."""

from __future__ import annotations

from collections.abc import Callable

from docs.figures.strategies import regret_of
from docs.figures.tables import load, table


def readme_figures() -> str:
    """Returns the three figures of the README."""
    cases = {case["budget"]: case for case in load("feasible")["cases"]}
    whole = cases["at most 1 G FLOPs"]
    gain = load("sret_bench")["structures"]["middling less best"]
    low, high = (100 * bound for bound in gain["interval"])
    rows = [
        (
            f"Networks of `sret_tiny` within 1 GFLOPs, counted in {whole['count_seconds']:.1f} s",
            f"{whole['inside']:,}",
            "[exact counts](docs/results.md#cost-counts-and-draws)",
        ),
        (
            "HW-GPT M, 200 networks: regret of `additive`; of `stratified`, which learns nothing; of Optuna's TPE",
            "; ".join(f"{regret_of('hwgpt-m', name, '200')} %" for name in ("additive", "stratified", "tpe")),
            "[strategies](docs/results.md#strategies)",
        ),
        (
            "Long trainings at equal FLOPs: error of a middling structure, less that of the best by a supernet",
            f"{100 * gain['value']:.1f} ({low:.1f} to {high:.1f}) points; {gain['better']} of {gain['n']} pairs",
            "[SReT-Bench](docs/sret-bench.md)",
        ),
    ]  # fmt: skip
    return table(["measured", "found", "more"], rows)


FIGURES: dict[str, Callable[[], str]] = {
    "readme-figures": readme_figures,
}
"""The parts by the names that markers use."""
