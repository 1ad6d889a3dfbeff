"""HW-GPT-Bench (Sukthanker et al., 2024): GPTs whose layers each choose a number of heads and a width of their MLP.

Perplexity comes from the benchmark's own small networks, which were fitted to a trained supernet on OpenWebText. The
parameters are those of its standalone model (`hwgpt/model/gpt_base/model.py` under `hwgpt/configs_api`): 50,254 tokens,
heads of 64 whatever the width, token embedding and output layer not shared, biases everywhere or nowhere but in the
norms, which always have theirs. So heads cost parameters, and the bias choice does too.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sret_nas.arrays import FloatArray, IntArray
from sret_nas.space.chain import Chain, ChainStage, Point

VOCABULARY, HEAD_SIZE = 50_254, 64


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
        """A layer's parameters by state, MLP level and heads level; 0 where it is absent."""
        table = np.zeros((len(self.states), 1 + len(self.mlp_ratios), 1 + len(self.heads)), dtype=np.int64)
        for state, mlp, heads in product(*(range(length) for length in table.shape)):
            table[state, mlp, heads] = self._layer_cost(state, mlp, heads) if heads else 0
        return table

    @cached_property
    def chain(self) -> Chain:
        """A chain in which stage 0 chooses the state; every layer then one of the state's choices, or
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
