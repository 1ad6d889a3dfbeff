"""What a GPU makes of it: training steps, a supernet's steps, inference, and a small whole search, in under 8 minutes.

    python -m benchmarks.gpu.run [--public path/to/public/SReT.py]
    python -m benchmarks.gpu.run --tiny        # tiny sizes, on a CPU too: to see that the script itself works

Steps of all ways take turns, after untimed ones of each. Medians go to `benchmarks/results/gpu.json`, or with `--tiny`
nowhere unless `--out` names a file. Parts that do not fit into the time left are left out, and the result says so.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.machine import describe_machine
from benchmarks.speed.training import public_code
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.presets import preset
from sret_nas.files import write_atomically
from sret_nas.nn.network import SReT
from sret_nas.nn.supernet import Supernet
from sret_nas.space.search_space import SearchSpace
from sret_nas.space.supernet_shape import bounding_shape
from trials.distributed.processes import process_group
from trials.supernet.config import SupernetConfig
from trials.supernet.step import SupernetStep
from trials.training.precision import passes_in
from trials.training.recipe import TrainingConfig

RESULT = Path(__file__).resolve().parent.parent / "results" / "gpu.json"
MAX_SECONDS = 460.0
"""After which no further part starts."""


@dataclass(frozen=True)
class Sizes:
    """How much of everything is run."""

    training_batch: int
    inference_batch: int
    image_size: int
    supernet_batch: int
    rounds: int
    search: tuple[str, ...]


LARGE = Sizes(
    128, 256, 224, 64, 9, ("--space=sret_tiny", "--flops-budget=1G", "--trials=60", "--supernet-images=60000")
)
TINY = Sizes(
    2, 3, 32, 4, 1,
    ("--space=smoke", "--trials=2", "--supernet-images=64", "--max-train-images=64", "--max-val-images=20",
     "--max-test-images=20", "--image-size=16", "--batch-size=16", "--finalists=0", "--controls=0", "--workers=0"),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, to try the script")
    parser.add_argument("--public", type=Path, metavar="SReT.py", help="the public code, to be timed beside ours")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    given = parser.parse_args()
    device, sizes = torch.device(given.device), TINY if given.tiny else LARGE
    if device.type == "cpu" and not given.tiny:
        parser.error("the whole run is for a GPU: give --tiny to try it on a CPU")
    began = time.monotonic()
    parts: dict[str, Callable[[], Any]] = {
        "training steps": lambda: training_steps(device, sizes, given.public),
        "supernet steps": lambda: supernet_steps(device, sizes),
        "inference": lambda: inference(device, sizes, given.public),
        "two processes on one device": lambda: two_processes(device),
        "search": lambda: whole_search(device, sizes),
    }
    results: dict[str, Any] = {}
    for name, run in parts.items():
        if time.monotonic() - began > MAX_SECONDS:
            results[name] = "left out: no time was left"
            continue
        started = time.monotonic()
        results[name] = run()
        print(f"{name}: {time.monotonic() - started:.0f} s")
        show(name, results[name])
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else "none"
    content = {**describe_machine("torch", "timm"), "device": gpu, "seed": 0, "tiny": given.tiny, "parts": results}
    out = given.out or (None if given.tiny else RESULT)
    if out is not None:
        write_atomically(out, json.dumps(content, indent=1) + "\n")


def wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def medians(ways: dict[str, Callable[[], None]], device: torch.device, rounds: int) -> dict[str, float]:
    """Returns the median milliseconds of each way; all take turns, after two untimed rounds."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(2 + rounds):
        for name, run in ways.items():
            wait_for(device)
            began = time.perf_counter()
            run()
            wait_for(device)
            if round_ >= 2:
                taken[name].append(1000 * (time.perf_counter() - began))
    return {name: round(median(values), 3) for name, values in taken.items()}


def training_steps(device: torch.device, sizes: Sizes, public: Path | None) -> dict[str, Any]:
    """Times steps of SReT-T and SReT-S in fp32, tf32 and bf16, compiled or not, and of the public code."""
    results: dict[str, Any] = {}
    theirs = {} if public is None else public_code(public)
    for name, public_name in (("sret_t", "SReT_T"), ("sret_s", "SReT_S")):
        size = sizes.image_size
        network = SReT(ArchConfig.from_dict({**preset(name).to_dict(), "image_size": size}, name)).to(device).train()
        images = torch.randn(sizes.training_batch, 3, size, size, device=device)
        labels = torch.randint(1000, (sizes.training_batch,), device=device)
        ways = {
            "fp32": stepper(network, images, labels, "fp32"),
            "tf32": with_tf32(stepper(network, images, labels, "fp32")),
            "bf16": stepper(network, images, labels, "bf16"),
        }
        if device.type == "cuda":
            compiled: nn.Module = torch.compile(network)  # type: ignore[assignment]
            ways["bf16, compiled"] = stepper(compiled, images, labels, "bf16")
        if public_name in theirs and size == 224:
            other = theirs[public_name](num_classes=1000).to(device).train()
            ways["public code, fp32"] = stepper(other, images, labels, "fp32")
            ways["public code, bf16"] = stepper(other, images, labels, "bf16")
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        results[name] = {"batch": sizes.training_batch, "image_size": size, "ms": medians(ways, device, sizes.rounds)}
        if device.type == "cuda":
            results[name]["peak_memory_mb"] = round(torch.cuda.max_memory_allocated(device) / 1e6)
    return results


def stepper(network: nn.Module, images: Tensor, labels: Tensor, precision: Any) -> Callable[[], None]:
    """Returns a function that takes one step."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with passes_in(precision, images.device):
            logits = network(images)
        F.cross_entropy(logits.float(), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def with_tf32(step: Callable[[], None]) -> Callable[[], None]:
    def run() -> None:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high")
        try:
            step()
        finally:
            torch.set_float32_matmul_precision(before)

    return run


def supernet_steps(device: torch.device, sizes: Sizes) -> dict[str, Any]:
    """Times a supernet's step on its largest, smallest and a middling network of 40 px, as searches train it."""
    space = SearchSpace.load("smoke" if sizes is TINY else "sret_tiny")
    small = SearchSpace.from_dict({**space.to_dict(), "image_size": 40, "classes": 10}, space.name)
    supernet = Supernet(bounding_shape(small)).to(device).train()
    last = [len(table) - 1 for table in small.stage_tables]
    networks = [small.network(rows) for rows in (last, [0] * len(last), [row // 2 for row in last])]
    images = torch.randn(sizes.supernet_batch, 3, 40, 40, device=device)
    labels = torch.randint(10, (sizes.supernet_batch,), device=device)
    ways: dict[str, Callable[[], Any]] = {}
    with process_group(str(device)) as processes:
        for precision in ("fp32", "bf16"):
            training = TrainingConfig(images=1000, batch_size=sizes.supernet_batch)
            step = SupernetStep(supernet, SupernetConfig(training=training, precision=precision), processes)
            ways[precision] = partial(step, networks, images, labels, 1e-4)
        return {"batch": sizes.supernet_batch, "networks": 3, "ms": medians(ways, device, sizes.rounds)}


def inference(device: torch.device, sizes: Sizes, public: Path | None) -> dict[str, Any]:
    """Times passes of SReT-T with one image and with many, in fp32 and bf16."""
    size = sizes.image_size
    network = SReT(ArchConfig.from_dict({**preset("sret_t").to_dict(), "image_size": size}, "sret_t")).to(device).eval()
    networks: dict[str, nn.Module] = {"ours": network}
    if public is not None and size == 224:
        networks["public code"] = public_code(public)["SReT_T"](num_classes=1000).to(device).eval()
    results = {}
    for batch in (1, sizes.inference_batch):
        images = torch.randn(batch, 3, size, size, device=device)
        ways = {
            f"{name}, {precision}": forward(module, images, precision)
            for name, module in networks.items()
            for precision in ("fp32", "bf16")
        }
        results[f"batch {batch}"] = {"ms": medians(ways, device, 3 * sizes.rounds)}
    return results


def forward(network: nn.Module, images: Tensor, precision: Any) -> Callable[[], None]:
    @torch.inference_mode()
    def run() -> None:
        with passes_in(precision, images.device):
            network(images)

    return run


def two_processes(device: torch.device) -> dict[str, Any]:
    """Trains a supernet a few steps in two processes on one device, by torchrun, and says whether it ended well."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--log-dir", f"{folder}/log",
            "-m", "sret_nas", "supernet", "train", "--space=smoke", "--images=64", "--batch-size=16", "--image-size=16",
            "--max-train-images=64", "--max-val-images=20", f"--device={device.type}", f"--out={folder}/run",
        ]  # fmt: skip
        began = time.monotonic()
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        last = (ended.stdout + ended.stderr).strip().splitlines()[-1:]
        return {"exit_code": ended.returncode, "seconds": round(time.monotonic() - began, 1), "last_line": last}


def whole_search(device: torch.device, sizes: Sizes) -> dict[str, Any]:
    """Runs a small search from the command line and returns its seconds and its best error."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "sret_nas", "search", *sizes.search, f"--device={device.type}", f"--out={folder}/run"
        ]  # fmt: skip
        began = time.monotonic()
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=400)
        seconds = round(time.monotonic() - began, 1)
        if ended.returncode != 0:
            return {"exit_code": ended.returncode, "seconds": seconds, "output": ended.stderr.strip()[-500:]}
        from trials.search.api import SearchResult

        best = SearchResult.open(Path(folder) / "run").best
        return {"exit_code": 0, "seconds": seconds, "best_error": best.error, "best_flops": best.flops}


def show(name: str, result: Any) -> None:
    table = Table("what", "value", title=name, title_justify="left")

    def add(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                add(f"{prefix} {key}".strip(), inner)
        else:
            table.add_row(prefix, str(value))

    add("", result)
    Console().print(table)


if __name__ == "__main__":
    main()
