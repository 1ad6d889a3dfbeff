"""The figures of the comparison of initialisations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from docs.figures.tables import load, table


def initialisation_table() -> str:
    """Returns PyTorch's defaults against the old initialisation: paired differences with 95 % intervals."""
    result = load("initialisation")
    rows = [
        [
            f"{setting['data']}, {setting['network']}, {setting['images']:,} images",
            *_differences(setting["schemes"]["torch"]["differences"]),
        ]
        for setting in result["settings"]
    ]
    rows.append(["all pairs together", *_differences(result["together"]["torch"])])
    return table(["what was trained", "pairs", "training loss", "validation cross-entropy", "test error, points"], rows)


def supernets_table() -> str:
    """Returns supernets with the old initialisation, and what PyTorch's defaults change: 95 % intervals."""
    schemes = load("initialisation")["supernets"]
    old, new = schemes["linear 0.02, conv He"], schemes["torch"]["differences"]
    rows = []
    for metric, text in (
        ("mean_error", "mean error of 32 subnets"),
        ("smallest_error", "error of the smallest subnet"),
        ("largest_error", "error of the largest subnet"),
    ):
        change = new[metric]
        rows.append(
            [
                text,
                f"{100 * old['means'][metric]:.1f} %",
                f"{100 * change['mean']:+.1f} ± {100 * change['half_interval']:.1f} points",
                f"{change['pairs'] - change['better']} of {change['pairs']}",
            ]
        )
    return table(["measured", "old rule", "with PyTorch's", "old rule better"], rows)


def networks_sentence(key: str) -> str:
    """Returns what one scheme changes of another in networks of `sret_tiny` after short trainings."""
    found = load("initialisation")["networks"][key]["val_cross_entropy"]
    return (
        f"{found['mean']:+.3f} ± {found['half_interval']:.3f} (lower in {found['better']} of {found['pairs']} networks)"
    )


def scaled_table() -> str:
    """Returns the rule with scaled outputs less PyTorch's defaults: paired differences with 95 % intervals."""
    rows = [[row["setting"], *_differences(row)] for row in load("initialisation")["scaled_less_torch"]]
    return table(["what was trained", "pairs", "training loss", "validation cross-entropy", "test error, points"], rows)


def supernet_images() -> str:
    """Returns the images that each of these supernets was trained on."""
    return f"{load('initialisation')['supernet_images']:,}"


def _differences(found: dict[str, Any]) -> list[str]:
    """Returns the number of pairs, and for each metric the mean difference, its interval, and the pairs won."""
    cells = [str(found["train_loss"]["pairs"])]
    for metric, factor, digits in (("train_loss", 1, 3), ("val_cross_entropy", 1, 3), ("test_error", 100, 2)):
        difference = found[metric]
        half = difference["half_interval"]
        interval = "" if half is None else f" ± {factor * half:.{digits}f}"
        cells.append(f"{factor * difference['mean']:+.{digits}f}{interval} ({difference['better']} better)")
    return cells


FIGURES: dict[str, Callable[[], str]] = {
    "initialisation-table": initialisation_table,
    "initialisation-supernets": supernets_table,
    "initialisation-supernet-images": supernet_images,
    "initialisation-networks": partial(networks_sentence, "torch_less_old"),
    "initialisation-scaled-old": partial(networks_sentence, "scaled_less_old"),
    "initialisation-scaled-torch": partial(networks_sentence, "scaled_less_torch"),
    "initialisation-scaled-table": scaled_table,
}
"""The parts by the names that markers use."""
