"""The figures of the comparison of strategies: their regret on problems of which everything is known."""

from __future__ import annotations

from collections.abc import Callable

from docs.figures.tables import load, table
from sret_nas.plurals import counted

MIN_SEEDS = 5
"""Fewest seeds of a median that may be called the lowest."""
USUAL_SEEDS = 20
"""Seeds of a strategy in the comparison, where a table does not say otherwise."""


OURS = "additive", "additive-before"
"""The names of our strategy, the present one first."""
LEFT_OUT = ("nsga2-50",)
"""Strategies that the table has no room for. They are in search.md, as all are."""


def regret_of(problem: str, strategy: str, number: str, has_range: bool = True) -> str:
    """Returns median and range over seeds, e.g. `0.53 (0.41-0.70)`; the number of seeds if it is not the usual one.

    Args:
        problem: The key of a problem.
        strategy: The name of a strategy.
        number: Evaluations.
        has_range: Whether the range is wanted: a table of many columns has no room for it.

    Empty where the strategy has no result, or has decided nothing of its own before that many evaluations.
    """
    found = load("search")["problems"][problem]["strategies"].get(strategy)
    if found is None or number not in found["regret"]:
        return ""
    low, high = found["range"][number]
    notes = [f"{low:.2f}-{high:.2f}"] if has_range and found["seeds"] > 1 else []
    if found["seeds"] != USUAL_SEEDS:
        notes.append(counted(found["seeds"], "seed"))
    return f"{found['regret'][number][0]:.2f}" + (f" ({', '.join(notes)})" if notes else "")


def median_regret(problem: str, strategy: str, number: str) -> float:
    """Returns the median regret; infinite where there is none, or of fewer than `MIN_SEEDS` seeds."""
    found = load("search")["problems"][problem]["strategies"].get(strategy)
    if found is None or found["seeds"] < MIN_SEEDS:
        return float("inf")
    return float(found["regret"].get(number, (float("inf"),))[0])


def strategies_table() -> str:
    """Returns the regret of most strategies at the last checkpoint of every problem; the least median is bold."""
    problems = load("search")["problems"]
    run = dict.fromkeys(name for problem in problems.values() for name in problem["strategies"])
    names = [OURS[0], *(name for name in reversed(run) if name not in (*LEFT_OUT, *OURS)), OURS[1]]
    rows = []
    for key, problem in problems.items():
        last = max((number for found in problem["strategies"].values() for number in found["regret"]), key=int)
        least = min(round(median_regret(key, name, last), 2) for name in names)
        cells = [regret_of(key, name, last, has_range=False) for name in names]
        is_least = [round(median_regret(key, name, last), 2) == least for name in names]
        shown = [f"**{cell}**" if bold else cell for cell, bold in zip(cells, is_least, strict=True)]
        rows.append([f"{problem['title']}; {last}", *shown])
    return table(["problem; evaluations", *names], rows)


def strategies_ranges() -> str:
    """Returns, for every problem, the regret of ours and of the best other strategy, with ranges over seeds."""
    problems = load("search")["problems"]
    rows = []
    for key, problem in problems.items():
        last = max((number for found in problem["strategies"].values() for number in found["regret"]), key=int)
        ours = next(name for name in OURS if median_regret(key, name, last) < float("inf"))
        others = [name for name in problem["strategies"] if name not in OURS]
        best = min(others, key=lambda name: median_regret(key, name, last))
        rows.append([problem["title"], last, ours, regret_of(key, ours, last), best, regret_of(key, best, last)])
    return table(["problem", "evaluations", "ours", "regret", "best other", "regret"], rows)


def regret_by_evaluations() -> str:
    """Returns the regret on the three HW-GPT spaces after 20, 50, 100 and 200 evaluations, and seconds of asking."""
    problems = load("search")["problems"]
    numbers = ("20", "50", "100", "200")
    rows = []
    for name in ("hwgpt-s", "hwgpt-m", "hwgpt-l"):
        for strategy, found in problems[name]["strategies"].items():
            cells = [regret_of(name, strategy, number) for number in numbers]
            rows.append(
                [
                    problems[name]["title"].replace(" ", "&nbsp;"),
                    strategy,
                    *cells,
                    "" if found["ms_per_ask"] is None else f"{found['ms_per_ask'] / 1000:.2g} s",
                ]
            )
    return table(["space", "strategy", *(f"after {number}" for number in numbers), "asking, per trial"], rows)


FIGURES: dict[str, Callable[[], str]] = {
    "strategies-table": strategies_table,
    "strategies-ranges": strategies_ranges,
    "regret-by-evaluations": regret_by_evaluations,
}
"""The parts by the names that markers use."""
