"""The figures of networks: presets, published alternatives, sizes, and very deep ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from docs.figures.tables import load, script, table
from sret_nas.arch.presets import PRESETS


def presets() -> str:
    return ", ".join(f"`{name}`" for name in PRESETS)


def alternatives_table() -> str:
    """Returns published networks of about SReT-T's cost, cheapest first."""

    def top1(row: dict[str, Any]) -> str:
        distilled = row.get("top1_distilled")
        return f"{row['top1']:.1f}" if distilled is None else f"**{row['top1']:.1f} / {distilled:.1f}**"

    return table(
        ["network", "px", "GFLOPs", "M parameters", "top-1 %"],
        (
            (row["model"] if "." in row["model"] else f"**{row['model']}**", f"{row['image_size']}",
             f"{row['flops'] / 1e9:.2f}", f"{row['params'] / 1e6:.2f}", top1(row))
            for row in load("alternatives")["models"]
        ),
    )  # fmt: skip


def alternatives_script() -> str:
    return script("alternatives.py")


def size_table() -> str:
    """Returns the slopes of error over FLOPs after short and longer trainings."""
    return table(
        ["training images", "input", "trainings", "points per doubling of FLOPs", "95 % interval"],
        (
            (f"{row['images']:,}", f"{row['image_size']} px", f"{row['trainings']}",
             f"{row['points_per_doubling']:+.2f}", "{:+.2f} to {:+.2f}".format(*row["interval"]))
            for row in load("size_slope")["tables"]
        ),
    )  # fmt: skip


def very_deep_table() -> str:
    """Returns the trainings of very deep networks, with and without gradient checkpointing."""
    rows = [
        (
            row["network"].replace("sret_deep_108", "`sret_deep_108`"),
            f"{row['applications']:,}",
            f"{row['image_size']} px",
            f"{row['flops'] / 1e9:.2f} G",
            f"{row['params'] / 1e6:.1f} M",
            f"{row['seconds_to_build']:.1f} s",
            "yes" if row["gradient_checkpointing"] else "no",
            f"{row['training_megabytes']:,} MB",
            f"{row['seconds_per_step']:.1f} s",
            f"{row['losses'][0]:.2f} to {row['losses'][-1]:.2f}",
        )
        for row in load("very_deep")["trainings"]
    ]
    header = ["network", "block applications", "images", "FLOPs", "parameters", "built in", "checkpointing",
              "memory of training", "a step", "loss"]  # fmt: skip
    return table(header, rows)


def very_deep_setting() -> str:
    """Returns how the very deep networks were trained: `5 steps of 4 images, ...`."""
    found = load("very_deep")
    threads = "1 thread" if found["threads"] == 1 else f"{found['threads']} threads"
    return (
        f"{found['steps']} steps of {found['batch_size']} images on {threads} of {found['cpu']}, "
        f"torch {found['versions']['torch']}, {found['date']}, seed {found['seed']}"
    )


FIGURES: dict[str, Callable[[], str]] = {
    "presets": presets,
    "alternatives-table": alternatives_table,
    "alternatives-script": alternatives_script,
    "size-table": size_table,
    "very-deep-table": very_deep_table,
    "very-deep-setting": very_deep_setting,
}
"""The parts by the names that markers use."""
