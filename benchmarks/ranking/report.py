"""From the table and what supernets say of its networks to the figures that are published, also as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.ranking.metrics import (
    FloatArray,
    IntArray,
    cost_bins,
    interval,
    noise_ceiling,
    noise_sd,
    regret_at,
    regret_in_bins,
    resamples,
    tau_b,
    taus,
)
from benchmarks.recorded import Line

METRICS = {"error": ("Error, %", 100, 2), "cross_entropy": ("Cross-entropy, nats", 1, 4)}
"""For each, its heading, the factor by which it is shown, and its digits."""
COSTS = {"flops": "FLOPs alone", "params": "parameters alone"}
BINS = 4
CHOSEN = (1, 5)
"""Networks that a search would train after ranking all: regret is given for each."""

HEAD = (
    "| ranked by | seeds | steps | CPU s | tau | in bins | in widths | regret at 1 | at 5 | in bins "
    "| smallest | largest |",
    f"{'| --- ' * 12}|",
)

HINDSIGHT = "width of stage 1 alone"

NOTES = (
    "- **Tau**: Kendall's tau-b between what a supernet (or a cost alone) says of the networks and what they reach",
    "  when each is trained by itself; with 95 % bootstrap intervals over networks (averaged over seeds, where there",
    f"  are several). **In bins**: over pairs of networks in one of {BINS} bins of FLOPs, so that size helps less.",
    "  **In widths**: over pairs whose first stages are equally wide, which turned out to count most in this space.",
    "- **Regret**: how much worse than the best of all networks the best of the 1 or 5 ranked first is; **in bins**:",
    "  the same for one network chosen in each bin, on average.",
    "- **Smallest, largest**: of the whole space, with inherited weights.",
    "- Supernets in rows without a time were given as many images as take the same time on one idle core; **CPU s** is",
    "  what they took, on a machine that was busy with other things, too.",
    "- **Leading slices**: trained once, with the supernet of revision e0b0e79, whose networks take the first rows and",
    "  columns of its weights, and whose pooling has filters of its own for every ratio of widths.",
    "- **Ema** (decay 0.99), **scale shared** (gradients of shared blocks over their recursions), **alpha divergence**",
    "  (AlphaNet's): did not pay and are gone; they can be trained again with revision e97a8ba.",
    "- **Timm teacher**: soft labels alone, of a ResNet trained on the same images. Its passes count in the time,",
    "  its training does not: ranking_teacher.json says what that took and what it is worth.",
    "- The networks were trained by themselves on 2026-11-30, with today's initialisation, on an AMD EPYC with torch",
    "  2.14.1. So were supernets of **balanced draws**, of that day's draws; with the teacher, of older ones. All",
    "  others are of 2026-11-23, of a slower machine with torch 2.15.0.",
    f"- **{HINDSIGHT}**: what one would rank by, had one known before that it counts most.",
)


@dataclass(frozen=True)
class Table:
    """The networks trained by themselves, in order of FLOPs, each with one line per seed."""

    trainings: tuple[tuple[Line, ...], ...]

    @classmethod
    def of(cls, lines: Iterable[Line]) -> Table:
        by_number: dict[int, list[Line]] = {}
        for line in sorted(lines, key=lambda line: (line["number"], line["seed"])):
            by_number.setdefault(line["number"], []).append(line)
        return cls(tuple(tuple(by_number[number]) for number in sorted(by_number)))

    @property
    def bins(self) -> IntArray:
        return cost_bins(self.cost("flops"), BINS)

    def within(self, flops_max: int) -> Table:
        """Returns the part of it that a budget allows."""
        return Table(tuple(trained for trained in self.trainings if trained[0]["flops"] <= flops_max))

    def cost(self, name: str) -> FloatArray:
        return np.array([trained[0][name] for trained in self.trainings], dtype=np.float64)

    @property
    def first_width(self) -> IntArray:
        """Channels of stage 1."""
        return np.array([trained[0]["architecture"]["stages"][0]["width"] for trained in self.trainings])

    def measured(self, metric: str) -> FloatArray:
        """Returns the mean over a network's seeds."""
        return np.array([np.mean([line[metric] for line in trained]) for trained in self.trainings])

    def twice(self, metric: str) -> FloatArray:
        """Returns the first two results of those that have them, (n, 2)."""
        return np.array([[line[metric] for line in trained[:2]] for trained in self.trainings if len(trained) > 1])


def figures(table: Table, supernets: Iterable[Line]) -> dict[str, Any]:
    """Returns all that is reported, by metric: what noise allows, costs alone, and every supernet."""
    supernets = list(supernets)
    whole = [line for line in supernets if line.get("flops_max") is None]
    return {metric: {"noise": _noise(table, metric), **_compared(table, whole, metric)} for metric in METRICS}


def figures_within(table: Table, supernets: Iterable[Line], flops_max: int) -> dict[str, Any]:
    """Returns the same of the networks inside a budget and the supernets that were trained for it, by error alone."""
    inside = [line for line in supernets if line.get("flops_max") == flops_max]
    few = table.within(flops_max)
    return {"flops_max": flops_max, "networks": len(few.trainings), **_compared(few, inside, "error")}


def _compared(table: Table, supernets: list[Line], metric: str) -> dict[str, Any]:
    """Returns costs alone and every supernet, as they rank a table."""
    return {
        "costs": {name: _ranked(-table.cost(name), table, metric) for name in COSTS},
        "hindsight": _ranked(-table.first_width.astype(np.float64), table, metric),
        "supernets": [
            {
                **{name: line[name] for name in ("variant", "seed", "seconds", "steps", "images", "cpu_seconds")},
                "smallest": line["smallest"][metric],
                "largest": line["largest"][metric],
                **_ranked(np.array([network[metric] for network in line["networks"]]), table, metric),
            }
            for line in supernets
        ],
    }


def _noise(table: Table, metric: str) -> dict[str, float]:
    """Returns how noisy the table is, and what a perfect prediction would reach."""
    twice, measured = table.twice(metric), table.measured(metric)
    noise = noise_sd(twice)
    return {
        "networks_trained_twice": len(twice),
        "tau_between_seeds": tau_b(twice[:, 0], twice[:, 1]),
        "sd_of_a_training": noise,
        "sd_over_networks": float(measured.std()),
        "tau_of_the_truth": noise_ceiling(measured, noise, table.bins, within=False),
        "tau_of_the_truth_in_bins": noise_ceiling(measured, noise, table.bins, within=True),
        "tau_of_the_truth_in_widths": noise_ceiling(measured, noise, table.first_width, within=True),
    }


def _ranked(predicted: FloatArray, table: Table, metric: str) -> dict[str, Any]:
    """Returns how well a prediction, less being better, ranks the table; its lead over costs alone, inside bins."""
    measured, bins = table.measured(metric), table.bins
    samples = resamples(len(measured))

    def in_bins(row: FloatArray) -> FloatArray:
        return taus(row, measured, samples, bins)

    return {
        "tau": tau_b(predicted, measured),
        "tau_interval": interval(taus(predicted, measured, samples)),
        "tau_in_bins": tau_b(predicted, measured, bins),
        "tau_in_bins_interval": interval(in_bins(predicted)),
        "tau_in_widths": _known(tau_b(predicted, measured, table.first_width)),
        **{
            f"lead_over_{name}_in_bins_interval": interval(in_bins(predicted) - in_bins(-table.cost(name)))
            for name in COSTS
        },
        **{f"regret_at_{chosen}": regret_at(predicted, measured, chosen) for chosen in CHOSEN},
        "regret_in_bins": regret_in_bins(predicted, measured, bins),
    }


def _known(value: float) -> float | None:
    """Returns a number; None for NaN, which JSON does not have."""
    return value if np.isfinite(value) else None


def groups_of(lines: Iterable[Line], seconds: int) -> list[tuple[str, list[Line]]]:
    """Returns supernets of a time by their variant, in the order in which variants first occur."""
    groups: dict[str, list[Line]] = {}
    for line in lines:
        if line["seconds"] == seconds:
            groups.setdefault(line["variant"], []).append(line)
    return list(groups.items())


def markdown(result: Mapping[str, Any], seconds: int) -> str:
    """Returns the report; `seconds` is the time of the supernets that are compared."""
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    lines = [
        "# Does inherited accuracy rank networks as training each by itself does?",
        "",
        f"`python -m benchmarks.ranking.run`, {result['date']}, {result['cores']} cores, {versions}.",
        "",
        *NOTES,
    ]
    for metric in METRICS:
        lines += ["", f"## {METRICS[metric][0]}", "", *_tables(result[metric], metric, seconds)]
    lines += ["", *_tight(result["within_budget"])]
    return "\n".join(lines) + "\n"


def _tables(result: Mapping[str, Any], metric: str, seconds: int) -> list[str]:
    noise = result["noise"]
    _, factor, digits = METRICS[metric]
    others = sorted({line["seconds"] for line in result["supernets"]} - {seconds})
    times = [(f"{name}, {time} s", group) for time in others for name, group in groups_of(result["supernets"], time)]
    costs = [(title, [result["costs"][name]]) for name, title in COSTS.items()]
    rows = [*groups_of(result["supernets"], seconds), *times, *costs, (HINDSIGHT, [result["hindsight"]])]
    return [
        f"Standard deviation over networks {factor * noise['sd_over_networks']:.{digits}f}; of one training, from "
        f"{noise['networks_trained_twice']} trained twice, {factor * noise['sd_of_a_training']:.{digits}f}. Their two "
        f"trainings rank them with tau {noise['tau_between_seeds']:.2f}; a perfect prediction would reach "
        f"{noise['tau_of_the_truth']:.2f} overall, {noise['tau_of_the_truth_in_bins']:.2f} inside bins and "
        f"{noise['tau_of_the_truth_in_widths']:.2f} inside widths.",
        "",
        *HEAD,
        *(_row(name, group, factor, digits) for name, group in rows),
    ]


def _tight(result: Mapping[str, Any]) -> list[str]:
    """Returns supernets that were trained inside a budget, as they rank the networks that it allows."""
    _, factor, digits = METRICS["error"]
    rows = [(f"{line['variant']}, {line['seconds']} s", [line]) for line in result["supernets"]]
    rows += [(title, [result["costs"][name]]) for name, title in COSTS.items()]
    return [
        f"## Error, %: inside a budget of {result['flops_max'] / 1e6:g} M FLOPs",
        "",
        f"The {result['networks']} networks that meet it, by supernets of what it allows. Most of that is narrow, so "
        "spreading draws over",
        "cost alone trains wide stages hardly ever. Smallest and largest are of the budget.",
        "",
        *HEAD,
        *(_row(name, group, factor, digits) for name, group in rows),
    ]


def _row(name: str, lines: list[Line], factor: float, digits: int) -> str:
    """Returns means over seeds."""

    def mean(key: str, digits: int = 0, factor: float = 1) -> str:
        values = [line[key] for line in lines if line.get(key) is not None]
        return f"{factor * np.mean(values):,.{digits}f}" if values else ""

    def tau(key: str) -> str:
        low, high = np.mean([line[f"{key}_interval"] for line in lines], axis=0)
        return f"{mean(key, 2)} ({low:.2f} to {high:.2f})"

    regrets = [*(f"regret_at_{chosen}" for chosen in CHOSEN), "regret_in_bins"]
    cells = [
        name, str(len(lines)) if "seed" in lines[0] else "", mean("steps"), mean("cpu_seconds"),
        tau("tau"), tau("tau_in_bins"), mean("tau_in_widths", 2),
        *(mean(key, digits, factor) for key in (*regrets, "smallest", "largest")),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"
