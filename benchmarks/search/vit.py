"""ViT-Bench-101 (Wei et al., 2024): 100 ViTs each of an AutoFormer-like and a PiT space, trained alone on small data.

Parameters in closed form, of the benchmark's standalone models (`pycls/models/auto/autoformer_subnet.py`,
`pit_subnet.py`) at 224 px with 100 classes and one token. In both, the width of attention is the embedding's, so
AutoFormer's heads cost nothing; a PiT's heads multiply its width.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from benchmarks.search.gpt import GPT, GPTSpace
from benchmarks.search.gpt_domain import GPTDomain
from sret_nas.space.chain import Chain, ChainStage, Point
from sret_nas.space.search_space import Value
from trials.strategies.domain import Domain
from trials.strategies.table import TableDomain

CLASSES, IMAGE_SIZE, PATCH_SIZE = 100, 224, 16
PIT_STRIDE = 8
DATASETS = {"c100": "CIFAR-100", "flower": "Flowers", "chaoyang": "Chaoyang"}


def block_params(width: int, mlp_ratio: float) -> int:
    """Returns parameters of a transformer block with biases everywhere: two norms, attention, MLP."""
    hidden = int(width * mlp_ratio)
    return 4 * width + (width + 1) * 3 * width + (width + 1) * width + (width + 1) * hidden + (hidden + 1) * width


def entry_params(width: int, positions: int) -> int:
    """Returns parameters of the patch embedding, a class token and positions."""
    return (3 * PATCH_SIZE**2 + 1) * width + width + positions * width


def exit_params(width: int) -> int:
    """Returns parameters of the last norm and the output layer."""
    return 2 * width + (width + 1) * CLASSES


class AutoFormerSpace(GPTSpace):
    """ViTs whose layers choose heads and MLP ratio; the choices are of the same shape as a GPT's."""

    def outer_params(self, embed: int) -> int:
        return entry_params(embed, (IMAGE_SIZE // PATCH_SIZE) ** 2 + 1) + exit_params(embed)

    def layer_params(self, embed: int, bias: bool, mlp_ratio: float, heads: int) -> int:
        return block_params(embed, mlp_ratio)


AUTOFORMER = AutoFormerSpace((192, 216, 240), (12, 13, 14), (3, 4), mlp_ratios=(3.5, 4.0), biases=(True,))


@dataclass(frozen=True)
class PiT:
    """A pooling-based ViT of three stages."""

    base: int
    mlp_ratio: int
    depth: tuple[int, ...]
    heads: tuple[int, ...]

    @property
    def key(self) -> Hashable:
        return self.base, self.mlp_ratio, self.depth, self.heads


def pooling_params(width: int, next_width: int) -> int:
    """Returns parameters of the pooling between two stages: a depth-wise 3 x 3 convolution, and
    a layer for the token."""
    return (9 + 1) * next_width + (width + 1) * next_width


class PiTDomain(Domain[PiT]):
    """All PiTs of the space, 4,320; heads never decrease. There is no budget."""

    bases, mlp_ratios, depths, heads = (16, 24, 32, 40), (2, 4, 6, 8), ((1, 2, 3), (4, 6, 8), (2, 4, 6)), (2, 4, 8)

    @cached_property
    def dimensions(self) -> Mapping[str, tuple[Value, ...]]:
        return {
            "base": self.bases,
            "mlp": self.mlp_ratios,
            **{f"depth.{stage}": choices for stage, choices in enumerate(self.depths)},
            **{f"heads.{stage}": self.heads for stage in range(3)},
        }

    def decode(self, values: Mapping[str, Value]) -> PiT | None:
        depth = tuple(int(values[f"depth.{stage}"]) for stage in range(3))
        heads = tuple(int(values[f"heads.{stage}"]) for stage in range(3))
        return PiT(int(values["base"]), int(values["mlp"]), depth, heads) if list(heads) == sorted(heads) else None

    def encode(self, candidate: PiT) -> dict[str, Value]:
        depth = {f"depth.{stage}": number for stage, number in enumerate(candidate.depth)}
        heads = {f"heads.{stage}": number for stage, number in enumerate(candidate.heads)}
        return {"base": candidate.base, "mlp": candidate.mlp_ratio, **depth, **heads}

    def costs(self, candidate: PiT) -> tuple[float, ...]:
        return (int(self.chain.costs([self.point(candidate)])[0, 0]),)

    def excess(self, candidate: PiT) -> float:
        return 0.0

    def draw(self, rng: np.random.Generator) -> PiT:
        return self._all.draw(rng)

    def draw_stratified(self, rng: np.random.Generator, number: int, by: str) -> list[PiT]:
        return self._all.draw_stratified(rng, number, by)

    @cached_property
    def _all(self) -> TableDomain[PiT]:
        return TableDomain(self, list(self))

    def __iter__(self) -> Iterator[PiT]:
        names, choices = list(self.dimensions), self.dimensions.values()
        networks = (self.decode(dict(zip(names, values, strict=True))) for values in product(*choices))
        return (network for network in networks if network is not None)

    @cached_property
    def _rows(self) -> list[list[tuple[int, int, int, int]]]:
        """Returns, per stage, base, MLP ratio, heads and depth of every choice."""
        return [list(product(self.bases, self.mlp_ratios, self.heads, depths)) for depths in self.depths]

    @cached_property
    def _states(self) -> list[tuple[int, int, int]]:
        return list(product(self.bases, self.mlp_ratios, self.heads))

    @cached_property
    def chain(self) -> Chain:
        """Three stages of (base, MLP ratio, heads) and depth; links keep the base and the ratio."""
        links = {
            (first, second): (pooling_params(base * heads, base * next_heads),)
            for first, (base, ratio, heads) in enumerate(self._states)
            for second, (next_base, next_ratio, next_heads) in enumerate(self._states)
            if (next_base, next_ratio) == (base, ratio) and next_heads >= heads
        }
        return Chain(("params",), tuple(self._stage(at) for at in range(3)), (links, links))

    def _stage(self, at: int) -> ChainStage:
        positions = ((IMAGE_SIZE - PATCH_SIZE) // PIT_STRIDE + 1) ** 2
        rows, costs = self._rows[at], []
        for base, ratio, heads, depth in rows:
            outer = (entry_params(base * heads, positions), 0, exit_params(base * heads))[at]
            costs.append([depth * block_params(base * heads, ratio) + outer])
        choices: tuple[Any, ...] = (self.bases, self.mlp_ratios, self.heads, self.depths[at])
        levels = [[values.index(value) for values, value in zip(choices, row, strict=True)] for row in rows]
        return ChainStage(
            np.array([self._states.index(row[:3]) for row in rows]),
            np.array(costs),
            ("base", "mlp", "heads", "depth"),
            np.array(levels),
        )

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        return ((0, float("inf")),)

    def point(self, candidate: PiT) -> Point:
        parts = zip(self._rows, candidate.heads, candidate.depth, strict=True)
        return tuple(rows.index((candidate.base, candidate.mlp_ratio, heads, depth)) for rows, heads, depth in parts)

    def candidate(self, point: Point) -> PiT:
        rows = [rows[at] for rows, at in zip(self._rows, point, strict=True)]
        base, ratio, _, _ = rows[0]
        return PiT(base, ratio, tuple(row[3] for row in rows), tuple(row[2] for row in rows))


C = TypeVar("C")
Errors = dict[Hashable, float]


def autoformer_table(dataset: str, shared: Path) -> tuple[TableDomain[GPT], Errors]:
    """Returns the measured AutoFormers and their error in %, by key: trained on `dataset` with distillation."""
    rows = _read(shared / "vitbench101" / "gt_autoformer.pth", dataset)
    networks = [GPT(arch["hidden_dim"], True, tuple(arch["mlp_ratio"]), tuple(arch["num_heads"])) for arch, _ in rows]
    errors = {network.key: error for network, (_, error) in zip(networks, rows, strict=True)}
    return TableDomain(GPTDomain(AUTOFORMER), networks), errors


def pit_table(dataset: str, shared: Path) -> tuple[TableDomain[PiT], Errors]:
    """Returns the measured PiTs and their error in %, by key: trained on `dataset` with distillation."""
    rows = _read(shared / "vitbench101" / "gt_pit.pth", dataset)
    networks = [
        PiT(arch["base_dim"], arch["mlp_ratio"], tuple(arch["depth"]), tuple(arch["num_heads"])) for arch, _ in rows
    ]
    errors = {network.key: error for network, (_, error) in zip(networks, rows, strict=True)}
    return TableDomain(PiTDomain(), networks), errors


def _read(path: Path, dataset: str) -> list[tuple[dict[str, Any], float]]:
    """Reads architecture and error in % of each network."""
    import torch  # only to read the file

    rows = torch.load(path, weights_only=True, map_location="cpu")
    return [(row["arch"], 100 - row[f"{dataset}_kd_acc"]) for row in rows]
