"""Which initialisation suits this family? One command for all of it.

    python -m benchmarks.initialisation.run --data path/to/cifar10 --fashion-mnist path/to/root [--workers 2]

Trains networks, then supernets, from several initialisations and several seeds, then networks of a space from two. Each
training is a JSON line in results/, appended when it ends; what is there is not run again. Then
results/initialisation.json and .md are written; `--report` writes those alone. The root is torchvision's:
Fashion-MNIST's four files lie in FashionMNIST/raw below it.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import fields
from pathlib import Path

import numpy as np

from benchmarks.initialisation import networks, supernets, trainings
from benchmarks.initialisation.plan import PIECES, SUPERNETS
from benchmarks.initialisation.report import figures, markdown
from benchmarks.initialisation.setting import Piece, prepared
from benchmarks.machine import describe_machine
from benchmarks.ranking.metrics import tau_b
from benchmarks.ranking.report import Table
from benchmarks.recorded import BENCHMARKS, RESULTS, Line, begin, header_of, read_lines, run_all
from sret_nas.files import write_atomically

TRAININGS, SUPERNET_TRAININGS = RESULTS / "initialisation_trainings.jsonl", RESULTS / "initialisation_supernets.jsonl"
NETWORK_TRAININGS = RESULTS / "initialisation_networks.jsonl"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="CIFAR-10 as a folder of class folders in train and val")
    parser.add_argument("--fashion-mnist", help="the root of torchvision's Fashion-MNIST")
    parser.add_argument("--work", type=Path, default=BENCHMARKS.parent / "runs" / "initialisation", help="for data")
    parser.add_argument("--workers", type=int, default=2, help="trainings at once, one thread each")
    parser.add_argument("--report", action="store_true", help="run nothing: report the committed results")
    given = parser.parse_args()
    if not given.report and not (given.data and given.fashion_mnist):
        parser.error("--data and --fashion-mnist are needed, except with --report")
    return given


def run(given: argparse.Namespace) -> None:
    """Runs everything that results/ lacks."""
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    folders = {"CIFAR-10": given.work / "cifar10", "Fashion-MNIST": given.work / "fashion-mnist"}
    for folder in folders.values():
        folder.parent.mkdir(parents=True, exist_ok=True)
    prepared("CIFAR-10", given.data, folders["CIFAR-10"])
    prepared("Fashion-MNIST", given.fashion_mnist, folders["Fashion-MNIST"])
    header = describe_machine("torch", "numpy")
    begin(TRAININGS, header)
    done = {_piece_of(line) for line in read_lines(TRAININGS)}
    left = [piece for piece in PIECES if piece not in done]
    tasks = [(trainings.train_and_score, (piece, folders[piece.data].absolute())) for piece in left]
    run_all(TRAININGS, tasks, given.workers)
    begin(SUPERNET_TRAININGS, header)
    trained = {(line["scheme"], line["seed"]) for line in read_lines(SUPERNET_TRAININGS)}
    wanted = [(scheme, seed) for scheme, seed in SUPERNETS if (scheme, seed) not in trained]
    data_dir = folders["CIFAR-10"].absolute()
    run_all(
        SUPERNET_TRAININGS, [(supernets.train_and_score, (*supernet, data_dir)) for supernet in wanted], given.workers
    )

    networks.prepared(given.data, given.work / "cifar10-40px")
    begin(NETWORK_TRAININGS, header)
    there = {(line["number"], line["seed"], line["scheme"], line["images"]) for line in read_lines(NETWORK_TRAININGS)}
    missing = [training for training in networks.PLAN if training not in there]
    data_dir = (given.work / "cifar10-40px").absolute()
    run_all(NETWORK_TRAININGS, [(networks.train_and_score, (*one, data_dir)) for one in missing], given.workers)


def _piece_of(line: Line) -> Piece:
    return Piece(**{field.name: line[field.name] for field in fields(Piece)})


def report() -> None:
    """Writes the report, from the committed results alone."""
    trained_alone = Table.of(read_lines(RESULTS / "ranking_standalone.jsonl")).measured("error")
    supernets_lines = [
        {**line, "tau": round(tau_b(np.array(line["errors"]), trained_alone), 4)}
        for line in read_lines(SUPERNET_TRAININGS)
    ]
    result = {
        **header_of(TRAININGS),
        **figures(read_lines(TRAININGS), supernets_lines, read_lines(NETWORK_TRAININGS)),
    }
    write_atomically(RESULTS / "initialisation.json", json.dumps(result, indent=1) + "\n")
    write_atomically(RESULTS / "initialisation.md", markdown(result))


def main() -> None:
    given = arguments()
    if not given.report:
        run(given)
    report()


if __name__ == "__main__":
    main()
