"""What bf16 changes in the ranks that a supernet gives: short supernets of equal seed in both precisions."""

from __future__ import annotations

from pathlib import Path

from benchmarks.sret_bench.inherited import networks, scorer, train
from benchmarks.sret_bench.setting import Setting
from benchmarks.sret_bench.tables import Table
from trials.data import PreparedData
from trials.training.recipe import Precision

KEY = "trained_in", "seed", "scored_in", "number"

CASES: tuple[tuple[Precision, int, Precision], ...] = (
    ("bf16", 0, "bf16"),
    ("bf16", 0, "fp32"),
    ("fp32", 0, "fp32"),
    ("bf16", 1, "bf16"),
)
"""Precision of the training, its seed, and precision of the scores. The last case is what another seed changes."""


def fill(setting: Setting, data: PreparedData, work: Path, table: Table) -> None:
    """Trains and scores what the table lacks."""
    done = table.done
    drawn = networks(setting)[: setting.precision_networks]
    for trained_in, seed, scored_in in CASES:
        keys = {number: (trained_in, seed, scored_in, number) for number in range(len(drawn))}
        left = [number for number, key in keys.items() if key not in done]
        if not left:
            continue
        directory = work / f"supernet-{trained_in}-{seed}"
        path = train(setting, seed, data, directory, images=setting.precision_images, precision=trained_in)
        score_of = scorer(setting, path, data, scored_in)
        for number in left:
            scored = score_of(drawn[number][1])
            table.append({**dict(zip(KEY, keys[number], strict=True)), **scored})
