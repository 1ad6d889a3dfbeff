"""How additive recursive networks are: models of `train_table.py`'s table, judged on what they have not seen.

    python -m benchmarks.recursion.additivity

For several numbers of labels, networks are split at random into labelled and unseen ones. Models: FLOPs alone and
parameters alone (which rank, and predict by a line through the labels), the trend in the costs, single effects, and
single effects with pairs. The ceiling is what a second training of the same networks says of the first. Writes
results/recursion_additivity.json and .png.
"""

from __future__ import annotations

import json
from typing import Any

import matplotlib
import numpy as np
from scipy.stats import kendalltau
from threadpoolctl import threadpool_limits

from sret_nas.arch.config import ArchConfig
from sret_nas.arrays import FloatArray, IntArray
from sret_nas.space.chain import chain_of
from sret_nas.space.choice_costs import choice_costs_of
from sret_nas.space.search_space import SearchSpace
from sret_nas.surrogate.features import EffectTerms
from sret_nas.surrogate.model import Surrogate

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from benchmarks.machine import describe_machine
from benchmarks.recorded import RESULTS, Line, read_lines

SPACE = SearchSpace.load("sret_tiny")
CHAIN = chain_of(SPACE)
SPLITS = 100
LABELS = (10, 20, 30, 40)
MODELS = ("FLOPs", "parameters", "trend", "single effects", "with pairs")
METRICS = ("cross_entropy", "error")


def read_table() -> list[Line]:
    """Returns the lines of the table, without its header."""
    return read_lines(RESULTS / "recursion_table.jsonl")


def predictions(model: str, points: IntArray, values: FloatArray, unseen: IntArray) -> FloatArray:
    """Returns what a model fitted to labelled points predicts of unseen ones."""
    costs, unseen_costs = (CHAIN.costs(table).astype(float) for table in (points, unseen))
    if model in ("FLOPs", "parameters"):
        column = ("FLOPs", "parameters").index(model)
        slope, offset = np.polyfit(np.log(costs[:, column]), values, 1)
        line: FloatArray = slope * np.log(unseen_costs[:, column]) + offset
        return line
    terms = EffectTerms(CHAIN, has_pairs=model == "with pairs")
    fit = Surrogate(terms, points, costs, values, (0,), is_additive=model != "trend")
    return fit.predict(unseen, unseen_costs, fit.mean_weights)[:, 0]


def judged(points: IntArray, values: FloatArray, num_labels: int) -> dict[str, dict[str, list[float]]]:
    """Returns R2 and Kendall's tau of every model on unseen networks: median and the middle half over random splits."""
    rng = np.random.default_rng(num_labels)
    scores: dict[str, list[tuple[float, float]]] = {model: [] for model in MODELS}
    for _ in range(SPLITS):
        order = rng.permutation(len(points))
        known, unseen = order[:num_labels], order[num_labels:]
        for model in MODELS:
            predicted = predictions(model, points[known], values[known], points[unseen])
            error = np.sum((predicted - values[unseen]) ** 2) / np.sum((values[unseen] - values[unseen].mean()) ** 2)
            scores[model].append((1 - error, kendalltau(predicted, values[unseen]).statistic))
    quartiles = {model: np.percentile(found, [25, 50, 75], axis=0).round(3) for model, found in scores.items()}
    return {model: {"r2": table[:, 0].tolist(), "tau": table[:, 1].tolist()} for model, table in quartiles.items()}


def ceiling(lines: list[Line], metric: str) -> dict[str, float]:
    """Returns what the networks that were trained twice say of their noise."""
    first = {line["number"]: line[metric] for line in lines if line["seed"] == 0}
    second = {line["number"]: line[metric] for line in lines if line["seed"] == 1}
    both = np.array([(first[number], second[number]) for number in sorted(second)])
    noise = float(np.sqrt(np.mean((both[:, 0] - both[:, 1]) ** 2) / 2))
    spread = float(np.std(list(first.values())))
    return {
        "networks_trained_twice": len(both),
        "tau_between_seeds": round(float(kendalltau(both[:, 0], both[:, 1]).statistic), 3),
        "noise_sd": round(noise, 5),
        "sd_over_networks": round(spread, 5),
        "largest_r2_that_noise_allows": round(1 - noise**2 / spread**2, 3),
    }


def draw(result: dict[str, Any]) -> None:
    """Draws tau and R2 against the number of labels, one panel per score and metric."""
    figure, panels = plt.subplots(2, 2, figsize=(9, 6.5), sharex=True)
    for row, metric in zip(panels, METRICS, strict=True):
        for panel, score in zip(row, ("tau", "r2"), strict=True):
            for model in MODELS:
                table = np.array([result[metric]["labels"][str(number)][model][score] for number in LABELS])
                (line,) = panel.plot(LABELS, table[:, 1], marker="o", label=model)
                panel.fill_between(LABELS, table[:, 0], table[:, 2], color=line.get_color(), alpha=0.12)
            name = "tau_between_seeds" if score == "tau" else "largest_r2_that_noise_allows"
            panel.axhline(result[metric]["ceiling"][name], color="black", linestyle=":", label="a second training")
            panel.set_ylim(bottom=-0.1, top=1)
            panel.set_title(
                f"{metric.replace('_', '-')}: {'Kendall tau' if score == 'tau' else 'R2'} on unseen networks"
            )
            panel.grid(alpha=0.3)
    for panel in panels[1]:
        panel.set_xlabel("labelled networks")
    panels[0, 0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(RESULTS / "recursion_additivity.png", dpi=110)


def main() -> None:
    lines = read_table()
    table = [line for line in lines if line["seed"] == 0]
    costs = choice_costs_of(SPACE)
    points = np.array([costs.choices(SPACE, ArchConfig.from_dict(line["architecture"])) for line in table])
    result: dict[str, Any] = {**describe_machine("numpy", "scipy"), "networks": len(table), "splits": SPLITS}
    with threadpool_limits(1):
        for metric in METRICS:
            values = np.array([line[metric] for line in table])
            result[metric] = {
                "ceiling": ceiling(lines, metric),
                "tau_of_flops": round(-float(kendalltau([line["flops"] for line in table], values).statistic), 3),
                "tau_of_params": round(-float(kendalltau([line["params"] for line in table], values).statistic), 3),
                "labels": {str(number): judged(points, values, number) for number in LABELS},
            }
    (RESULTS / "recursion_additivity.json").write_text(json.dumps(result, indent=1) + "\n")
    draw(result)
    for metric in METRICS:
        print(metric, result[metric]["ceiling"])
        for number in LABELS:
            scores = result[metric]["labels"][str(number)]
            print(f"  {number} labels:", {name: (score["r2"][1], score["tau"][1]) for name, score in scores.items()})


if __name__ == "__main__":
    main()
