"""Make a search space of your own, see what a budget leaves of it, and write it as YAML for `search --space`.

python examples/own_space.py --out mine.yaml
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from sret_nas import Budget, FeasibleSet, SearchSpace, cost_of
from sret_nas.yaml_files import dump_yaml

STAGE = {
    "heads": [2, 4],
    "blocks": [1, 2],
    "recursions": [1, 2],
    "groups": [[4, 1], [1]],
    "loop": ["internal"],
    "nll": ["between", "none"],
    "nll_ratio": [1.0],
    "mlp_ratio": [2.0, 3.0],
}
SPACE = {
    "name": "mine",
    "image_size": 64,
    "classes": 10,
    "stages": [{**STAGE, "width": [32, 48]}, {**STAGE, "width": [64, 96]}],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("mine.yaml"))
    options = parser.parse_args()

    space = SearchSpace.from_dict(SPACE)
    feasible = FeasibleSet(space, Budget(flops_max=8_000_000))
    print(f"{space.num_networks:,} networks, {feasible.count:,} of them within 8 MFLOPs")
    for arch in feasible.sample_many(np.random.default_rng(0), 3):
        cost = cost_of(arch)
        print(f"{arch.arch_id}: {cost.flops:,} FLOPs, {cost.params:,} parameters")
    options.out.write_text(dump_yaml(space.to_dict()), encoding="utf-8")
    print(f"next: sret-nas search --space {options.out} --flops-budget 8M")


if __name__ == "__main__":
    main()
