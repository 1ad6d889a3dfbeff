"""From finished searches and best-known fronts to the figures that are published, and those as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from benchmarks.search.comparison import against, median_interval
from benchmarks.search.metrics import REFERENCE, excess_values, front_of, igd_plus, recommended, regret, regret_curve
from benchmarks.search.problems import Problem
from benchmarks.search.runs import ENTRIES, Line
from sret_nas.arrays import FloatArray
from sret_nas.pareto import hypervolume

FRONTS = "recommended", "estimated"
"""What is handed out where labels are noisy: what looks non-dominated as told, or by the models' estimates."""

OURS = "additive"
"""The strategy that all others are compared with."""

NOTES = (
    "- **Regret**: % of the best-known front's hypervolume that the evaluated networks miss, in the bounds that stand",
    "  above each table; less is better. Medians over seeds, and in brackets the least and the most of all seeds.",
    "- **No figure** at a checkpoint means that until then a method had evaluated its start and decided nothing: see",
    "  `random` and `stratified`, which these starts are.",
    "- **Best-known front**: millions of evaluations of a search made for it alone (`best_known.py`), and everything",
    "  that any strategy evaluated; of tables of trained networks, exact.",
    "- **IGD+** in the same bounds. **Excess**: the best value within a budget less the best known one, median over",
    "  seeds, mean over ten budgets spread evenly over the logarithm of the cost.",
    f"- **{OURS} wins**: seeds with less regret after the last checkpoint. **p**: Wilcoxon's signed-rank test, paired",
    "  by seed, two-sided, after Holm over the other strategies of the problem.",
    "- **Label noise**: strategies are told values with Gaussian noise of that share, the same for a network and seed;",
    "  all figures use true values. **Observed front**: the regret of what looks non-dominated by what was told.",
    "  **Estimated front**: the same by what the strategy's models say these values are without noise.",
    "- **Controls**: shuffled labels say nothing of other networks; planted pairs are products of the choices of",
    "  layers at least three apart, of which nothing is a sum over layers.",
    "- **Tables of trained networks**: what Optuna's samplers suggest is hardly ever listed. The open network that",
    "  differs from it in the fewest choices takes its place, ties broken at random.",
    "- NSGA-II enters with populations of 20 and 50. **ms per ask** includes telling. It is processor time of searches",
    "  since 30 November 2026, and before by the clock of a busy machine.",
)


@dataclass(frozen=True)
class Known:
    """A problem, and its best-known front as rows (value, cost)."""

    problem: Problem
    front: FloatArray

    def normalised(self, rows: FloatArray) -> FloatArray:
        return self.problem.bounds.normalised(rows[:, 0], rows[:, 1])

    @cached_property
    def normalised_front(self) -> FloatArray:
        return front_of(self.normalised(self.front))

    @cached_property
    def best(self) -> float:
        """The front's hypervolume."""
        return hypervolume(self.normalised_front, REFERENCE)

    def extended(self, lines: Iterable[Line]) -> Known:
        """Extends a front with all that searches evaluated: a best-known front can only grow."""
        found = [np.column_stack([line["values"], line["costs"]]) for line in lines]
        return Known(self.problem, front_of(np.vstack([self.front, *found])))

    def curve(self, line: Line) -> FloatArray:
        """Returns the regret of a search after each evaluation."""
        return regret_curve(self.normalised(np.column_stack([line["values"], line["costs"]])), self.best)

    def figures(self, line: Line) -> dict[str, Any]:
        """Returns all figures of one search; those at checkpoints by the number of evaluations."""
        rows = np.column_stack([line["values"], line["costs"]])
        points = self.normalised(rows)
        excess = excess_values(rows[:, 0], rows[:, 1], (self.front[:, 0], self.front[:, 1]), self.problem.bounds.cost)
        figures = {
            "regret": {
                str(number): regret(points[:number], self.best)
                for number in self.problem.checkpoints
                if ENTRIES[line["strategy"]].start < number <= len(points)
            },
            "igd_plus": igd_plus(points, self.normalised_front),
            "excess": excess,
            "best_value": float(rows[:, 0].min()),
            "ms_per_ask": None if line["seconds"] is None else 1000 * line["seconds"] / len(rows),
        }
        if "told" in line:
            kept = recommended(line["told"], line["costs"])
            figures["recommended_regret"] = regret(points[kept], self.best)
        if "estimated" in line:
            kept = recommended(line["estimated"], line["costs"])
            figures["estimated_regret"] = regret(points[kept], self.best)
        return figures


def summarised(known: Known, lines: Mapping[str, Mapping[int, Line]]) -> dict[str, Any]:
    """Returns a problem's part of the result; `lines` by strategy and seed."""
    figures = {
        name: {seed: known.figures(line) for seed, line in by_seed.items()}
        for name, by_seed in lines.items()
        if by_seed
    }
    bounds = known.problem.bounds
    return {
        "title": known.problem.title,
        "objectives": known.problem.objectives,
        "noise": known.problem.noise,
        "bounds": {"value": bounds.value, "cost": bounds.cost, "log_cost": bounds.log_cost},
        "best_known": {
            "networks": len(known.front),
            "hypervolume": known.best,
            "value": float(known.front[:, 0].min()),
        },
        "strategies": {name: _of_strategy(by_seed) for name, by_seed in figures.items()},
        "against": _comparisons(figures, known.problem.checkpoints),
    }


def _of_strategy(by_seed: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
    """Returns medians over seeds, with intervals where they are compared."""
    rows = list(by_seed.values())
    numbers = [number for number in rows[0]["regret"] if all(number in row["regret"] for row in rows)]
    excess = np.array([row["excess"] for row in rows])
    result = {
        "seeds": len(rows),
        "regret": {number: median_interval([row["regret"][number] for row in rows]) for number in numbers},
        "range": {number: _range([row["regret"][number] for row in rows]) for number in numbers},
        "igd_plus": median_interval([row["igd_plus"] for row in rows]),
        "excess_at_budgets": [_finite(value) for value in np.median(excess, axis=0)],
        "best_value": median_interval([row["best_value"] for row in rows]),
        "ms_per_ask": _median([row["ms_per_ask"] for row in rows]),
    }
    if "recommended_regret" in rows[0]:
        told = [row["recommended_regret"] for row in rows]
        result |= {"recommended_regret": median_interval(told), "recommended_range": _range(told)}
    if all("estimated_regret" in row for row in rows):
        estimated = [row["estimated_regret"] for row in rows]
        result |= {"estimated_regret": median_interval(estimated), "estimated_range": _range(estimated)}
    return result


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Returns the least and the most of all seeds."""
    return float(min(values)), float(max(values))


def _finite(value: float) -> float | None:
    """Returns a number; None where nothing known fits the budget (NaN), or most searches found nothing that does
    (infinite)."""
    return float(value) if np.isfinite(value) else None


def _comparisons(figures: Mapping[str, Mapping[int, dict[str, Any]]], checkpoints: tuple[int, ...]) -> dict[str, Any]:
    """Compares ours with the others at every checkpoint; empty without ours."""
    if OURS not in figures:
        return {}
    result = {}
    for number in map(str, checkpoints):
        by_strategy = {
            name: {seed: figure["regret"][number] for seed, figure in by_seed.items() if number in figure["regret"]}
            for name, by_seed in figures.items()
        }
        ours = by_strategy.pop(OURS)
        result[number] = against(ours, by_strategy)
    return result


def markdown(result: Mapping[str, Any]) -> str:
    """Returns the result as Markdown: an overview, then a table per problem."""
    problems = result["problems"]
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    names = list(dict.fromkeys(name for problem in problems.values() for name in problem["strategies"]))
    lines = [
        "# Search strategies compared",
        "",
        f"Generated by `python -m benchmarks.search.run` on {result['date']}, {result['cores']} cores, {versions}.",
        "",
        *NOTES,
        "",
        "## Overview: regret after the last checkpoint",
        "",
        _row("problem", "evaluations", *names),
        _row(*["---"] * (2 + len(names))),
        *(_overview_row(problem, names) for problem in problems.values()),
    ]
    for problem in problems.values():
        lines += ["", *_section(problem)]
    return "\n".join(lines) + "\n"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _overview_row(problem: Mapping[str, Any], names: list[str]) -> str:
    last = _checkpoints(problem)[-1]
    medians = {name: row["regret"][last][0] for name, row in problem["strategies"].items() if last in row["regret"]}
    least = min(medians.values(), default=np.inf)
    cells = [
        "" if name not in medians else f"**{medians[name]:.2f}**" if medians[name] == least else f"{medians[name]:.2f}"
        for name in names
    ]
    return _row(problem["title"], last, *cells)


def _checkpoints(problem: Mapping[str, Any]) -> list[str]:
    numbers = {number for row in problem["strategies"].values() for number in row["regret"]}
    return sorted(numbers, key=int)


def _section(problem: Mapping[str, Any]) -> list[str]:
    """Returns a problem's bounds, and its table: regret with intervals, then what it costs and how it compares."""
    bounds, numbers = problem["bounds"], _checkpoints(problem)
    (value, cost), scale = problem["objectives"], "log " if problem["bounds"]["log_cost"] else ""
    noisy = any("recommended_regret" in row for row in problem["strategies"].values())
    head = [
        "strategy", "seeds", *(f"regret @{number}" for number in numbers),
        *(["observed front", "estimated front"] if noisy else []), "IGD+",
        f"excess {value}", f"best {value}", "ms per ask", f"{OURS} wins", "p (Holm)",
    ]  # fmt: skip
    rows = [
        _row(*_cells(name, row, numbers, problem["against"].get(numbers[-1], {}).get(name), noisy))
        for name, row in problem["strategies"].items()
    ]
    return [
        f"## {problem['title']}",
        "",
        f"{value} {bounds['value'][0]:g} to {bounds['value'][1]:g}, {scale}{cost} {bounds['cost'][0]:,} to "
        f"{bounds['cost'][1]:,}; best-known front: {problem['best_known']['networks']:,} networks, "
        f"hypervolume {problem['best_known']['hypervolume']:.4f}, best {value} {problem['best_known']['value']:.3f}.",
        "",
        _row(*head),
        _row(*["---"] * len(head)),
        *rows,
    ]


def _cells(
    name: str, row: Mapping[str, Any], numbers: list[str], compared: Mapping[str, float] | None, noisy: bool
) -> list[str]:
    excess = [value for value in row["excess_at_budgets"] if value is not None]
    return [
        name,
        str(row["seeds"]),
        *(_with_range(row["regret"].get(number), row["range"].get(number)) for number in numbers),
        *([_with_range(row.get(f"{front}_regret"), row.get(f"{front}_range")) for front in FRONTS] if noisy else []),
        f"{row['igd_plus'][0]:.4f}",
        f"{np.mean(excess):.3f}" if excess else "",
        f"{row['best_value'][0]:.3f}",
        "" if row["ms_per_ask"] is None else f"{row['ms_per_ask']:.1f}",
        "" if compared is None else f"{compared['wins']:.0f} of {compared['seeds']:.0f}",
        "" if compared is None else f"{compared['p_holm']:.2g}",
    ]


def _median(values: Iterable[float | None]) -> float | None:
    """Returns the median of the values that are there."""
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def _with_range(medians: Sequence[float] | None, values: Sequence[float] | None) -> str:
    """Returns a median and a range, e.g. `1.29 (1.10-1.41)`."""
    if medians is None or values is None:
        return ""
    low, high = values
    return f"{medians[0]:.2f} ({low:.2f}-{high:.2f})"
