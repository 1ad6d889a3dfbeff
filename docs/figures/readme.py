"""The figures of the README."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from docs.figures.strategies import regret_of
from docs.figures.tables import load, table


def readme_figures() -> str:
    """Returns the three figures of the README."""
    cases = {case["budget"]: case for case in load("feasible")["cases"]}
    whole = cases["at most 1 G FLOPs"]
    entries = load("end_to_end")["entries"]
    fifth, nsga2 = (
        median(run["hypervolume"] for run in entries[name]["runs"])
        for name in ("supernet and additive, a fifth of the time", "NSGA-II, from scratch")
    )
    seconds = [
        entries[name]["seconds"] for name in ("supernet and additive, a fifth of the time", "NSGA-II, from scratch")
    ]
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
            f"CIFAR-10: hypervolume of a search of {seconds[0]:.0f} s, all included; of NSGA-II in {seconds[1]:.0f} s",
            f"{fifth:.3f}; {nsga2:.3f}",
            "[whole searches](docs/results.md#whole-searches-at-equal-time)",
        ),
    ]  # fmt: skip
    return table(["measured", "", "more"], rows)


FIGURES: dict[str, Callable[[], str]] = {
    "readme-figures": readme_figures,
}
"""The parts by the names that markers use."""
