"""Let our strategy propose the networks of an Optuna study with an objective of your own.

    python examples/optuna_study.py --trials 12

Each trial trains a tiny network on scikit-learn's handwritten digits for a few seconds.
"""

from __future__ import annotations

import argparse

import optuna
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor

from sret_nas import ArchConfig, Budget, SearchSpace, SReT, cost_of
from sret_nas.trials.integrations.optuna_sampler import StrategySampler, architecture

STAGE = {
    "heads": [2],
    "blocks": [1, 2],
    "recursions": [1, 2],
    "groups": [[1]],
    "loop": ["internal"],
    "nll": ["none"],
    "nll_ratio": [1.0],
    "mlp_ratio": [1.0, 2.0],
}
SPACE = SearchSpace.from_dict(
    {
        "name": "digits",
        "image_size": 32,
        "channels": 1,
        "classes": 10,
        "stages": [{**STAGE, "width": [8, 16]}, {**STAGE, "width": [16, 32]}],
    }
)


def images_and_labels() -> tuple[Tensor, Tensor]:
    """Returns the digits as (1797, 1, 32, 32) and their labels."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16 - 0.5
    return F.interpolate(images, size=32), torch.tensor(digits.target)


def train_and_test(arch: ArchConfig, epochs: int) -> float:
    """Returns the error of a network on the last 297 digits, after it was trained on the others."""
    torch.manual_seed(0)
    images, labels = images_and_labels()
    network = SReT(arch).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(epochs):
        for batch in torch.randperm(1500).split(100):
            loss = F.cross_entropy(network(images[batch]), labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    network.eval()
    with torch.no_grad():
        predicted = network(images[1500:]).argmax(1)
    return (predicted != labels[1500:]).float().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=4)
    options = parser.parse_args()

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        arch, _ = architecture(trial)
        return train_and_test(arch, options.epochs), cost_of(arch).flops

    sampler = StrategySampler("additive", SPACE, Budget(flops_max=200_000), population=4)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    study.optimize(objective, n_trials=options.trials)
    for trial in sorted(study.best_trials, key=lambda trial: trial.values[1]):
        arch = ArchConfig.from_dict(trial.user_attrs["architecture"])
        print(f"{arch.arch_id}: error {100 * trial.values[0]:.1f} %, {trial.values[1]:,.0f} FLOPs")


if __name__ == "__main__":
    main()
