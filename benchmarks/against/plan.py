"""How long the trainings take: a few steps of every kind at every budget, in CPU seconds of one thread."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table as Shown

from benchmarks.against.networks import PlainNetwork, build, flops_of, sret_arch
from benchmarks.against.setting import CHANNELS, CLASSES, PRECISION, Setting
from benchmarks.machine import describe_machine
from benchmarks.recorded import RESULTS
from sret_nas.files import write_atomically
from trials.training.devices import compute_with
from trials.training.precision import passes_in

STEPS = 4
PLAN = "against_plan.json"


def print_plan(setting: Setting, results: Path = RESULTS) -> None:
    """Measures, writes what it found to `results`, and prints it. A random network stands for a found one."""
    compute_with(1)
    rows: list[dict[str, Any]] = []
    for budget in setting.budgets:
        stand_in = sret_arch("random", budget, len(setting.seeds), setting)
        for kind in setting.kinds:
            network = build(kind, budget, 0, setting, stand_in)
            speed = setting.batch_size / _step_seconds(setting, network, kind)
            hours = len(setting.seeds) * setting.images / speed / 3600
            bare = network.network if isinstance(network, PlainNetwork) else network
            flops = flops_of(bare, setting.image_size)
            rows.append({"kind": kind, "budget": budget, "flops": flops, "images_per_second": round(speed),
                         "core_hours": round(hours, 2)})  # fmt: skip
    content = {**describe_machine("torch", "timm"), "seeds": len(setting.seeds), "images": setting.images, "rows": rows}
    write_atomically(results / PLAN, json.dumps(content, indent=1) + "\n")
    table = Shown("kind", "M multiply-adds", "images/s", f"core-hours, {len(setting.seeds)} seeds")
    for row in rows:
        cells = f"{row['flops'] / 1e6:.2f}", str(row["images_per_second"]), f"{row['core_hours']:.2f}"
        table.add_row(row["kind"], *cells)
    table.add_row("all", "", "", f"{sum(row['core_hours'] for row in rows):.1f}")
    Console().print(table)


def _step_seconds(setting: Setting, network: torch.nn.Module, kind: str) -> float:
    """Returns the least CPU seconds of some steps, after a first one."""
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    images = torch.randn(setting.batch_size, CHANNELS, setting.image_size, setting.image_size)
    labels = torch.randint(CLASSES, (setting.batch_size,))
    seconds = []
    for _ in range(STEPS):
        started = time.process_time()
        with passes_in(PRECISION[kind], images.device):
            logits = network(images)
        F.cross_entropy(logits.float(), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.process_time() - started)
    return min(seconds[1:])
