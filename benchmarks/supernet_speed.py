"""A network inside the supernet against the same network outside it: time and memory of a training pass.

Run `python -m benchmarks.supernet_speed` from the repository's root; it prints a table and writes
`benchmarks/results/supernet_speed.json`. Forward and backward of a batch of 64, one CPU thread, at the proxies' image
sizes; networks drawn evenly over the logarithm of FLOPs. Both are run in turn, and the ratio is the median over these
pairs, of the CPU time that the thread itself used, because the machine is shared; the result says how busy it was.
Peak memory is that of a process each, which runs two passes of the most expensive of the networks, or only imports.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine
from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.feasible.stratified import StratifiedSampler
from sret_nas.files import write_atomically
from sret_nas.nn.network import SReT
from sret_nas.nn.supernet import Supernet
from sret_nas.quantities import format_quantity
from sret_nas.space.search_space import SearchSpace
from sret_nas.space.supernet_shape import bounding_shape
from trials.training.devices import compute_with
from trials.training.recipe import ProxyConfig, TrainingConfig, proxy_arch

RESULT = Path(__file__).parent / "results" / "supernet_speed.json"
SPACES = ("sret_tiny", "sret_small")
IMAGE_SIZES = (32, 40)
SEED = 0
NUM_NETWORKS = 5
NUM_PAIRS = 5
NUM_UNTIMED = 1
BATCH = 64
CLASSES = 10


def main() -> None:
    if len(sys.argv) > 1:  # one of the processes whose memory is measured
        print(_peak_memory(sys.argv[1], sys.argv[2], ArchConfig.from_dict(json.loads(sys.argv[3]))))
        return
    compute_with(1)
    cases = [_case(name, image_size) for name in SPACES for image_size in IMAGE_SIZES]
    result = {
        "seed": SEED,
        "batch_size": BATCH,
        "threads": 1,
        "pairs": NUM_PAIRS,
        "cases": cases,
        "load_average": os.getloadavg(),
        "niceness": os.nice(0),
        **describe_machine("torch"),
    }
    write_atomically(RESULT, json.dumps(result, indent=2) + "\n")
    _show(cases)


def _case(name: str, image_size: int) -> dict[str, Any]:
    torch.manual_seed(SEED)
    supernet = _supernet(name, image_size)
    targets = StratifiedSampler(SearchSpace.load(name), Budget(), num_strata=NUM_NETWORKS)
    drawn = targets.sample_many(np.random.default_rng(SEED), NUM_NETWORKS)
    networks = sorted((_proxy(arch, image_size) for arch in drawn), key=lambda arch: cost_of(arch).flops)
    rows = [_row(supernet, arch) for arch in networks]
    memory = {what: _memory_of_process(what, name, networks[-1]) for what in ("nothing", "supernet", "network")}
    return {
        "space": name,
        "image_size": image_size,
        "supernet_params": sum(parameter.numel() for parameter in supernet.parameters()),
        "median_ratio": median(row["ratio"] for row in rows),
        "largest_ratio": max(row["ratio"] for row in rows),
        "skeleton_ms": median(row["skeleton_ms"] for row in rows),
        "extract_ms": median(row["extract_ms"] for row in rows),
        "new_network_ms": median(row["new_network_ms"] for row in rows),
        "peak_memory_mb": memory,
        "networks": rows,
    }


def _proxy(target: ArchConfig, image_size: int) -> ArchConfig:
    proxy = ProxyConfig(image_size=image_size, training=TrainingConfig(images=BATCH))
    return proxy_arch(target, proxy, channels=3, classes=CLASSES)


def _supernet(name: str, image_size: int) -> Supernet:
    return Supernet(bounding_shape(SearchSpace.load(name), adapted=lambda arch: _proxy(arch, image_size)))


def _row(supernet: Supernet, arch: ArchConfig) -> dict[str, Any]:
    network = supernet.extract(arch)  # once untimed: the first one imports more of torch
    skeleton = _milliseconds(lambda: Supernet._sliced_network(_without_sliced_networks(supernet), arch))
    images = torch.randn(BATCH, arch.channels, arch.image_size, arch.image_size)
    inside, outside = [], []
    for _ in range(NUM_UNTIMED + NUM_PAIRS):
        inside.append(_milliseconds(lambda: _forward_and_backward(supernet, images, arch)))
        supernet.zero_grad(set_to_none=True)
        outside.append(_milliseconds(lambda: _forward_and_backward(network, images)))
        network.zero_grad(set_to_none=True)
    ratios = [ours / theirs for ours, theirs in zip(inside[NUM_UNTIMED:], outside[NUM_UNTIMED:], strict=True)]
    return {
        "arch_id": arch.arch_id,
        "flops": cost_of(arch).flops,
        "params": cost_of(arch).params,
        "supernet_ms": median(inside[NUM_UNTIMED:]),
        "network_ms": median(outside[NUM_UNTIMED:]),
        "ratio": median(ratios),
        "skeleton_ms": skeleton,
        "extract_ms": _milliseconds(lambda: supernet.extract(arch)),
        "new_network_ms": _milliseconds(lambda: SReT(arch)),
    }


def _without_sliced_networks(supernet: Supernet) -> Supernet:
    supernet._sliced_networks.clear()
    return supernet


def _forward_and_backward(module: torch.nn.Module, *inputs: object) -> None:
    F.cross_entropy(module(*inputs), torch.arange(BATCH) % CLASSES).backward()  # type: ignore[no-untyped-call]


def _milliseconds(action: Callable[[], object]) -> float:
    started = time.thread_time()
    action()
    return 1000 * (time.thread_time() - started)


def _memory_of_process(what: str, name: str, arch: ArchConfig) -> float:
    command = [sys.executable, __file__, what, name, json.dumps(arch.to_dict())]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _peak_memory(what: str, name: str, arch: ArchConfig) -> float:
    """Returns the peak resident MB of this process: two passes of a network in the `supernet` or as a `network`, or
    `nothing`."""
    compute_with(1)
    images = torch.randn(BATCH, arch.channels, arch.image_size, arch.image_size)
    if what == "supernet":
        supernet = _supernet(name, arch.image_size)
        for _ in range(2):
            _forward_and_backward(supernet, images, arch)
    elif what == "network":
        network = SReT(arch)
        for _ in range(2):
            _forward_and_backward(network, images)
    # not getrusage, whose maximum is also that of the process that started this one
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _show(cases: list[dict[str, Any]]) -> None:
    table = Table(title="inside the supernet against outside", title_justify="left")
    for heading in ("space", "px", "FLOPs", "supernet", "network", "ratio", "skeleton", "extract"):
        table.add_column(heading, justify="left" if heading == "space" else "right")
    for case in cases:
        for row in case["networks"]:
            times = (f"{row[key]:.1f} ms" for key in ("supernet_ms", "network_ms"))
            others = (f"{row[key]:.1f} ms" for key in ("skeleton_ms", "extract_ms"))
            flops = format_quantity(row["flops"])
            table.add_row(case["space"], str(case["image_size"]), flops, *times, f"{row['ratio']:.3f}", *others)
    console = Console()
    console.print(table)
    for case in cases:
        console.print(f"{case['space']} at {case['image_size']} px: median ratio {case['median_ratio']:.3f}")
        console.print(f"  peak memory in MB: {case['peak_memory_mb']}")


if __name__ == "__main__":
    main()
