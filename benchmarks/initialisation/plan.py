"""Which trainings are run, in the order in which they are: all schemes of a seed before the next seed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.initialisation.schemes import OLD, SCHEMES
from benchmarks.initialisation.setting import LONG, SHORT, DataName, NetworkName, Piece


def pieces(
    data: DataName, network: NetworkName, images: int, seeds: Iterable[int], schemes: Sequence[str]
) -> list[Piece]:
    return [Piece(data, network, images, scheme, seed) for seed in seeds for scheme in schemes]


SCALED, TORCH_SCALED = "linear fan-in x 1, outputs scaled, conv He", "linear torch, outputs scaled, conv He"
ALL_TORCH_SCALED = "torch, outputs scaled"

FINALISTS = [OLD, "torch"]
FIVE = range(5)
HAND_MADE: NetworkName = "hand-made"
SRET_T: NetworkName = "SReT-T's shape"

PIECES = [
    # which scheme?
    *pieces("CIFAR-10", HAND_MADE, SHORT, [0], [scheme for scheme in SCHEMES if scheme != ALL_TORCH_SCALED]),
    *pieces("CIFAR-10", SRET_T, SHORT, [0], [OLD, "torch", "linear torch, conv He", SCALED, TORCH_SCALED]),
    *pieces("CIFAR-10", HAND_MADE, SHORT, [1], [OLD, "torch", TORCH_SCALED]),
    # by how much?
    *pieces("Fashion-MNIST", HAND_MADE, SHORT, [0], FINALISTS),
    *pieces("CIFAR-10", SRET_T, SHORT, [1], FINALISTS),
    *pieces("CIFAR-10", HAND_MADE, LONG, [0], FINALISTS),
    *pieces("Fashion-MNIST", HAND_MADE, SHORT, [1, 2, 3, 4], FINALISTS),
    *pieces("CIFAR-10", HAND_MADE, SHORT, [2, 3, 4], FINALISTS),
    *pieces("CIFAR-10", SRET_T, SHORT, [2, 3, 4], FINALISTS),
    *pieces("CIFAR-10", HAND_MADE, LONG, [1, 2, 3, 4], FINALISTS),
    *pieces("Fashion-MNIST", HAND_MADE, LONG, [0, 1, 2, 3, 4], FINALISTS),
    # and with the outputs scaled, which large networks showed to be better
    *pieces("CIFAR-10", HAND_MADE, LONG, FIVE, [TORCH_SCALED]),
    *pieces("Fashion-MNIST", HAND_MADE, LONG, FIVE, [TORCH_SCALED]),
    *pieces("CIFAR-10", SRET_T, SHORT, [1, 2, 3, 4], [TORCH_SCALED]),
    *pieces("CIFAR-10", HAND_MADE, SHORT, [2, 3, 4], [TORCH_SCALED]),
    *pieces("Fashion-MNIST", HAND_MADE, SHORT, FIVE, [TORCH_SCALED]),
    *pieces("CIFAR-10", HAND_MADE, SHORT, [0], [ALL_TORCH_SCALED]),
]

SUPERNETS = [(scheme, seed) for seed in range(3) for scheme in (*FINALISTS, TORCH_SCALED)]
"""Scheme and seed of each supernet."""
