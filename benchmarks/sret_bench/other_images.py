"""Trains networks of SReT-Bench on other images: is what it says of size true of them, too?

    python -m benchmarks.sret_bench.other_images --images fashion-mnist --data path/to/fashion-mnist [--work DIR]
    python -m benchmarks.sret_bench.other_images --images digits [--work DIR]

The networks are those of the table of trainings on CIFAR-10: at each of eight costs the best structure by the inherited
model, then the worst and the middling one. A process can be killed at any time and carries on where it stopped.
`--publish` writes the compressed table.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.machine import describe_machine
from benchmarks.recorded import RESULTS
from benchmarks.sret_bench import chosen, scratch
from benchmarks.sret_bench.run import WORK, Tables
from benchmarks.sret_bench.setting import Setting, published
from benchmarks.sret_bench.tables import Table


@dataclass(frozen=True)
class Images:
    """Other images, and the lengths of trainings on them."""

    name: str
    lengths: tuple[int, ...]
    short_lengths: tuple[int, ...]
    val_fraction: float

    @property
    def table_name(self) -> str:
        return f"sret_bench_{self.name.replace('-', '_')}.jsonl.gz"

    def setting(self, source: str) -> Setting:
        return replace(
            published(source), lengths=self.lengths, short_lengths=self.short_lengths, val_fraction=self.val_fraction
        )

    def table(self, work: Path, results: Path = RESULTS) -> Table:
        return Table(results / self.table_name, work / self.name / "scratch.jsonl", scratch.KEY)


FASHION = Images(
    "fashion-mnist", (8_000, 16_000, 32_000, 64_000, 125_000, 250_000, 500_000), (16_000, 64_000), val_fraction=0.1
)
DIGITS = Images("digits", (2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000), (4_000, 16_000), val_fraction=0.2)
"""The digits of scikit-learn: a fiftieth of the images, so trainings are a quarter as long."""
ALL_IMAGES = {images.name: images for images in (FASHION, DIGITS)}


def run(
    images: Images, setting: Setting, networks: list[chosen.Chosen], work: Path, results: Path = RESULTS,
    structures: Sequence[str] = chosen.STRUCTURES,
) -> None:  # fmt: skip
    """Runs all trainings that the table of these images lacks, the best structures first."""
    from trials.training.devices import compute_with

    compute_with(1)
    data = setting.prepared(work / images.name / "data")
    table = images.table(work, results)
    about = {
        **describe_machine("torch", "numpy"),
        "data": data.summary().replace(setting.source, images.name),
        "image_size": setting.image_size,
        "precision": setting.precision,
        "recipe": setting.training(setting.lengths[-1]).model_dump(),
    }
    table.begin(about)
    for structure in structures:
        of_structure = [network for network in networks if network.structure == structure]
        for training in scratch.trainings(setting, of_structure):
            print(training.name, flush=True)
            scratch.run(setting, training, data, work / images.name, table)


def networks_on_cifar() -> list[chosen.Chosen]:
    """Returns the networks that the published table of trainings names."""
    header = Tables.open(Path("nothing")).scratch.header
    return [chosen.Chosen.from_dict(network) for network in header["networks"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, choices=list(ALL_IMAGES))
    parser.add_argument("--data", default="digits", help="a folder of class folders in train and val; not for digits")
    parser.add_argument("--work", type=Path, default=WORK, help="for images, checkpoints and growing tables")
    parser.add_argument("--structures", nargs="+", choices=chosen.STRUCTURES, default=chosen.STRUCTURES)
    parser.add_argument("--publish", action="store_true", help="write the compressed table of what is there")
    given = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    images = ALL_IMAGES[given.images]
    if given.publish:
        images.table(given.work).publish()
    else:
        run(images, images.setting(given.data), networks_on_cifar(), given.work, structures=given.structures)


if __name__ == "__main__":
    main()
