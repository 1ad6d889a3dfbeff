"""Training steps beside the public SReT code, and what each way of computing adds, on one CPU thread.

    python -m benchmarks.speed.training path/to/public/SReT.py [NAME]

The file is that of github.com/szq0214/SReT; nothing of it is part of this project. Steps of all ways take turns, after
an untimed one of each, and are timed by the thread's own CPU seconds, because machines are shared. Medians of all
rounds and their ratios go to results/speed_training.json, or speed_training_NAME.json for another processor, with how
busy the machine was.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.machine import describe_machine
from sret_nas.arch.presets import preset
from sret_nas.files import write_atomically
from sret_nas.nn import layers
from sret_nas.nn.network import SReT
from trials.training.devices import compute_with
from trials.training.precision import passes_in
from trials.training.recipe import Precision

RESULTS = Path(__file__).resolve().parent.parent / "results"
CASES = (("sret_t", "SReT_T", 16), ("sret_s", "SReT_S", 4))
"""Our preset, the public code's name for it, and the images of a batch of 224 px."""
ROUNDS = 7


@dataclass(frozen=True)
class Way:
    """One way of computing a step."""

    name: str
    is_public: bool
    precision: Precision
    by_rule: bool = True
    """Whether layers choose how to multiply (`sret_nas.nn.compute`); else they do as torch does."""


WAYS = (
    Way("public code, fp32", True, "fp32"),
    Way("public code, bf16", True, "bf16"),
    Way("this project, fp32, torch's products", False, "fp32", by_rule=False),
    Way("this project, fp32", False, "fp32"),
    Way("this project, bf16, torch's attention", False, "bf16", by_rule=False),
    Way("this project, bf16", False, "bf16"),
)


def main() -> None:
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    name = "_".join(["speed_training", *sys.argv[2:]])
    compute_with(1)
    public = public_code(Path(sys.argv[1]))
    cases = []
    for ours, theirs, batch in CASES:
        cases.append(
            {"network": ours, "batch_size": batch, "image_size": 224, "ways": _case(ours, batch, public[theirs])}
        )
        _show(cases[-1])
    result = {
        **describe_machine("torch"),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "gflops_of_products": {name: round(speed) for name, speed in _speed_of_products().items()},
        "seed": 0,
        "threads": 1,
        "rounds": ROUNDS,
        "cases": cases,
        "load_average": os.getloadavg(),
        "niceness": os.nice(0),
    }
    write_atomically(RESULTS / f"{name}.json", json.dumps(result, indent=1) + "\n")


def public_code(path: Path) -> dict[str, Callable[..., nn.Module]]:
    """Returns the networks of the public file, by name. It imports one function of einops, which
    need not be installed."""

    def rearrange(tensor: Tensor, pattern: str, h: int = 0, w: int = 0) -> Tensor:
        if pattern == "b c h w -> b (h w) c":
            return tensor.permute(0, 2, 3, 1).reshape(len(tensor), -1, tensor.shape[1])
        assert pattern == "b (h w) c -> b c h w"
        return tensor.reshape(len(tensor), h, w, -1).permute(0, 3, 1, 2)

    einops = types.ModuleType("einops")
    einops.rearrange = rearrange  # type: ignore[attr-defined]
    sys.modules.setdefault("einops", einops)
    spec = importlib.util.spec_from_file_location("public_sret", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # which timm looks up
    spec.loader.exec_module(module)
    return vars(module)


def _case(name: str, batch: int, public: Callable[..., nn.Module]) -> list[dict[str, Any]]:
    torch.manual_seed(0)
    networks = {True: public(num_classes=1000).train(), False: SReT(preset(name)).train()}
    optimizers = {
        key: torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True) for key, network in networks.items()
    }
    images, labels = torch.randn(batch, 3, 224, 224), torch.randint(1000, (batch,))
    seconds: dict[Way, list[float]] = {way: [] for way in WAYS}
    for round_ in range(1 + ROUNDS):
        for way in WAYS:
            began = time.thread_time()
            with products(way.by_rule):
                _step(networks[way.is_public], optimizers[way.is_public], images, labels, way.precision)
            if round_ > 0:
                seconds[way].append(time.thread_time() - began)
    first = median(seconds[WAYS[0]])
    return [
        {
            "way": way.name,
            "ms": round(1000 * median(taken)),
            "least_ms": round(1000 * min(taken)),
            "speedup": round(first / median(taken), 3),
        }
        for way, taken in seconds.items()
    ]


def _step(
    network: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor, precision: Precision
) -> None:
    optimizer.zero_grad(set_to_none=True)
    with passes_in(precision, images.device):
        logits = network(images)
    F.cross_entropy(logits.float(), labels).backward()  # type: ignore[no-untyped-call]
    optimizer.step()


@contextmanager
def products(by_rule: bool) -> Iterator[None]:
    """Has layers multiply by the rules of `sret_nas.nn.compute`, or as torch does by itself."""
    names = vars(layers)
    rules = {name: names[name] for name in ("project", "attention")}
    if not by_rule:
        names |= {"project": lambda layer, tokens: layer(tokens), "attention": F.scaled_dot_product_attention}
    try:
        yield
    finally:
        names |= rules


def _speed_of_products() -> dict[str, float]:
    """Returns GFLOP/s of a square product by MKL (as `linear`), by oneDNN (as a convolution), and in bf16."""
    size = 1024
    left, right = torch.randn(size, size), torch.randn(size, size)
    pixels, filters = left.view(16, size // 16, 1, size).permute(0, 3, 1, 2), right[:, :, None, None]
    halves = left.bfloat16(), right.bfloat16()
    ways: dict[str, Callable[[], Tensor]] = {
        "fp32, linear": lambda: F.linear(left, right),
        "fp32, convolution": lambda: F.conv2d(pixels, filters),
        "bf16, linear": lambda: F.linear(*halves),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, product in ways.items():
            began = time.thread_time()
            product()
            seconds[name].append(time.thread_time() - began)
    return {name: 2 * size**3 / median(taken) / 1e9 for name, taken in seconds.items()}


def _show(case: dict[str, Any]) -> None:
    table = Table(title=f"{case['network']}, batch of {case['batch_size']} at 224 px", title_justify="left")
    for heading in ("training step", "ms", "against public fp32"):
        table.add_column(heading, justify="left" if heading == "training step" else "right")
    for way in case["ways"]:
        table.add_row(way["way"], str(way["ms"]), f"{way['speedup']:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
