"""Load a network that a search found, and train it.

    python examples/train_a_result.py runs/2026-01-31-120000/best.yaml --out trained.safetensors

The images here are random, so that the example needs no download. Put your own data set in their place.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from sret_nas import SReT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path, help="a YAML file of a search, such as best.yaml")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("trained.safetensors"))
    options = parser.parse_args()

    torch.manual_seed(0)
    network = SReT.from_yaml(options.result)
    arch = network.arch
    images = torch.randn(4 * options.batch_size, arch.channels, arch.image_size, arch.image_size)
    labels = torch.randint(arch.classes, (len(images),))
    loader = DataLoader(TensorDataset(images, labels), options.batch_size, shuffle=True)

    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.05)
    network.train()
    step = 0
    while step < options.steps:
        for batch, targets in loader:
            loss = F.cross_entropy(network(batch), targets)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            step += 1
            print(f"step {step}: loss {loss.item():.3f}")
            if step == options.steps:
                break

    network.save(options.out)
    print(f"{options.out}: load it with SReT.load")


if __name__ == "__main__":
    main()
