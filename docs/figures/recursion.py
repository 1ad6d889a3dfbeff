"""The figures of recursive networks: what explains their errors, and depths that learn from the deepest one."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean
from typing import Any

from docs.figures.tables import load, table


def recursion_table() -> str:
    recursion = load("recursion_additivity")
    labels = recursion["cross_entropy"]["labels"]
    rows = [(model, *(f"{labels[number][model]['r2'][1]:.2f}" for number in labels)) for model in labels["40"]]
    return table(["model", *(f"{number} labels" for number in labels)], rows)


def recursion_noise() -> str:
    ceiling = load("recursion_additivity")["cross_entropy"]["ceiling"]
    return f"{100 * ceiling['largest_r2_that_noise_allows']:.0f} %"


def recursion_error() -> str:
    """Returns the share of the error that FLOPs and the largest model explain with 40 labels, and what noise allows."""
    error = load("recursion_additivity")["error"]
    flops, pairs = (error["labels"]["40"][model]["r2"][1] for model in ("FLOPs", "with pairs"))
    most = error["ceiling"]["largest_r2_that_noise_allows"]
    return f"{flops:.2f} by FLOPs and {pairs:.2f} with pairs, where noise allows {most:.2f}"


def recursion_networks() -> str:
    return str(load("recursion_additivity")["networks"])


def depth_distillation_table() -> str:
    """Returns what distilling from the deepest pass changed at each depth."""
    found = load("depth_distillation")

    def error(variant: dict[str, Any], at_depth: int) -> str:
        depths = [depth for training in variant["trainings"] for depth in training["depths"]]
        return f"{100 * fmean(depth['error'] for depth in depths if set(depth['recursions']) == {at_depth}):.1f} %"

    plain, taught = found["variants"]
    differences = {claim["at_depth"]: claim["difference_in_points"] for claim in found["claims"]}
    return table(
        ["recursions", "error without", "error with distillation", "difference in points", "90 % interval"],
        (
            (str(depth), error(plain, depth), error(taught, depth),
             f"{-row['mean']:+.1f}", f"{-row['high']:+.1f} to {-row['low']:+.1f}")
            for depth, row in differences.items()
        ),
    )  # fmt: skip


def depth_distillation_text() -> str:
    """Returns how those trainings were run."""
    found = load("depth_distillation")
    training = found["variants"][0]["trainings"][0]
    return (
        f"{len(found['seeds'])} pairs of trainings of equal seed, each on {training['images']:,} images of CIFAR-10 "
        f"({training['steps']} steps), tested on {training['test_images']:,}; {found['precision']}, {found['date']}, "
        f"torch {found['versions']['torch']}."
    )


FIGURES: dict[str, Callable[[], str]] = {
    "recursion-table": recursion_table,
    "recursion-error": recursion_error,
    "recursion-noise": recursion_noise,
    "recursion-networks": recursion_networks,
    "depth-distillation": depth_distillation_table,
    "depth-distillation-text": depth_distillation_text,
}
"""The parts by the names that markers use."""
