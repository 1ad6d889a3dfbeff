"""How well other ways of scoring rank the networks of the table, from the committed results alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.machine import describe_machine
from benchmarks.ranking.metrics import interval, resamples, tau_b, taus
from benchmarks.ranking.report import BINS, HINDSIGHT, Table
from benchmarks.ranking.run import SUPERNETS, TABLE
from benchmarks.ranking.supernets import SCORED_IMAGES
from benchmarks.recorded import RESULTS, Line, read_lines
from sret_nas.files import write_atomically

SCORINGS = RESULTS / "ranking_scorings.jsonl"
USUAL = f"error, {SCORED_IMAGES:,} images"
"""The way of the other tables."""
USUAL_ENTROPY = f"cross-entropy, {SCORED_IMAGES:,} images"
KEYS = ("variant", "seed", "seconds")
"""What names a supernet."""
UNUSABLE = "leading slices"
"""A variant that ranks no better than chance."""
CORRECTED = ("single", "balanced draws")
"""Variants whose errors are corrected by trained networks."""
TRAINED_FOR_CORRECTION = 8
CORRECTIONS = 300
RIDGE = 0.3


def key_of(line: Line) -> tuple[Any, ...]:
    return tuple(line[key] for key in KEYS)


def figures(table: Table, lines: Sequence[Line]) -> dict[str, Any]:
    """Returns how every way ranks the table by its errors, for each supernet, and its lead over the usual one."""
    measured, bins, widths = table.measured("error"), table.bins, table.first_width
    samples = resamples(len(measured))
    groups = {"": None, "_in_bins": bins, "_in_widths": widths}
    rows = []
    for line in lines:
        scored = np.array(line["networks"])
        usual = next(
            np.array(other["networks"]) for other in lines if other["way"] == USUAL and key_of(other) == key_of(line)
        )
        row: dict[str, Any] = {
            **{key: line[key] for key in (*KEYS, "way", "cpu_seconds")},
            "mean": float(scored.mean()),
        }
        for name, inside in groups.items():
            drawn = taus(scored, measured, samples, inside)
            row |= {
                f"tau{name}": tau_b(scored, measured, inside),
                f"tau{name}_interval": interval(drawn),
                f"lead{name}_interval": interval(drawn - taus(usual, measured, samples, inside)),
            }
        rows.append(row)
    return {"ways": rows, "hindsight_tau": tau_b(-widths.astype(np.float64), measured)}


def agreement(table: Table, supernets: Sequence[Line]) -> list[dict[str, Any]]:
    """Returns how well the first two supernets of a variant agree inside widths, and their mean with the truth."""
    by_key: dict[tuple[str, int], list[Line]] = {}
    for line in sorted(supernets, key=lambda line: int(line["seed"])):
        if line.get("flops_max") is None:
            by_key.setdefault((line["variant"], line["seconds"]), []).append(line)
    found = []
    for (variant, seconds), lines in by_key.items():
        if len(lines) < 2:
            continue
        row: dict[str, Any] = {"variant": variant, "seconds": seconds, "seeds": [line["seed"] for line in lines[:2]]}
        for metric in ("error", "cross_entropy"):
            first, second = (np.array([network[metric] for network in line["networks"]]) for line in lines[:2])
            row[f"{metric}_agreement"] = tau_b(first, second, table.first_width)
            row[f"{metric}_truth"] = tau_b(first + second, table.measured("error"), table.first_width)
        found.append(row)
    return found


def as_supernets(lines: Sequence[Line]) -> list[Line]:
    """Returns the supernets that were scored here, each as a line of the other tables: trainings of their own."""
    ways = {(*key_of(line), line["way"]): line["networks"] for line in lines}
    return [
        {
            **dict(zip(KEYS, key, strict=True)),
            "networks": [
                {"error": error, "cross_entropy": entropy}
                for error, entropy in zip(ways[*key, USUAL], ways[*key, USUAL_ENTROPY], strict=True)
            ],
        }
        for key in dict.fromkeys(key_of(line) for line in lines)
    ]


def error_or_entropy(table: Table, supernets: Sequence[Line]) -> list[dict[str, Any]]:
    """Returns the mean taus of inherited errors, and of inherited cross-entropies, with the errors of the table, by
    seconds.

    The lead of cross-entropy has an interval of a bootstrap over networks: all supernets rank the same ones.
    """
    measured, samples = table.measured("error"), resamples(len(table.trainings))
    groups = {"tau": None, "tau_in_bins": table.bins, "tau_in_widths": table.first_width}
    whole = [line for line in supernets if line.get("flops_max") is None and line["variant"] != UNUSABLE]
    found = []
    for seconds in sorted({line["seconds"] for line in whole}):
        lines = [line for line in whole if line["seconds"] == seconds]
        row: dict[str, Any] = {"seconds": seconds, "supernets": len(lines)}
        for name, inside in groups.items():
            drawn = {}
            for metric in ("error", "cross_entropy"):
                rows = [np.array([network[metric] for network in line["networks"]]) for line in lines]
                row[f"{metric}_{name}"] = float(np.mean([tau_b(scored, measured, inside) for scored in rows]))
                drawn[metric] = np.mean([taus(scored, measured, samples, inside) for scored in rows], axis=0)
            row[f"lead_{name}_interval"] = interval(drawn["cross_entropy"] - drawn["error"])
        found.append(row)
    return found


def corrected(table: Table, supernets: Sequence[Line]) -> list[dict[str, Any]]:
    """Returns what inherited errors rank when a few networks of the table, trained by themselves, correct them.

    A ridge regression of their errors, on the inherited error alone or with width and FLOPs as well, predicts the
    others: mean taus of those others, over draws of which are trained.
    """
    measured, widths, bins = table.measured("error"), table.first_width, table.bins
    slopes = {"width of stage 1": widths.astype(np.float64), "FLOPs": np.log(table.cost("flops"))}
    rng = np.random.default_rng(0)
    orders = [rng.permutation(len(measured)) for _ in range(CORRECTIONS)]
    found = []
    for line in supernets:
        if line.get("flops_max") is not None or line["variant"] not in CORRECTED:
            continue
        inherited = {"inherited error": np.array([network["error"] for network in line["networks"]])}
        for columns in (inherited, {**inherited, **slopes}, slopes):
            features = np.stack([(column - column.mean()) / column.std() for column in columns.values()], axis=1)
            features = np.insert(features, 0, 1, axis=1)
            drawn = []
            for order in orders:
                trained, left = order[:TRAINED_FOR_CORRECTION], order[TRAINED_FOR_CORRECTION:]
                penalty = RIDGE * np.diag([0.0] + [1.0] * len(columns))
                gram = features[trained].T @ features[trained] + penalty
                predicted = features[left] @ np.linalg.solve(gram, features[trained].T @ measured[trained])
                drawn.append([tau_b(predicted, measured[left], of) for of in (None, bins[left], widths[left])])
            mean = np.nanmean(drawn, axis=0).tolist()
            names = ("tau", "tau_in_bins", "tau_in_widths")
            key = {name: line[name] for name in KEYS}
            found.append({**key, "columns": list(columns), **dict(zip(names, mean, strict=True))})
    return found


NOTES = (
    "- Each way scores the same supernets. **Tau** is Kendall's tau-b with the errors of the table; **in bins**:",
    f"  inside {BINS} bins of FLOPs; **in widths**: among networks whose first stages are equally wide. 95 % intervals",
    "  are of a bootstrap over networks.",
    f"- **Lead in widths**: the interval of the difference to the usual way, {USUAL}, on the same samples.",
    "- **CPU s** is of one network on a machine that was busy with other things; fine-tuning counts with its score.",
    "- A way that leads beyond its interval on seed 0 is reported on seed 1.",
)


def markdown(result: dict[str, Any]) -> str:
    """Returns the report."""
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    lines = [
        "# Ways to score networks with inherited weights",
        "",
        f"`python -m benchmarks.ranking.scorings`, {result['date']}, {result['cores']} cores, {versions}.",
        "",
        *NOTES,
        f"- {HINDSIGHT.capitalize()} has tau {result['hindsight_tau']:.2f} over all.",
    ]
    for key in dict.fromkeys(key_of(row) for row in result["ways"]):
        lines += [
            "", f"## {key[0].capitalize()}, {key[2]} s, seed {key[1]}", "",
            "| scored by | CPU s | tau | in bins | in widths | lead in widths | mean |",
            f"{'| --- ' * 7}|",
            *(_row(row) for row in result["ways"] if key_of(row) == key),
        ]  # fmt: skip
    lines += [
        "", "## Do two supernets agree inside widths?", "",
        "Of two supernets of the same variant: tau inside widths between them, and of their mean with the table.",
        "Of equal seeds, one is of the other tables and one was trained here: on another machine, by a later version.",
        "",
        "| variant | s | seeds | error: agree | with the truth | cross-entropy: agree | with the truth |",
        f"{'| --- ' * 7}|",
        *(
            f"| {row['variant']} | {row['seconds']} | {', '.join(map(str, row['seeds']))} "
            f"| {row['error_agreement']:.2f} | {row['error_truth']:.2f} "
            f"| {row['cross_entropy_agreement']:.2f} | {row['cross_entropy_truth']:.2f} |"
            for row in result["agreement"]
        ),
    ]  # fmt: skip
    lines += [
        "", "## Error or cross-entropy?", "",
        f"Means over all supernets of the other tables but {UNUSABLE}. The lead of cross-entropy is an interval of a",
        "bootstrap over networks.",
        "",
        "| s | supernets | tau: error | cross-entropy | lead | in bins: error | cross-entropy | lead "
        "| in widths: error | cross-entropy | lead |",
        f"{'| --- ' * 11}|",
        *(
            f"| {row['seconds']} | {row['supernets']} | "
            + " | ".join(
                f"{row[f'error_{name}']:.2f} | {row[f'cross_entropy_{name}']:.2f} "
                f"| {row[f'lead_{name}_interval'][0]:.2f} to {row[f'lead_{name}_interval'][1]:.2f}"
                for name in ("tau", "tau_in_bins", "tau_in_widths")
            )
            + " |"
            for row in result["error_or_entropy"]
        ),
    ]  # fmt: skip
    lines += [
        "", "## Do trained networks correct inherited errors?", "",
        f"A ridge regression on {TRAINED_FOR_CORRECTION} networks that were trained by themselves predicts the others; "
        f"means over {CORRECTIONS} draws",
        "of these networks. Their own trainings are not counted in the supernet's seconds.",
        "",
        "| variant | s | seed | predicted from | tau | in bins | in widths |",
        f"{'| --- ' * 7}|",
        *(
            f"| {row['variant']} | {row['seconds']} | {row['seed']} | {', '.join(row['columns'])} "
            f"| {row['tau']:.2f} | {row['tau_in_bins']:.2f} | {row['tau_in_widths']:.2f} |"
            for row in result["corrected"]
        ),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _row(row: dict[str, Any]) -> str:
    def tau(name: str) -> str:
        low, high = row[f"tau{name}_interval"]
        return f"{row[f'tau{name}']:.2f} ({low:.2f} to {high:.2f})"

    low, high = row["lead_in_widths_interval"]
    return (
        f"| {row['way']} | {row['cpu_seconds']:.2f} | {tau('')} | {tau('_in_bins')} | {tau('_in_widths')} "
        f"| {low:.2f} to {high:.2f} | {row['mean']:.4f} |"
    )


def report() -> None:
    """Writes the report, from the committed results alone."""
    table = Table.of(read_lines(TABLE))
    result = {
        **describe_machine("torch", "numpy"),
        **figures(table, read_lines(SCORINGS)),
        "agreement": agreement(table, [*read_lines(SUPERNETS), *as_supernets(read_lines(SCORINGS))]),
        "error_or_entropy": error_or_entropy(table, read_lines(SUPERNETS)),
        "corrected": corrected(table, read_lines(SUPERNETS)),
    }
    write_atomically(RESULTS / "ranking_scorings.json", json.dumps(result, indent=1) + "\n")
    write_atomically(RESULTS / "ranking_scorings.md", markdown(result))
