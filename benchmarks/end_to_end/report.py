"""Figures, a table and a picture from the searches and trainings on record."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

import matplotlib

from benchmarks.end_to_end.setting import (
    ADDITIVE,
    BUDGET,
    BUDGETS,
    ENTRIES,
    NSGA2,
    POPULATION,
    PROXY,
    RANDOM,
    SCORED_IMAGES,
    SEEDS,
    STANDALONE,
)
from benchmarks.end_to_end.standalone import arch_of, recommended
from sret_nas.pareto import hypervolume
from sret_nas.quantities import format_quantity

matplotlib.use("Agg")
from matplotlib import pyplot as plt

Line = dict[str, Any]
WORST = 0.65
"""Test error of the hypervolume's reference point, and what counts where nothing was found."""
AIM = (RANDOM.name, NSGA2.name)
OTHERS = (*AIM, ADDITIVE.name)
"""What the others are compared with; the last tells what the supernet adds to its strategy."""


def figures(searches: list[Line], trainings: list[Line]) -> Line:
    """Returns, for every entry and seed, test errors at the budgets, hypervolume, and how much was evaluated.

    Entries that were not run with all seeds are left out.
    """
    tested = {(line["arch_id"], line["seed"]): line for line in trainings}
    entries = {}
    for entry in ENTRIES:
        of_entry = [search for search in searches if search["entry"] == entry.name]
        if len(of_entry) == SEEDS:
            runs = [_run(search, tested) for search in of_entry]
            entries[entry.name] = {"seconds": entry.seconds, "runs": sorted(runs, key=lambda run: int(run["seed"]))}
    return {
        "entries": entries, "budgets": list(BUDGETS), "seeds": SEEDS, "proxy_images": PROXY.training.images,
        "standalone_images": STANDALONE.images, "scored_images": SCORED_IMAGES,
        "core_seconds_of_trainings": round(sum(line["seconds"] for line in trainings)),
    }  # fmt: skip


def _run(search: Line, tested: dict[tuple[str, int], Line]) -> Line:
    found = []
    for trial in recommended(search):
        line = None if trial is None else tested[arch_of(trial).arch_id, search["seed"]]
        found.append(None if line is None else {"flops": line["flops"], "test_error": line["test_error"]})
    return {
        "seed": search["seed"], "networks": len(search["trials"]), "supernet": search.get("supernet"),
        "recommended": found, "hypervolume": round(front_volume(found), 5),
        "mean_test_error": round(fmean(WORST if line is None else line["test_error"] for line in found), 5),
    }  # fmt: skip


def front_volume(found: list[Line | None]) -> float:
    """Returns hypervolume in test error and the logarithm of FLOPs, as a share of the box down to no error, of the
    cheapest budget's half to the largest budget."""
    low, high = math.log(BUDGETS[0] / 2), math.log(BUDGETS[-1])
    points = [
        (line["test_error"] / WORST, (math.log(line["flops"]) - low) / (high - low))
        for line in found
        if line is not None
    ]
    return hypervolume(points, (1.0, 1.0)) if points else 0.0


def markdown(result: Line, *, is_again: bool = False) -> str:
    command = "python -m benchmarks.end_to_end.run" + " --again" * is_again
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    rows = [_row(name, entry) for name, entry in result["entries"].items()]
    budgets = [f"at {format_quantity(budget)}" for budget in result["budgets"]]
    head = ["search", "core s", "networks seen", "hypervolume", "mean test error, %", *budgets]
    return "\n".join(
        [
            "# Which search finds better networks in the same time?",
            "",
            f"`{command}`, {result['date']}, {result['cores']} cores, {versions}.",
            "",
            "CIFAR-10 at 24 px, the space of `benchmarks/ranking`, FLOPs at most "
            f"{format_quantity(BUDGET.flops_max or 0)}; {result['seeds']} seeds. Time is processor time of one",
            "core and counts everything: asking, trials, the supernet's training and the measuring for its plan.",
            "",
            f"- **From scratch**: every trial trains its network on {result['proxy_images']:,} images.",
            "- **Supernet and additive**: three quarters of the time train a supernet; then networks are scored on "
            f"{result['scored_images']:,}",
            "  validation images with what they inherit.",
            *(
                [
                    "- **Supernet for a fifth, then from scratch**: the networks that the first search recommends, and "
                    "others of its front,",
                    f"  {POPULATION} together, are the first that the second trains from scratch.",
                ]
                if is_again
                else []
            ),
            f"- For each of {len(BUDGETS)} budgets of FLOPs a search recommends as the tool does: the best structure",
            "  by a model of its trials, evaluated in the search's time. Each network is trained from scratch on",
            f"  {result['standalone_images']:,} images, alike for all searches, and tested on the test part, which no "
            "search saw. Test errors",
            "  are of those trainings;",
            f"  {WORST:.0%} stands for no network found within a budget; uniform draws hardly ever are cheap.",
            f"- **Hypervolume**: of the recommended networks in test error (up to {WORST:.0%}) and log FLOPs, as a "
            "share of its box.",
            "- Hypervolumes and errors at budgets are medians over seeds; of mean errors it is the mean.",
            "",
            "| " + " | ".join(head) + " |",
            "| " + " | ".join("---" for _ in head) + " |",
            *("| " + " | ".join(row) + " |" for row in rows),
            "",
            "## Seed by seed: hypervolume minus that of the other with the same seed",
            "",
            *_comparisons(result),
            "",
        ]
    )


def _row(name: str, entry: Line) -> list[str]:
    runs = entry["runs"]
    volumes = [run["hypervolume"] for run in runs]
    at = [f"{median(_errors_at(entry, k)):.1f}" for k in range(len(BUDGETS))]
    networks = median(run["networks"] for run in runs)
    errors = [100 * run["mean_test_error"] for run in runs]
    return [
        name, f"{entry['seconds']:.0f}", f"{networks:.0f}",
        f"{median(volumes):.4f} ({min(volumes):.4f} to {max(volumes):.4f})",
        f"{fmean(errors):.2f} ± {stdev(errors):.2f}", *at,
    ]  # fmt: skip


def _errors_at(entry: Line, k: int) -> list[float]:
    """Returns test errors, in %, of the networks recommended for a budget, one per seed."""
    found = [run["recommended"][k] for run in entry["runs"]]
    return [100 * (WORST if line is None else line["test_error"]) for line in found]


def _comparisons(result: Line) -> list[str]:
    entries = result["entries"]
    lines = []
    for name in (name for name in entries if name not in AIM):
        for other in (other for other in OTHERS if other in entries and other != name):
            pairs = zip(entries[name]["runs"], entries[other]["runs"], strict=True)
            gains = [mine["hypervolume"] - theirs["hypervolume"] for mine, theirs in pairs]
            shown = ", ".join(f"{gain:+.4f}" for gain in gains)
            better = sum(gain > 0 for gain in gains)
            lines.append(f"- {name} against {other}: {shown}; better in {better} of {len(gains)}")
    return lines


def draw(path: Path, result: Line) -> None:
    """Draws test errors at each budget, a line per search (median) in a band (range over seeds)."""
    figure, panel = plt.subplots(figsize=(7.5, 4.5))
    for (name, entry), marker in zip(result["entries"].items(), "osD^v", strict=False):
        errors = [
            [
                100 * (WORST if run["recommended"][k] is None else run["recommended"][k]["test_error"])
                for run in entry["runs"]
            ]
            for k in range(len(BUDGETS))
        ]
        (line,) = panel.plot(
            BUDGETS, [median(at) for at in errors], marker=marker, label=f"{name}, {entry['seconds']:.0f} s"
        )
        panel.fill_between(
            BUDGETS, [min(at) for at in errors], [max(at) for at in errors], color=line.get_color(), alpha=0.12
        )
    panel.set_xscale("log")
    panel.set_xticks(BUDGETS, [format_quantity(budget) for budget in BUDGETS])
    panel.minorticks_off()
    panel.set_title(f"{WORST:.0%} stands for no network found within the budget; bands: all seeds", fontsize=9)
    panel.set_xlabel("FLOPs budget")
    panel.set_ylabel("test error of the recommended network, %")
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
