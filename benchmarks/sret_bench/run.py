"""Makes the tables of SReT-Bench, piece by piece: it can be killed at any time, and carries on where it stopped.

    python -m benchmarks.sret_bench.run --data path/to/cifar10 [--work DIR]
    python -m benchmarks.sret_bench.run --data path/to/cifar10 [--work DIR] --pieces trainings
    python -m benchmarks.sret_bench.run --data path/to/cifar10 [--work DIR] --plan

One process, one thread; pieces that add to different tables may run in processes of their own. Supernets and long
trainings write checkpoints, and every score is a JSON line in the work directory as soon as it is there. `--plan` runs
nothing: it times a few steps and says how long each piece takes. `python -m benchmarks.sret_bench.report` publishes
what is there, and carries on from what was published.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.machine import describe_machine
from benchmarks.recorded import BENCHMARKS, RESULTS
from benchmarks.sret_bench import chosen, inherited, precision, scratch
from benchmarks.sret_bench.setting import Setting, published
from benchmarks.sret_bench.tables import Line, Table
from trials.data import PreparedData

WORK = BENCHMARKS.parent / "runs" / "sret_bench"


@dataclass(frozen=True)
class Tables:
    """The tables: scores with inherited weights, trainings from scratch, and what precision changes."""

    inherited: Table
    scratch: Table
    precision: Table

    @classmethod
    def open(cls, work: Path, results: Path = RESULTS) -> Tables:
        def table(name: str, key: Sequence[str]) -> Table:
            return Table(results / f"sret_bench_{name}.jsonl.gz", work / f"{name}.jsonl", key)

        return cls(table("inherited", inherited.KEY), table("scratch", scratch.KEY), table("precision", precision.KEY))

    @property
    def all(self) -> tuple[Table, ...]:
        return self.inherited, self.scratch, self.precision


Piece = tuple[str, Callable[[], None]]


def pieces(setting: Setting, data: PreparedData, work: Path, tables: Tables) -> list[Piece]:
    """Returns what is run, in an order in which every beginning is useful."""
    first, *others = setting.supernet_seeds

    def from_scratch(repeated: bool) -> None:
        networks = networks_of(setting, first, tables)
        runs = scratch.repeats(setting, networks) if repeated else scratch.trainings(setting, networks)
        for training in runs:
            scratch.run(setting, training, data, work, tables.scratch)

    def fill_supernet(seed: int) -> None:
        inherited.fill(setting, seed, data, work, tables.inherited)

    return [
        (f"supernet {first} and its scores", partial(fill_supernet, first)),
        ("trainings from scratch", partial(from_scratch, False)),
        *((f"supernet {seed} and its scores", partial(fill_supernet, seed)) for seed in others),
        ("trainings from scratch, second seeds", partial(from_scratch, True)),
        ("precision", partial(precision.fill, setting, data, work, tables.precision)),
    ]


def networks_of(setting: Setting, supernet: int, tables: Tables) -> list[chosen.Chosen]:
    """Returns the networks that are trained from scratch: those that the table names, once it has been begun."""
    named = tables.scratch.header.get("networks")
    if named is None:
        lines = sorted((line for line in tables.inherited.lines if line["supernet"] == supernet), key=_number)
        found = chosen.choose(setting, lines)
        about = {name: tables.inherited.header[name] for name in ("data", "image_size", "precision")}
        named = [network.to_dict() for network in found]
        recipe = setting.training(setting.lengths[-1]).model_dump()
        machine = describe_machine("torch", "numpy")
        costs = chosen.costs(setting)
        tables.scratch.begin({**machine, **about, "costs": costs, "recipe": recipe, "networks": named})
    return [chosen.Chosen.from_dict(network) for network in named]


def _number(line: Line) -> int:
    number: int = line["number"]
    return number


def begin(setting: Setting, data: PreparedData, tables: Tables) -> None:
    """Records how new tables are made; that of trainings follows when its networks are known."""
    about = {
        **describe_machine("torch", "numpy"),
        "data": data.summary().replace(setting.source, "cifar10"),
        "image_size": setting.image_size,
        "precision": setting.precision,
    }
    config = setting.supernet_config(setting.supernet_images, setting.precision).model_dump(mode="json")
    tables.inherited.begin({**about, "supernet": config})
    short = setting.supernet_config(setting.precision_images, setting.precision).model_dump(mode="json")
    tables.precision.begin({**about, "supernet": short})


def run(setting: Setting, work: Path, results: Path = RESULTS, beginning: Sequence[str] = ("",)) -> None:
    """Runs all that the tables lack, in pieces whose names begin with one of `beginning`."""
    from trials.training.devices import compute_with

    compute_with(1)
    data = setting.prepared(work / "data")
    tables = Tables.open(work, results)
    begin(setting, data, tables)
    for name, piece in pieces(setting, data, work, tables):
        if name.startswith(tuple(beginning)):
            print(name, flush=True)
            piece()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="CIFAR-10 as a folder of class folders in train and val")
    parser.add_argument("--work", type=Path, default=WORK, help="for images, checkpoints and growing tables")
    parser.add_argument(
        "--pieces", nargs="+", default=[""], metavar="NAME", help="beginnings of names: supernet, trainings, precision"
    )
    parser.add_argument("--plan", action="store_true", help="measure, and say how long everything takes")
    given = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    if given.plan:
        from benchmarks.sret_bench.plan import print_plan

        print_plan(published(given.data), given.work)
    else:
        run(published(given.data), given.work, beginning=given.pieces)


if __name__ == "__main__":
    main()
