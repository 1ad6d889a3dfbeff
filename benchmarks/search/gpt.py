"""HW-GPT-Bench (Sukthanker et al., 2024): GPTs whose layers each choose a number of heads and a width of their MLP.

Perplexity comes from the benchmark's own small networks, which were fitted to a trained supernet on OpenWebText. The
parameters are those of its standalone model (`hwgpt/model/gpt_base/model.py` under `hwgpt/configs_api`): 50,254 tokens,
heads of 64 whatever the width, token embedding and output layer not shared, biases everywhere or nowhere but in the
norms, which always have theirs. So heads cost parameters, and the bias choice does too.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sret_nas.arrays import FloatArray, IntArray
from sret_nas.errors import BudgetError
from sret_nas.space.chain import Chain, ChainStage, Point
from sret_nas.space.search_space import Value
from trials.strategies.domain import Domain

VOCABULARY, HEAD_SIZE = 50_254, 64
NUM_STRATA = 16


@dataclass(frozen=True)
class GPT:
    """One network; `mlp_ratios` and `heads` have one number per layer."""

    embed: int
    bias: bool
    mlp_ratios: tuple[float, ...]
    heads: tuple[int, ...]

    @property
    def key(self) -> Hashable:
        return self.embed, self.bias, self.mlp_ratios, self.heads


@dataclass(frozen=True)
class GPTSpace:
    """All GPTs that the choices spell. A *state* is what all layers share: one of `states`."""

    embeds: tuple[int, ...]
    layers: tuple[int, ...]
    heads: tuple[int, ...]
    mlp_ratios: tuple[float, ...] = (2, 3, 4)
    biases: tuple[bool, ...] = (True, False)

    def outer_params(self, embed: int) -> int:
        """Returns parameters outside the layers: embedding, output layer, last norm."""
        return 2 * VOCABULARY * embed + 2 * embed

    def layer_params(self, embed: int, bias: bool, mlp_ratio: float, heads: int) -> int:
        """Returns parameters of a layer: two norms, attention in and out, MLP in and out. Linear in MLP ratio and in
        heads."""
        attended, hidden, one = HEAD_SIZE * heads, int(mlp_ratio * embed), int(bias)
        attention = (embed + one) * 3 * attended + (attended + one) * embed
        return 4 * embed + attention + (embed + one) * hidden + (hidden + one) * embed

    def params(self, network: GPT) -> int:
        """Returns parameters of the standalone model."""
        layers = zip(network.mlp_ratios, network.heads, strict=True)
        inner = (self.layer_params(network.embed, network.bias, ratio, heads) for ratio, heads in layers)
        return self.outer_params(network.embed) + sum(inner)

    @property
    def most_layers(self) -> int:
        return max(self.layers)

    @cached_property
    def states(self) -> tuple[tuple[int, int, bool], ...]:
        """Returns (embed, layers, bias) of every state."""
        return tuple(product(self.embeds, self.layers, self.biases))

    @property
    def num_networks(self) -> int:
        per_layer = len(self.mlp_ratios) * len(self.heads)
        return sum(per_layer**layers for _, layers, _ in self.states)

    def levels(self, network: GPT) -> tuple[int, ...]:
        """Returns a network as numbers: its state, then each layer's MLP level, then each layer's heads level; 0 is
        absent."""
        absent = (0,) * (self.most_layers - len(network.heads))
        ratios = tuple(1 + self.mlp_ratios.index(ratio) for ratio in network.mlp_ratios)
        heads = tuple(1 + self.heads.index(number) for number in network.heads)
        state = self.states.index((network.embed, len(network.heads), network.bias))
        return state, *ratios, *absent, *heads, *absent

    def network(self, levels: tuple[int, ...]) -> GPT:
        """Returns the network of `levels`; what a state has no layer for is ignored."""
        embed, layers, bias = self.states[levels[0]]
        ratios = levels[1 : 1 + layers]
        heads = levels[1 + self.most_layers :][:layers]
        return GPT(
            embed, bias, tuple(self.mlp_ratios[at - 1] for at in ratios), tuple(self.heads[at - 1] for at in heads)
        )

    def params_of_levels(self, levels: IntArray) -> IntArray:
        """Returns parameters, of shape (n,), of networks given as levels, of shape (n, 1 + 2 x most layers)."""
        state, most = levels[:, 0], self.most_layers
        layers = self._layer_table[state[:, None], levels[:, 1 : 1 + most], levels[:, 1 + most :]]
        outer = np.array([self.outer_params(embed) for embed, _, _ in self.states])
        total: IntArray = outer[state] + layers.sum(axis=1)
        return total

    @cached_property
    def _layer_table(self) -> IntArray:
        """Returns a layer's parameters by state, MLP level and heads level; 0 where it is absent."""
        table = np.zeros((len(self.states), 1 + len(self.mlp_ratios), 1 + len(self.heads)), dtype=np.int64)
        for state, mlp, heads in product(*(range(length) for length in table.shape)):
            table[state, mlp, heads] = self._layer_cost(state, mlp, heads) if heads else 0
        return table

    @cached_property
    def chain(self) -> Chain:
        """Returns a chain in which stage 0 chooses the state; every layer then one of the state's choices, or
        its single choice of being
        absent.

        States never change along the chain, so links join equal states and cost nothing.
        """
        number = len(self.states)
        first = ChainStage(
            state=np.arange(number),
            costs=np.array([[self.outer_params(embed)] for embed, _, _ in self.states]),
            attributes=("embed", "layers", "bias"),
            levels=np.array([
                (self.embeds.index(embed), self.layers.index(layers), int(bias)) for embed, layers, bias in self.states
            ]),
        )  # fmt: skip
        same = {(state, state): (0,) for state in range(number)}
        stages = (first, *(self._layer(at) for at in range(self.most_layers)))
        parts = {
            at: (self.embeds.index(embed), self.layers.index(layers), int(bias))
            for at, (embed, layers, bias) in enumerate(self.states)
        }
        return Chain(("params",), stages, (same,) * self.most_layers, (parts,) * len(stages))

    def _layer(self, position: int) -> ChainStage:
        states = range(len(self.states))
        rows = [(state, *choice) for state in states for choice in self._layer_choices(state, position)]
        costs = [[self._layer_cost(*row)] for row in rows]
        table = np.array(rows)
        return ChainStage(table[:, 0], np.array(costs), ("mlp", "heads"), table[:, 1:])

    def _layer_choices(self, state: int, position: int) -> list[tuple[int, int]]:
        if position >= self.states[state][1]:
            return [(0, 0)]
        return list(product(range(1, 1 + len(self.mlp_ratios)), range(1, 1 + len(self.heads))))

    def _layer_cost(self, state: int, mlp: int, heads: int) -> int:
        embed, _, bias = self.states[state]
        return self.layer_params(embed, bias, self.mlp_ratios[mlp - 1], self.heads[heads - 1]) if mlp else 0

    def point(self, network: GPT) -> Point:
        """Returns a network as a point of the chain."""
        levels, most = self.levels(network), self.most_layers
        pairs = zip(levels[1 : 1 + most], levels[1 + most :], strict=True)
        return levels[0], *(self._positions[at][levels[0], mlp, heads] for at, (mlp, heads) in enumerate(pairs))

    @cached_property
    def _positions(self) -> tuple[dict[tuple[int, int, int], int], ...]:
        """Returns, per layer, which choice of the chain (state, MLP level, heads level) is."""
        stages = self.chain.stages[1:]
        return tuple(
            {
                (state, mlp, heads): at
                for at, (state, (mlp, heads)) in enumerate(
                    zip(stage.state.tolist(), stage.levels.tolist(), strict=True)
                )
            }
            for stage in stages
        )

    def network_at(self, point: Point) -> GPT:
        """Returns the network that a point of the chain means."""
        chosen = [stage.levels[at].tolist() for stage, at in zip(self.chain.stages[1:], point[1:], strict=True)]
        return self.network((point[0], *(mlp for mlp, _ in chosen), *(heads for _, heads in chosen)))


HW_GPT = {
    "s": GPTSpace((192, 384, 768), (10, 11, 12), (4, 8, 12)),
    "m": GPTSpace((256, 512, 1024), (22, 23, 24), (8, 12, 16)),
    "l": GPTSpace((320, 640, 1280), (34, 35, 36), (8, 16, 20)),
}


class Perplexity:
    """The benchmark's predictor: one-hot choices through four hidden layers with ReLU, as matrices."""

    def __init__(self, space: GPTSpace, weights: Path) -> None:
        import torch  # only to read the file

        tensors = torch.load(weights, weights_only=True, map_location="cpu")
        self.space = space
        self._layers = [
            (tensors[f"fc{at}.weight"].double().numpy().T, tensors[f"fc{at}.bias"].double().numpy())
            for at in range(1, 6)
        ]  # fmt: skip

    def __call__(self, levels: npt.ArrayLike) -> FloatArray:
        """Returns perplexities, of shape (n,), of networks given as levels, of shape (n, 1 + 2 x most layers)."""
        hidden = self.one_hot(np.asarray(levels, dtype=np.int64))
        for weight, bias in self._layers[:-1]:
            hidden = np.maximum(hidden @ weight + bias, 0)
        weight, bias = self._layers[-1]
        perplexity: FloatArray = (hidden @ weight + bias)[:, 0]
        return perplexity

    def one_hot(self, levels: IntArray) -> FloatArray:
        """Returns embedding, layers, MLP ratios by layer, heads by layer, bias (yes, no); absent layers are zeros."""
        space = self.space
        shared = np.array([
            (*(embed == it for it in space.embeds), *(layers == it for it in space.layers), bias, not bias)
            for embed, layers, bias in space.states
        ], dtype=np.float64)[levels[:, 0]]  # fmt: skip
        per_layer = np.vstack([np.zeros(3), np.eye(3)])[levels[:, 1:]].reshape(len(levels), -1)
        return np.hstack([shared[:, :-2], per_layer, shared[:, -2:]])


def perplexity_of(size: str, shared: Path) -> Perplexity:
    """Returns the predictor of a size: `s`, `m` or `l`. `shared` is the folder that holds the public benchmarks."""
    return Perplexity(HW_GPT[size], shared / "hwgpt" / f"perplexity_{size}.pt")


def _steps(values: tuple[float, ...]) -> tuple[int, ...]:
    """Returns how many steps, as wide as the least gap, each value lies above the least: (8, 16, 20) is (0, 2, 3)."""
    ordered = sorted(values)
    gap = min(high - low for low, high in pairwise(ordered))
    return tuple(round((value - ordered[0]) / gap) for value in values)


class _Sums:
    """Sequences of whole numbers counted by their sum, and drawn uniformly given it."""

    def __init__(self, values: tuple[int, ...], length: int) -> None:
        self.values = values
        self._ways = [[1]]  # of each length, the number of sequences per sum: whole numbers of any size
        for _ in range(length):
            ways = [0] * (len(self._ways[-1]) + max(values))
            for value in values:
                for total, number in enumerate(self._ways[-1]):
                    ways[total + value] += number
            self._ways.append(ways)

    def counts(self, length: int) -> FloatArray:
        return np.array(self._ways[length], dtype=np.float64)

    def draw(self, length: int, total: int, rng: np.random.Generator) -> list[int]:
        """Returns which value each element has: uniform over all sequences with that sum, from the last element
        backwards."""
        chosen = []
        for before in reversed(range(length)):
            ways = [self._at(before, total - value) / self._at(before + 1, total) for value in self.values]
            at = min(int(np.searchsorted(np.cumsum(ways), rng.random(), side="right")), len(ways) - 1)
            chosen.append(at)
            total -= self.values[at]
        return chosen[::-1]

    def _at(self, length: int, total: int) -> int:
        ways = self._ways[length]
        return ways[total] if 0 <= total < len(ways) else 0


@dataclass(frozen=True, eq=False)
class Cells:
    """Networks grouped by what fixes their parameters: state, sum of MLP ratios, sum of heads. One row per group."""

    params: IntArray
    count: FloatArray
    where: IntArray
    """State, sum of the MLP ratios' steps above the least, sum of the heads' steps above the least."""

    def inside(self, least: float, most: float) -> Cells:
        kept = (self.params >= least) & (self.params <= most)
        return Cells(self.params[kept], self.count[kept], self.where[kept])

    @cached_property
    def shares(self) -> FloatArray:
        """Returns cumulative shares of the networks, group by group."""
        total: FloatArray = np.cumsum(self.count)
        return total / total[-1]


class GPTSums:
    """The networks of a space counted by their parameters: a layer's are linear in its MLP ratio and its heads."""

    def __init__(self, space: GPTSpace) -> None:
        self.space = space
        self._ratios = _Sums(_steps(space.mlp_ratios), space.most_layers)
        self._heads = _Sums(_steps(space.heads), space.most_layers)

    @cached_property
    def cells(self) -> Cells:
        groups = [self._of_state(state) for state in range(len(self.space.states))]
        return Cells(*(np.concatenate(columns) for columns in zip(*groups, strict=True)))

    def _of_state(self, state: int) -> tuple[IntArray, FloatArray, IntArray]:
        embed, layers, bias = self.space.states[state]
        count = np.outer(self._ratios.counts(layers), self._heads.counts(layers))
        ratio, head = np.nonzero(count)
        (low_ratio, next_ratio), (low, more) = sorted(self.space.mlp_ratios)[:2], sorted(self.space.heads)[:2]
        least = self.space.layer_params(embed, bias, low_ratio, low)
        per_ratio = self.space.layer_params(embed, bias, next_ratio, low) - least
        per_head = self.space.layer_params(embed, bias, low_ratio, more) - least
        head_unit = sorted(_steps(self.space.heads))[1]
        params = self.space.outer_params(embed) + layers * least + per_ratio * ratio + per_head // head_unit * head
        return params, count[ratio, head], np.column_stack([np.full(len(ratio), state), ratio, head])

    def draw(self, cells: Cells, rng: np.random.Generator) -> GPT:
        """Draws uniformly over the networks of the cells, to the rounding of doubles."""
        at = min(int(np.searchsorted(cells.shares, rng.random(), side="right")), len(cells.shares) - 1)
        state, ratio, head = cells.where[at].tolist()
        embed, layers, bias = self.space.states[state]
        ratios, heads = self._ratios.draw(layers, ratio, rng), self._heads.draw(layers, head, rng)
        return GPT(
            embed,
            bias,
            tuple(self.space.mlp_ratios[level] for level in ratios),
            tuple(self.space.heads[level] for level in heads),
        )


@lru_cache(maxsize=8)
def sums_of(space: GPTSpace) -> GPTSums:
    """Returns a space's sums, kept: every search of it needs them."""
    return GPTSums(space)


class GPTDomain(Domain[GPT]):
    """The GPTs of a space with `least` to `most` parameters. Raises `BudgetError` if there is none."""

    def __init__(self, space: GPTSpace, least: float = 0, most: float = math.inf) -> None:
        self.space = space
        self._bounds = (least, most)
        self._sums = sums_of(space)
        self._cells = self._sums.cells.inside(least, most)
        if len(self._cells.params) == 0:
            raise BudgetError(f"no network of the space has {least:,.0f} to {most:,.0f} parameters; widen the budget")

    @property
    def count(self) -> float:
        """Returns networks inside the budget."""
        return float(self._cells.count.sum())

    @cached_property
    def dimensions(self) -> Mapping[str, tuple[Value, ...]]:
        space, layers = self.space, range(self.space.most_layers)
        return {
            "embed": space.embeds,
            "layers": space.layers,
            "bias": space.biases,
            **{f"mlp.{at}": space.mlp_ratios for at in layers},
            **{f"heads.{at}": space.heads for at in layers},
        }

    def decode(self, values: Mapping[str, Value]) -> GPT:
        layers = range(int(values["layers"]))
        return GPT(
            int(values["embed"]),
            bool(values["bias"]),
            tuple(float(values[f"mlp.{at}"]) for at in layers),
            tuple(int(values[f"heads.{at}"]) for at in layers),
        )

    def encode(self, candidate: GPT) -> dict[str, Value]:
        """Encodes networks; absent layers take the first choices."""
        ratios, heads = dict(enumerate(candidate.mlp_ratios)), dict(enumerate(candidate.heads))
        layers = range(self.space.most_layers)
        return {
            "embed": candidate.embed,
            "layers": len(heads),
            "bias": candidate.bias,
            **{f"mlp.{at}": ratios.get(at, self.space.mlp_ratios[0]) for at in layers},
            **{f"heads.{at}": heads.get(at, self.space.heads[0]) for at in layers},
        }

    def costs(self, candidate: GPT) -> tuple[float, ...]:
        return (self.space.params(candidate),)

    def excess(self, candidate: GPT) -> float:
        (least, most), params = self._bounds, self.space.params(candidate)
        return max(0.0, params / most - 1, least / params - 1)

    def draw(self, rng: np.random.Generator) -> GPT:
        return self._sums.draw(self._cells, rng)

    def draw_stratified(self, rng: np.random.Generator, number: int, by: str) -> list[GPT]:
        """Draws as `sret_nas.feasible.stratified`: as many from each stratum, give or take one, in random order."""
        rounds = -(-number // len(self.strata))
        order = np.concatenate([rng.permutation(len(self.strata)) for _ in range(rounds)])[:number] if number else ()
        return [self._sums.draw(self.strata[at], rng) for at in order]

    @cached_property
    def strata(self) -> tuple[Cells, ...]:
        """Returns at most 16 groups of networks, of equal width in the logarithm of the parameters; empty ones left
        out."""
        edges = np.geomspace(self._cells.params.min(), self._cells.params.max() + 1, NUM_STRATA + 1).round()
        windows = (self._cells.inside(low, high - 1) for low, high in pairwise(edges))
        return tuple(cells for cells in windows if len(cells.params))

    def __iter__(self) -> Iterator[GPT]:
        for embed, layers, bias in self.space.states:
            for ratios in product(self.space.mlp_ratios, repeat=layers):
                for heads in product(self.space.heads, repeat=layers):
                    if self.excess(network := GPT(embed, bias, ratios, heads)) == 0:
                        yield network

    @property
    def chain(self) -> Chain:
        return self.space.chain

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        return (self._bounds,)

    def point(self, candidate: GPT) -> Point:
        return self.space.point(candidate)

    def candidate(self, point: Point) -> GPT:
        return self.space.network_at(point)
