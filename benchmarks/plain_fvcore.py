"""What fvcore's own total misses: it has no rule for fused attention, `scaled_dot_product_attention`.

Run `python -m benchmarks.plain_fvcore` from the repository's root; it prints a table and writes
`benchmarks/results/plain_fvcore.json`. Every published network is counted in three ways.
"""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path

import torch
from fvcore.nn import FlopCountAnalysis
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.arch.presets import PUBLISHED
from sret_nas.files import write_atomically
from sret_nas.nn.flops import count_flops
from sret_nas.nn.network import SReT

RESULT = Path(__file__).parent / "results" / "plain_fvcore.json"


def main() -> None:
    rows = [counts(name, arch) for name, arch in PUBLISHED.items()]
    write_atomically(RESULT, json.dumps({**describe_machine("torch", "fvcore"), "networks": rows}, indent=2) + "\n")
    table = Table("network", "closed form", "count_flops", "plain fvcore", "missing")
    for row in rows:
        flops, counted, plain = (f"{row[key]:,}" for key in ("closed_form", "count_flops", "plain_fvcore"))
        table.add_row(str(row["network"]), flops, counted, plain, f"{100 * missing_share(row):.1f} %")
    Console().print(table)


def counts(name: str, arch: ArchConfig) -> dict[str, int | str]:
    """Returns the FLOPs of one network by the closed form, by `count_flops`, and by fvcore as it comes."""
    network = SReT(arch).eval()
    image = torch.zeros(1, arch.channels, arch.image_size, arch.image_size)
    with torch.no_grad():
        plain = FlopCountAnalysis(network, image).unsupported_ops_warnings(False).total()
    return {
        "network": name,
        "closed_form": cost_of(arch).flops,
        "count_flops": count_flops(network),
        "plain_fvcore": int(plain),
    }


def missing_share(row: dict[str, int | str]) -> float:
    """Returns the share of the FLOPs that plain fvcore does not count."""
    return 1 - int(row["plain_fvcore"]) / int(row["closed_form"])


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message=".*torch.jit.*")
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    main()
