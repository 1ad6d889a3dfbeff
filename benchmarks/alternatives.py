"""What a user would pick instead: networks of timm of about SReT-T's cost, counted as ours are.

Run `python -m benchmarks.alternatives --results results-imagenet.csv` from the repository's root, with the file of that
name from timm's repository (`results/`). It holds the top-1 accuracies of timm's published weights on ImageNet-1K.
Nothing is downloaded or trained: networks are built with fresh weights and counted. The script prints a table and
writes `benchmarks/results/alternatives.json`.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import timm
import torch
from fvcore.nn import FlopCountAnalysis
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine
from sret_nas.arch.cost import cost_of
from sret_nas.arch.presets import PRESETS
from sret_nas.files import write_atomically
from sret_nas.nn.flops import attention_flops

RESULT = Path(__file__).parent / "results" / "alternatives.json"

MODELS = (
    ("mobilenetv4_conv_small.e2400_r224_in1k", 224), ("mobilenetv3_large_100.ra4_e3600_r224_in1k", 224),
    ("efficientnet_b0.ra4_e3600_r224_in1k", 224), ("levit_128.fb_dist_in1k", 224), ("efficientvit_b1.r224_in1k", 224),
    ("xcit_nano_12_p16_224.fb_dist_in1k", 224), ("fastvit_t8.apple_dist_in1k", 256),
    ("mobilenetv4_conv_medium.e500_r224_in1k", 224), ("repvit_m1_0.dist_450e_in1k", 224),
    ("levit_256.fb_dist_in1k", 224), ("xcit_tiny_12_p16_224.fb_dist_in1k", 224),
    ("deit_tiny_patch16_224.fb_in1k", 224), ("edgenext_small.usi_in1k", 256), ("resnet18.a1_in1k", 224),
)  # fmt: skip
"""Published weights that were trained on ImageNet-1K alone, some with a teacher, each with the size it is scored at."""

SRET = {"sret_t": (76.0, 77.6), "sret_lt": (76.7, 77.7), "sret_s": (81.9, 82.7)}
"""Top-1 of the published SReTs, without and with a teacher (the paper's README)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, metavar="FILE.csv", help="timm's results-imagenet.csv")
    scored = top1_by_model(parser.parse_args().results)
    rows = [counted(name, size, scored[name, size]) for name, size in MODELS]
    for name, (plain, distilled) in SRET.items():
        cost = cost_of(PRESETS[name])
        rows.append({"model": name, "image_size": 224, "flops": cost.flops, "params": cost.params, "top1": plain,
                     "top1_distilled": distilled})  # fmt: skip
    rows.sort(key=lambda row: row["flops"])
    about = describe_machine("torch", "timm", "fvcore")
    write_atomically(RESULT, json.dumps({**about, "models": rows}, indent=1) + "\n")
    table = Table("model", "px", "G multiply-adds", "M parameters", "top-1 %")
    for row in rows:
        cells = row["model"], str(row["image_size"]), f"{row['flops'] / 1e9:.3f}", f"{row['params'] / 1e6:.2f}"
        table.add_row(*cells, f"{row['top1']:.1f}")
    Console().print(table)


def top1_by_model(path: Path) -> dict[tuple[str, int], float]:
    """Returns timm's top-1 accuracies in percent, by model and image size."""
    with path.open(encoding="utf-8", newline="") as lines:
        return {(row["model"], int(row["img_size"])): float(row["top1"]) for row in csv.DictReader(lines)}


def counted(name: str, size: int, top1: float) -> dict[str, Any]:
    """Returns a model's FLOPs for one image, its parameters and its top-1."""
    network = timm.create_model(name.partition(".")[0]).eval()
    with torch.no_grad():
        analysis = FlopCountAnalysis(network, torch.zeros(1, 3, size, size)).unsupported_ops_warnings(False)
        # What fvcore has no rule for here is element-wise, but for fused attention.
        flops = int(analysis.set_op_handle("aten::scaled_dot_product_attention", attention_flops).total())
    params = sum(parameter.numel() for parameter in network.parameters())
    return {"model": name, "image_size": size, "flops": flops, "params": params, "top1": top1}


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message=".*torch.jit.*")
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    main()
