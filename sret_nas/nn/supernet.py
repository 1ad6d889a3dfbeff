"""The supernet: one set of weights from which every network of a space takes its own, evenly spread slices.

Weights are entangled (AutoFormer, ICCV 2021): a narrower network uses some rows and columns of a wider one's. Not the
first ones: channels keep their places from stage to stage, because pooling is a grouped convolution, and within a
stage, because heads are, so channel i of n is taken to be channel i * N // n of N. Then a channel means the same in
networks of all widths (benchmarks/ranking: with leading slices the ratio of two stages' widths ranked networks).
Recursion counts, loop orders, group schedules, heads and permutations own no weights and so cost none. What a network
computes is written down once, in `network.SReT`: here its parameters are replaced by slices of the shared ones.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise, product
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call

from sret_nas.arch.config import ArchConfig
from sret_nas.arrays import IntArray
from sret_nas.errors import UserError, describe
from sret_nas.files import validate
from sret_nas.nn.layers import NLL, NORM_EPS, Block, Stem
from sret_nas.nn.network import FixedPermutations, SReT, batch_norms, initialise
from sret_nas.nn.weight_shapes import Shapes, supernet_shapes
from sret_nas.nn.weights import WeightsFile, check_layout, on_meta_device, write_weights
from sret_nas.space.supernet_shape import SupernetShape, nll_recursions

CACHE_SIZE = 256
"""Networks without weights that are kept, so that one that comes again need not be built again."""


MAX_PAIRS, PAIRS_PER_LOOP = 200_000_000, 1_000
"""Filters of all poolings that the widths of a file's extent may make, those in common counted each time; the time of
one pair of widths, in filters."""


class StageWeights(nn.Module):
    """The blocks of one stage, and for each block an NLL for every recursion that one follows."""

    def __init__(self, width: int, blocks: int, mlp_hidden: int, nll_recursions: tuple[int, ...], nll_hidden: int):
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, 1, mlp_hidden) for _ in range(blocks))
        self.nlls = nn.ModuleList(
            nn.ModuleDict({str(recursion): NLL(width, nll_hidden) for recursion in nll_recursions})
            for _ in range(blocks)
        )


class PoolWeights(nn.Module):
    """The pooling between two stages: a filter for every pair of an output and an input channel that some network has.

    A network's pooling is a convolution in gcd(before, after) groups, which connect some of the pairs: networks share
    the filters of the pairs that they have in common.
    """

    def __init__(self, before: tuple[int, ...], after: tuple[int, ...]) -> None:
        super().__init__()
        self.widths = before[-1], after[-1]
        self.pairs = connected_pairs(before, after)
        self.weight = nn.Parameter(torch.empty(len(self.pairs), 3, 3))
        self.bias = nn.Parameter(torch.zeros(after[-1]))
        fan_in = 9 * (before[-1] // gcd(*self.widths))
        nn.init.normal_(self.weight, std=fan_in**-0.5)  # as `initialise` does for groups

    def rows(self, before: int, after: int) -> IntArray:
        """Rows of the weight that a network with these widths has, in the order of its own filters."""
        pairs = _pairs_of(before, after, self.widths)
        rows = np.searchsorted(self.pairs, pairs)
        assert np.array_equal(self.pairs[rows], pairs), (before, after)
        return rows


def connected_pairs(before: tuple[int, ...], after: tuple[int, ...]) -> IntArray:
    """The pairs that some network with these widths connects, ascending, as `_pairs_of` numbers them."""
    is_connected = np.zeros(before[-1] * after[-1], dtype=bool)
    for widths in product(before, after):
        is_connected[_pairs_of(*widths, (before[-1], after[-1]))] = True
    return np.flatnonzero(is_connected)


def _pairs_of(before: int, after: int, most: tuple[int, int]) -> IntArray:
    """The pairs, as numbers `output * inputs + input`, that groups connect, in the order of a network's filters.

    `most` are the widest stages before and after, among whose channels they are numbered.
    """
    groups = gcd(before, after)
    outputs = spread(after, most[1]).reshape(groups, -1, 1)
    inputs = spread(before, most[0]).reshape(groups, 1, -1)
    return (outputs * most[0] + inputs).ravel()


def pool_shapes(extent: SupernetShape, source: str) -> Shapes:
    """Yields the names and shapes of all pooling filters in `Supernet(extent).state_dict()`.

    Raises `UserError` for an extent of so many widths that counting the filters would take long.
    """
    total = 0
    for number, (before, after) in enumerate(pairwise(extent.stages)):
        widths = np.array(before.widths)[:, None], np.array(after.widths)[None, :]
        total += int((widths[0] * widths[1] // np.gcd(*widths) + PAIRS_PER_LOOP).sum())
        if total > MAX_PAIRS:
            raise UserError(
                f"{source}: {len(before.widths):,} and {len(after.widths):,} widths of stages[{number}] and "
                f"stages[{number + 1}] are too many: poolings between them have {total:,} filters, and at most "
                f"{MAX_PAIRS:,} are read"
            )
        yield f"pools.{number}.weight", (len(connected_pairs(before.widths, after.widths)), 3, 3)


@dataclass(frozen=True)
class _IndexSet:
    """Which entries of one dimension are kept."""

    entries: Tensor
    """The kept ones, (n,)."""
    places: Tensor
    """For every entry its place among those kept, n if it is not, (N,)."""

    @classmethod
    def of(cls, entries: IntArray, most: int, device: torch.device) -> _IndexSet:
        places = np.full(most, len(entries))
        places[entries] = np.arange(len(entries))
        return cls(torch.from_numpy(entries).to(device), torch.from_numpy(places).to(device))


@dataclass(frozen=True)
class _WeightSlice:
    """Where a parameter of a network lies in the shared weights: its module there, its name in it, its entries."""

    module: nn.Module
    name: str
    shape: torch.Size
    rows: _IndexSet | None
    """Of dimension 0, if that is cut."""
    columns: _IndexSet | None
    """Of dimension 1. No other is ever cut."""

    @property
    def is_whole(self) -> bool:
        return self.rows is None and self.columns is None

    def gather(self, whole: Tensor) -> Tensor:
        if self.rows is not None:
            whole = whole.index_select(0, self.rows.entries)
        if self.columns is not None:
            whole = whole.index_select(1, self.columns.entries)
        return whole.view(self.shape)

    def scatter(self, gradient: Tensor, shape: torch.Size) -> Tensor:
        """The gradient of a whole of that shape: zero wherever nothing was picked.

        Rows that were not picked are copies of one that is appended: to select rows is faster than to write some.
        """
        kept = shape[0] if self.rows is None else len(self.rows.entries)
        padded = gradient.new_zeros(kept if self.rows is None else kept + 1, *shape[1:])
        if self.columns is None:
            padded[:kept] = gradient.reshape(kept, *shape[1:])
        else:
            entries = self.columns.entries.view(-1, *[1] * (len(shape) - 2)).expand_as(gradient)
            padded[:kept].scatter_(1, entries, gradient)
        return padded if self.rows is None else padded.index_select(0, self.rows.places)


class _PackedVectors:
    """Many cut vectors, all picked at once: biases and norms are most of a network's parameters, and tiny."""

    def __init__(self, slices: Sequence[_WeightSlice]) -> None:
        cuts = [place.rows for place in slices if place.rows is not None]
        assert len(cuts) == len(slices)
        self.kept = [len(cut.entries) for cut in cuts]
        self.lengths = [len(cut.places) for cut in cuts]
        starts, firsts, total = np.cumsum([0, *self.lengths]), np.cumsum([0, *self.kept]), sum(self.kept)
        entries = [cut.entries + start for cut, start in zip(cuts, starts, strict=False)]
        places = [
            (cut.places + first).masked_fill(cut.places == len(cut.entries), total)
            for cut, first in zip(cuts, firsts, strict=False)
        ]
        self.entries = torch.cat(entries).int()
        """Of the picked numbers, which of all of them, one vector behind the other."""
        self.places = torch.cat(places).int()
        """Of all numbers, their place among those picked; one behind the last for those that are not."""

    def gather(self, wholes: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return torch.split(torch.cat(list(wholes)).index_select(0, self.entries), self.kept)

    def scatter(self, gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
        """The gradients of the wholes, zero wherever nothing was picked; none where none is given."""
        some = next((gradient for gradient in gradients if gradient is not None), None)
        if some is None:
            return [None] * len(gradients)
        given = [some.new_zeros(n) if g is None else g for g, n in zip(gradients, self.kept, strict=True)]
        wholes = torch.split(torch.cat([*given, some.new_zeros(1)]).index_select(0, self.places), self.lengths)
        return [None if g is None else whole for g, whole in zip(gradients, wholes, strict=True)]


class _GatherWeights(torch.autograd.Function):
    """What a network takes of all parameters, as one node of the graph: small networks would feel one for each.

    Vectors come first.
    """

    @staticmethod
    def forward(
        ctx: Any, vectors: _PackedVectors | None, slices: Sequence[_WeightSlice], *wholes: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.vectors, ctx.slices, ctx.shapes = vectors, slices, [whole.shape for whole in wholes]
        ctx.set_materialize_grads(False)
        number = len(wholes) - len(slices)
        picked = () if vectors is None else vectors.gather(wholes[:number])
        return *picked, *(place.gather(whole) for place, whole in zip(slices, wholes[number:], strict=True))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        number = len(gradients) - len(ctx.slices)
        vectors = () if ctx.vectors is None else ctx.vectors.scatter(gradients[:number])
        places = zip(ctx.slices, gradients[number:], ctx.shapes[number:], strict=True)
        return None, None, *vectors, *(None if g is None else place.scatter(g, shape) for place, g, shape in places)


class _MetaNetwork:
    """A network without weights, and where each of its parameters lies in the shared ones."""

    def __init__(self, network: SReT, slices: dict[str, _WeightSlice]) -> None:
        self.network = network
        self.slices = slices
        cut = {name: place for name, place in slices.items() if not place.is_whole}
        vectors = {name: place for name, place in cut.items() if len(place.shape) == 1}
        others = {name: place for name, place in cut.items() if name not in vectors}
        self._cut_names = [*vectors, *others]
        self._vectors = _PackedVectors(list(vectors.values())) if vectors else None
        self._others = list(others.values())

    def weights(self) -> dict[str, Tensor]:
        """The network's parameters by name; gradients flow from them to the shared ones."""
        weights: dict[str, Tensor] = {name: getattr(place.module, place.name) for name, place in self.slices.items()}
        wholes = [weights[name] for name in self._cut_names]
        picked: tuple[Tensor, ...] = _GatherWeights.apply(self._vectors, self._others, *wholes)
        return weights | dict(zip(self._cut_names, picked, strict=True))


class Supernet(nn.Module):
    """The shared weights of all networks inside an extent. `supernet(images, arch)` runs one of them.

    Nothing remembers which network ran last. The stem's BatchNorm normalises by the batch's own statistics in training
    and evaluation alike, because running averages over different networks would fit none of them: for inference,
    `extract` a network and find its statistics.
    """

    def __init__(self, extent: SupernetShape) -> None:
        super().__init__()
        self.extent = extent
        self.fresh_permutations = True
        """Whether training draws new permutations at every pass, as `SReT` does."""
        widths = [stage.width for stage in extent.stages]
        self.stem = Stem(extent.channels, extent.stem_width, widths[0], extent.strides)
        _use_batch_statistics(self.stem)
        self.pos_embed = nn.Parameter(torch.zeros(1, widths[0], extent.side, extent.side))
        self.stages = nn.ModuleList(
            StageWeights(stage.width, stage.blocks, stage.mlp_hidden, stage.nll_recursions, stage.nll_hidden)
            for stage in extent.stages
        )
        self.pools = nn.ModuleList(
            PoolWeights(before.widths, after.widths) for before, after in pairwise(extent.stages)
        )
        self.norm = nn.LayerNorm(widths[-1], eps=NORM_EPS)
        self.head = nn.Linear(widths[-1], extent.classes)
        initialise(self, self.pos_embed)
        self._forget_derived()

    def _forget_derived(self) -> None:
        """What networks share that holds no weight: it is built again when it is needed."""
        self._skeletons: OrderedDict[tuple[ArchConfig, torch.device], _MetaNetwork] = OrderedDict()
        self._permutations = FixedPermutations()
        self._cuts: dict[tuple[int, int, torch.device], _IndexSet] = {}

    def forward(self, images: Tensor, arch: ArchConfig) -> Tensor:
        """Logits (B, classes) of one network on images (B, channels, H, W); gradients go to the shared weights.

        Raises `UserError` for a network that is not in here, or images that do not fit.
        """
        skeleton = self._skeleton(arch)
        network = skeleton.network
        if network.training != self.training:
            network.train(self.training)
        network.fresh_permutations = self.fresh_permutations
        values = {**skeleton.weights(), **network.fixed_permutations(self.pos_embed.device, self._permutations)}
        logits: Tensor = functional_call(network, values, (images,), tie_weights=False)
        return logits

    @torch.no_grad()
    def extract(self, arch: ArchConfig) -> SReT:
        """A network of its own with copies of the shared weights, on their device and of their type.

        The statistics of its stem's BatchNorm are those of a fresh network: find them before it is evaluated. Raises
        `UserError` for a network that is not in here.
        """
        weights = self._skeleton(arch).weights()
        network = SReT.empty(arch, self.pos_embed.device, self.pos_embed.dtype)
        for name, parameter in network.named_parameters():
            parameter.copy_(weights[name])
        return network

    def save(self, path: str | Path, training: dict[str, Any]) -> None:
        """Writes the extent and the weights, and plain data about how they were trained."""
        write_weights(path, self.state_dict(), {"extent": self.extent.model_dump(mode="json"), "training": training})

    @classmethod
    def load(cls, path: str | Path) -> tuple[Supernet, dict[str, Any]]:
        """The supernet in a file of `save`, on the CPU, and how it was trained. Raises `UserError`."""
        file = WeightsFile(path, "extent", "training")
        extent, training = validate(SupernetShape, file.header["extent"], f"{path}: extent"), file.header["training"]
        if not isinstance(training, dict):
            raise UserError(f"{path}: training: must be a mapping, got {describe(training)}")
        expected = chain(supernet_shapes(extent), pool_shapes(extent, f"{path}: extent"))
        check_layout(expected, file.layout, str(path))
        weights = file.read()
        supernet = on_meta_device(lambda: cls(extent))
        supernet.to(weights["pos_embed"].dtype).to_empty(device="cpu").load_state_dict(weights)
        return supernet, training

    def __getstate__(self) -> dict[str, Any]:
        """What a copy takes along: everything but what it can build again."""
        derived = ("_skeletons", "_permutations", "_cuts")
        return {name: value for name, value in self.__dict__.items() if name not in derived}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._forget_derived()

    def _skeleton(self, arch: ArchConfig) -> _MetaNetwork:
        """The network without weights; of those used before, the last few are kept."""
        key = arch, self.pos_embed.device
        if key in self._skeletons:
            self._skeletons.move_to_end(key)
            return self._skeletons[key]
        self.extent.check(arch)
        network = on_meta_device(lambda: SReT(arch))
        _use_batch_statistics(network.stem)
        slices = {name: self._slice(name, weight.shape, arch) for name, weight in network.named_parameters()}
        self._skeletons[key] = _MetaNetwork(network, slices)
        if len(self._skeletons) > CACHE_SIZE:
            self._skeletons.popitem(last=False)
        return self._skeletons[key]

    def _slice(self, name: str, shape: torch.Size, arch: ArchConfig) -> _WeightSlice:
        """Where the parameter of that name in a network of `arch` lies here."""
        path = name.split(".")
        if "nlls" in path:
            path[4] = str(nll_recursions(arch.stages[int(path[1])])[int(path[4])])
        module = self.get_submodule(".".join(path[:-1]))
        whole, device = getattr(module, path[-1]).shape, self.pos_embed.device
        if isinstance(module, PoolWeights) and path[-1] == "weight":
            before, after = (stage.width for stage in arch.stages[int(path[1]) : int(path[1]) + 2])
            filters = _IndexSet.of(module.rows(before, after), len(module.pairs), device)
            return _WeightSlice(module, path[-1], shape, filters, None)
        assert shape[2:] == whole[2:], (name, shape, whole)
        columns = self._cut(shape[1], whole[1], device) if len(shape) > 1 else None
        return _WeightSlice(module, path[-1], shape, self._cut(shape[0], whole[0], device), columns)

    def _cut(self, number: int, most: int, device: torch.device) -> _IndexSet | None:
        """One for all parameters and networks that are cut alike; None for those that are not."""
        if number == most:
            return None
        key = number, most, device
        if key not in self._cuts:
            self._cuts[key] = _IndexSet.of(spread(number, most), most, device)
        return self._cuts[key]


def spread(number: int, most: int) -> IntArray:
    """`number` of the indices below `most`, (number,), evenly spread.

    Parts of equal sizes, as queries, keys and values are, which lie one below the other, are so spread each alike.
    """
    assert number <= most, (number, most)
    return np.arange(number) * most // number


def _use_batch_statistics(stem: Stem) -> None:
    """Makes the BatchNorms of a stem normalise by a batch's own statistics, always."""
    for norm in batch_norms(stem):
        norm.track_running_stats = False
        norm.running_mean = norm.running_var = norm.num_batches_tracked = None
