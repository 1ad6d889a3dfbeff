"""The figures of the comparison of initialisations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from docs.figures.tables import load, table

CHOSEN = "linear torch, outputs scaled, conv He"
"""The scheme by which networks start."""


def initialisation_table() -> str:
    """Returns the rule of networks against the others: differences in validation cross-entropy, with intervals."""
    result = load("initialisation")
    to_torch = {row["setting"]: row["val_cross_entropy"] for row in result["scaled_less_torch"]}
    rows = []
    for setting in result["settings"]:
        name = f"{setting['data']}, {setting['network']}, {setting['images']:,} images"
        differences = setting["schemes"][CHOSEN]["differences"]
        rows.append([name, _difference(differences["val_cross_entropy"]), _difference(to_torch[name])])
    together = _difference(result["together"][CHOSEN]["val_cross_entropy"])
    rows.append(["these together", together, _difference(to_torch["all pairs together"])])
    for images, found in result["networks"].items():
        old, torch = (found[key]["val_cross_entropy"] for key in ("scaled_less_old", "scaled_less_torch"))
        name = f"CIFAR-10, {torch['pairs']} networks of `sret_tiny`, {int(images):,} images"
        rows.append([name, _difference(old), _difference(torch)])
    return table(["what was trained", "against the old rule", "against PyTorch's"], rows)


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


def networks_sentence() -> str:
    """Returns what PyTorch's defaults change of the old rule in networks of `sret_tiny` after short trainings."""
    return _difference(load("initialisation")["networks"]["20000"]["torch_less_old"]["val_cross_entropy"])


def slopes_table() -> str:
    """Returns by how many points a doubling of FLOPs changes the validation error, by rule and length of training."""
    names = {"linear 0.02, conv He": "the old rule", "torch": "PyTorch's", CHOSEN: "the rule of networks"}
    by_images = {images: found["slopes"] for images, found in load("initialisation")["networks"].items()}
    rows = [
        [text, *(f"{slopes[scheme]:+.2f}" if scheme in slopes else "" for slopes in by_images.values())]
        for scheme, text in names.items()
    ]
    return table(["points per doubling of FLOPs", *(f"{int(images):,} images" for images in by_images)], rows)


def supernet_images() -> str:
    """Returns the images that each of these supernets was trained on."""
    return f"{load('initialisation')['supernet_images']:,}"


def _difference(found: dict[str, Any]) -> str:
    """Returns a mean difference with its interval and the pairs in which the first was lower; empty without pairs."""
    if not found["pairs"]:
        return ""
    return f"{found['mean']:+.3f} ± {found['half_interval']:.3f} (lower in {found['better']} of {found['pairs']})"


FIGURES: dict[str, Callable[[], str]] = {
    "initialisation-table": initialisation_table,
    "initialisation-supernets": supernets_table,
    "initialisation-supernet-images": supernet_images,
    "initialisation-networks": networks_sentence,
    "initialisation-slopes": slopes_table,
}
"""The parts by the names that markers use."""
