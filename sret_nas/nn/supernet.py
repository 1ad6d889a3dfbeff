"""The supernet: one set of shared weights, of which every network of a space uses evenly spread slices.

Weights are entangled (AutoFormer, ICCV 2021): a narrower network uses some rows and columns of a wider network's
weights. Channel i of n is channel i * N // n of N. AutoFormer uses the first n of N channels instead, which does not
work here. Poolings are grouped convolutions and attention has heads, so a channel's relative position decides which
others it is connected to. With even spreading, that position is the same in networks of all widths. (With leading
channels, the ratio of two stages' widths decided the ranking of networks: benchmarks/ranking.)

Recursion counts, loop orders, group schedules, heads and permutations own no weights. The forward pass is defined once,
in `network.SReT`: here its parameters are replaced by slices of the shared weights.
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
from sret_nas.nn.layers import NLL, NORM_EPS, Block
from sret_nas.nn.network import SReT
from sret_nas.nn.permutations import FixedPermutations
from sret_nas.nn.stem import Stem, batch_norms
from sret_nas.nn.weight_shapes import Shapes, supernet_shapes
from sret_nas.nn.weights import WeightsFile, check_layout, on_meta_device, write_weights
from sret_nas.space.supernet_shape import SupernetShape, nll_recursions

CACHE_SIZE = 256
"""Networks without weights that a supernet keeps, so that they need not be built again."""

MAX_PAIRS, PAIRS_PER_LOOP = 200_000_000, 1_000
"""Limits on the pooling filters of a supernet in a file: the sum over all pairs of widths, with shared filters counted
for each pair; and what a pair adds to that sum for the time of its own loop."""


class StageWeights(nn.Module):
    """The shared blocks of one stage, and for each block an NLL per recursion after which some network has one."""

    def __init__(self, width: int, blocks: int, mlp_hidden: int, nll_recursions: tuple[int, ...], nll_hidden: int):
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, 1, mlp_hidden) for _ in range(blocks))
        self.nlls = nn.ModuleList(
            nn.ModuleDict({str(recursion): NLL(width, nll_hidden) for recursion in nll_recursions})
            for _ in range(blocks)
        )


class PoolWeights(nn.Module):
    """The pooling between two stages: one 3x3 filter per (output channel, input channel) that some network connects.

    A network's pooling is a convolution in gcd(before, after) groups, so each pair of widths connects other channels.
    Networks share the filters of the channel pairs that they have in common.
    """

    def __init__(self, before: tuple[int, ...], after: tuple[int, ...]) -> None:
        super().__init__()
        self.widths = before[-1], after[-1]
        self.pairs = connected_pairs(before, after)
        self.weight = nn.Parameter(torch.empty(len(self.pairs), 3, 3))
        self.bias = nn.Parameter(torch.zeros(after[-1]))
        fan_in = 9 * (before[-1] // gcd(*self.widths))
        nn.init.normal_(self.weight, std=fan_in**-0.5)  # keeps the variance of the input (He et al., 2015)

    def rows(self, before: int, after: int) -> IntArray:
        """Returns the rows of the weight used by a network with these widths, in the order of the network's filters."""
        pairs = _pairs_of(before, after, self.widths)
        rows = np.searchsorted(self.pairs, pairs)
        assert np.array_equal(self.pairs[rows], pairs), (before, after)
        return rows


def connected_pairs(before: tuple[int, ...], after: tuple[int, ...]) -> IntArray:
    """Returns the channel pairs that some network with these widths connects, ascending, numbered as in `_pairs_of`."""
    is_connected = np.zeros(before[-1] * after[-1], dtype=bool)
    for widths in product(before, after):
        is_connected[_pairs_of(*widths, (before[-1], after[-1]))] = True
    return np.flatnonzero(is_connected)


def _pairs_of(before: int, after: int, widest: tuple[int, int]) -> IntArray:
    """Returns the channel pairs that a network's pooling connects, in the order of the network's filters.

    Args:
        before: the network's width before the pooling.
        after: its width after the pooling.
        widest: the largest widths before and after. A pair is numbered `output * widest[0] + input`, with channels
            of these widths.
    """
    groups = gcd(before, after)
    outputs = spread(after, widest[1]).reshape(groups, -1, 1)
    inputs = spread(before, widest[0]).reshape(groups, 1, -1)
    return (outputs * widest[0] + inputs).ravel()


def pool_shapes(extent: SupernetShape, source: str) -> Shapes:
    """Yields the names and shapes of all pooling filters in `Supernet(extent).state_dict()`.

    Raises `UserError` for an extent with so many widths that counting the filters would take long.
    """
    total = 0
    for index, (before, after) in enumerate(pairwise(extent.stages)):
        widths = np.array(before.widths)[:, None], np.array(after.widths)[None, :]
        total += int((widths[0] * widths[1] // np.gcd(*widths) + PAIRS_PER_LOOP).sum())
        if total > MAX_PAIRS:
            raise UserError(
                f"{source}: {len(before.widths):,} and {len(after.widths):,} widths of stages[{index}] and "
                f"stages[{index + 1}] are too many: poolings between them have {total:,} filters, and at most "
                f"{MAX_PAIRS:,} are possible"
            )
        yield f"pools.{index}.weight", (len(connected_pairs(before.widths, after.widths)), 3, 3)


@dataclass(frozen=True)
class _IndexSet:
    """The indices of one dimension of a shared weight that a network uses."""

    indices: Tensor
    """The used indices, (n,)."""
    positions: Tensor
    """For every index its position among the used ones, or n if it is not used, (N,)."""

    @classmethod
    def of(cls, indices: IntArray, size: int, device: torch.device) -> _IndexSet:
        """Returns the set of some indices of a dimension with `size` entries."""
        positions = np.full(size, len(indices))
        positions[indices] = np.arange(len(indices))
        return cls(torch.from_numpy(indices).to(device), torch.from_numpy(positions).to(device))


@dataclass(frozen=True)
class _WeightSlice:
    """Which part of a shared weight is a parameter of a network."""

    module: nn.Module
    """The supernet's module that owns the shared weight."""
    name: str
    """The weight's name in that module."""
    shape: torch.Size
    """The shape of the network's parameter."""
    rows: _IndexSet | None
    """Used indices of dimension 0; None if all are."""
    columns: _IndexSet | None
    """Used indices of dimension 1; None if all are. Further dimensions are always used whole."""

    @property
    def is_whole(self) -> bool:
        return self.rows is None and self.columns is None

    def gather(self, shared: Tensor) -> Tensor:
        """Returns the network's parameter, a copy of a part of the shared weight."""
        if self.rows is not None:
            shared = shared.index_select(0, self.rows.indices)
        if self.columns is not None:
            shared = shared.index_select(1, self.columns.indices)
        return shared.view(self.shape)

    def scatter(self, gradient: Tensor, shape: torch.Size) -> Tensor:
        """Returns the gradient of the shared weight of that shape, the transpose of `gather`: 0 where it is not used.

        Rows are selected, not written: one row of zeros is appended, and every unused row takes a copy of it.
        `index_select` is faster than writing rows at indices.
        """
        num_rows = shape[0] if self.rows is None else len(self.rows.indices)
        padded = gradient.new_zeros(num_rows if self.rows is None else num_rows + 1, *shape[1:])
        if self.columns is None:
            padded[:num_rows] = gradient.reshape(num_rows, *shape[1:])
        else:
            indices = self.columns.indices.view(-1, *[1] * (len(shape) - 2)).expand_as(gradient)
            padded[:num_rows].scatter_(1, indices, gradient)
        return padded if self.rows is None else padded.index_select(0, self.rows.positions)


class _PackedVectors:
    """All sliced vectors of a network, gathered with one call.

    Most of a network's parameters are biases and norms, so small that a call for each would be mostly overhead.
    """

    def __init__(self, slices: Sequence[_WeightSlice]) -> None:
        index_sets = [weight_slice.rows for weight_slice in slices if weight_slice.rows is not None]
        assert len(index_sets) == len(slices)
        self.used_lengths = [len(index_set.indices) for index_set in index_sets]
        self.lengths = [len(index_set.positions) for index_set in index_sets]
        num_used = sum(self.used_lengths)
        # Where each vector begins in the concatenation of all shared vectors, and of all gathered ones.
        starts, used_starts = np.cumsum([0, *self.lengths]), np.cumsum([0, *self.used_lengths])
        indices = [index_set.indices + start for index_set, start in zip(index_sets, starts, strict=False)]
        positions = [
            (index_set.positions + start).masked_fill(index_set.positions == len(index_set.indices), num_used)
            for index_set, start in zip(index_sets, used_starts, strict=False)
        ]
        self.indices = torch.cat(indices).int()
        """Used indices in the concatenated shared vectors."""
        self.positions = torch.cat(positions).int()
        """For every index its position in the concatenated gathered vectors; one behind the last if it is not used."""

    def gather(self, shared: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Returns the network's vectors, copies of parts of the shared ones."""
        return torch.split(torch.cat(list(shared)).index_select(0, self.indices), self.used_lengths)

    def scatter(self, gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Returns the gradients of the shared vectors: 0 where they are not used, None where no gradient came."""
        some = next((gradient for gradient in gradients if gradient is not None), None)
        if some is None:
            return [None] * len(gradients)
        dense = [some.new_zeros(n) if g is None else g for g, n in zip(gradients, self.used_lengths, strict=True)]
        # As in `_WeightSlice.scatter`: a 0 is appended, which every unused position selects.
        shared = torch.split(torch.cat([*dense, some.new_zeros(1)]).index_select(0, self.positions), self.lengths)
        return [None if g is None else whole for g, whole in zip(gradients, shared, strict=True)]


class _GatherWeights(torch.autograd.Function):
    """Gathers all sliced parameters of a network in one node of the autograd graph.

    A node for each parameter would slow small networks noticeably. Shared vectors come first in
    the arguments, then the other shared weights.
    """

    @staticmethod
    def forward(
        ctx: Any, vectors: _PackedVectors | None, slices: Sequence[_WeightSlice], *shared: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.vectors, ctx.slices, ctx.shapes = vectors, slices, [weight.shape for weight in shared]
        # A weight that the pass did not use (an NLL of a skipped recursion) keeps the gradient None instead of zeros:
        # the optimiser then leaves it alone, without weight decay.
        ctx.set_materialize_grads(False)
        num_vectors = len(shared) - len(slices)
        gathered = () if vectors is None else vectors.gather(shared[:num_vectors])
        return *gathered, *(
            weight_slice.gather(weight) for weight_slice, weight in zip(slices, shared[num_vectors:], strict=True)
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        num_vectors = len(gradients) - len(ctx.slices)
        vectors = () if ctx.vectors is None else ctx.vectors.scatter(gradients[:num_vectors])
        others = zip(ctx.slices, gradients[num_vectors:], ctx.shapes[num_vectors:], strict=True)
        # The first two arguments of `forward` are no tensors and have no gradients.
        return (
            None,
            None,
            *vectors,
            *(
                None if gradient is None else weight_slice.scatter(gradient, shape)
                for weight_slice, gradient, shape in others
            ),
        )


class _MetaNetwork:
    """A network on the meta device, without weights, and the slices of the shared weights that are its parameters."""

    def __init__(self, network: SReT, slices: dict[str, _WeightSlice]) -> None:
        self.network = network
        self.slices = slices
        # Whole parameters are used as they are, without a copy.
        sliced = {name: weight_slice for name, weight_slice in slices.items() if not weight_slice.is_whole}
        vectors = {name: weight_slice for name, weight_slice in sliced.items() if len(weight_slice.shape) == 1}
        others = {name: weight_slice for name, weight_slice in sliced.items() if name not in vectors}
        self._sliced_names = [*vectors, *others]
        self._vectors = _PackedVectors(list(vectors.values())) if vectors else None
        self._others = list(others.values())

    def weights(self) -> dict[str, Tensor]:
        """Returns the network's parameters by name. Gradients flow from them to the shared weights."""
        weights: dict[str, Tensor] = {
            name: getattr(weight_slice.module, weight_slice.name) for name, weight_slice in self.slices.items()
        }
        shared = [weights[name] for name in self._sliced_names]
        gathered: tuple[Tensor, ...] = _GatherWeights.apply(self._vectors, self._others, *shared)
        return weights | dict(zip(self._sliced_names, gathered, strict=True))


class Supernet(nn.Module):
    """The shared weights of all networks inside an extent. `supernet(images, arch)` runs one of them.

    No state depends on which network ran last. The stem's BatchNorm uses the statistics of the current batch in
    training and evaluation, because running averages over different networks would fit none of them. For inference,
    `extract` a network and estimate its statistics (`recalibrate_batch_norm`).
    """

    def __init__(self, extent: SupernetShape) -> None:
        super().__init__()
        self.extent = extent
        self.fresh_permutations = True
        """Whether training draws new permutations at every pass, as in `SReT`."""
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
        self._initialise()
        self._clear_caches()

    def _initialise(self) -> None:
        """Initialises all weights but the poolings', and sets biases to 0.

        Linear layers and the position embedding start small (standard deviation 0.02), so that every block starts near
        the identity; convolutions keep the variance of their input (He et al., 2015). PyTorch's defaults, with which
        networks start, were no gain for a supernet, whose narrow networks would start with the spread of its widest
        fan-in (benchmarks/NOTES.md).
        """
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv2d) and name.startswith("stem."):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def _clear_caches(self) -> None:
        """Empties everything that is derived from the extent and rebuilt on demand."""
        self._meta_networks: OrderedDict[tuple[ArchConfig, torch.device], _MetaNetwork] = OrderedDict()
        self._permutations = FixedPermutations()
        self._index_sets: dict[tuple[int, int, torch.device], _IndexSet] = {}

    def forward(self, images: Tensor, arch: ArchConfig) -> Tensor:
        """Returns the logits (B, classes) of one network; gradients flow to the shared weights.

        Args:
            images: (B, channels, H, W).
            arch: the network, which must lie inside the extent.

        Raises `UserError` for a network outside the extent, or for images that do not fit.
        """
        meta_network = self._meta_network(arch)
        network = meta_network.network
        if network.training != self.training:
            network.train(self.training)
        network.fresh_permutations = self.fresh_permutations
        values = {**meta_network.weights(), **network.fixed_permutations(self.pos_embed.device, self._permutations)}
        logits: Tensor = functional_call(network, values, (images,), tie_weights=False)
        return logits

    @torch.no_grad()
    def extract(self, arch: ArchConfig) -> SReT:
        """Returns a separate network with copies of its shared weights, on their device and with their dtype.

        Its BatchNorm statistics are those of a new network: estimate them before evaluation. Raises `UserError` for a
        network outside the extent.
        """
        weights = self._meta_network(arch).weights()
        network = SReT.empty(arch, self.pos_embed.device, self.pos_embed.dtype)
        for name, parameter in network.named_parameters():
            parameter.copy_(weights[name])
        return network

    def save(self, path: str | Path, training: dict[str, Any]) -> None:
        """Writes the extent, the weights, and plain data about how they were trained."""
        write_weights(path, self.state_dict(), {"extent": self.extent.model_dump(mode="json"), "training": training})

    @classmethod
    def load(cls, path: str | Path) -> tuple[Supernet, dict[str, Any]]:
        """Returns the supernet in a file of `save`, on the CPU, and the data about its training.

        Raises `UserError` if the file does not hold a supernet.
        """
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
        """Returns the state to copy or pickle: everything except caches."""
        caches = ("_meta_networks", "_permutations", "_index_sets")
        return {name: value for name, value in self.__dict__.items() if name not in caches}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._clear_caches()

    def _meta_network(self, arch: ArchConfig) -> _MetaNetwork:
        """Returns a network without weights, from a cache of the `CACHE_SIZE` most recently used."""
        key = arch, self.pos_embed.device
        if key in self._meta_networks:
            self._meta_networks.move_to_end(key)
            return self._meta_networks[key]
        self.extent.check(arch)
        network = on_meta_device(lambda: SReT(arch))
        _use_batch_statistics(network.stem)
        slices = {name: self._slice(name, weight.shape, arch) for name, weight in network.named_parameters()}
        self._meta_networks[key] = _MetaNetwork(network, slices)
        if len(self._meta_networks) > CACHE_SIZE:
            self._meta_networks.popitem(last=False)
        return self._meta_networks[key]

    def _slice(self, name: str, shape: torch.Size, arch: ArchConfig) -> _WeightSlice:
        """Returns the slice of the shared weights that is one parameter of a network.

        Args:
            name: the parameter's name in `SReT(arch)`.
            shape: its shape there.
            arch: the network.
        """
        path = name.split(".")
        if "nlls" in path:  # a network numbers its NLLs; the supernet names them by the recursion that they follow
            path[4] = str(nll_recursions(arch.stages[int(path[1])])[int(path[4])])
        module = self.get_submodule(".".join(path[:-1]))
        shared_shape, device = getattr(module, path[-1]).shape, self.pos_embed.device
        if isinstance(module, PoolWeights) and path[-1] == "weight":
            before, after = (stage.width for stage in arch.stages[int(path[1]) : int(path[1]) + 2])
            filters = _IndexSet.of(module.rows(before, after), len(module.pairs), device)
            return _WeightSlice(module, path[-1], shape, filters, None)
        assert shape[2:] == shared_shape[2:], (name, shape, shared_shape)
        rows = self._index_set(shape[0], shared_shape[0], device)
        columns = self._index_set(shape[1], shared_shape[1], device) if len(shape) > 1 else None
        return _WeightSlice(module, path[-1], shape, rows, columns)

    def _index_set(self, count: int, size: int, device: torch.device) -> _IndexSet | None:
        """Returns `count` evenly spread indices of a dimension with `size` entries; None if that is all of them.

        Parameters and networks share the index sets, which are a few per space.
        """
        if count == size:
            return None
        key = count, size, device
        if key not in self._index_sets:
            self._index_sets[key] = _IndexSet.of(spread(count, size), size, device)
        return self._index_sets[key]


def spread(count: int, size: int) -> IntArray:
    """Returns `count` evenly spread indices below `size`, (count,).

    The rows of a qkv projection are three equal parts, one below the other. Spreading over all of them spreads each
    part in the same way, so that queries, keys and values need no treatment of their own.
    """
    assert count <= size, (count, size)
    return np.arange(count) * size // count


def _use_batch_statistics(stem: nn.Module) -> None:
    """Makes the BatchNorms of a stem always normalise by the statistics of the batch."""
    for norm in batch_norms(stem):
        norm.track_running_stats = False
        norm.running_mean = norm.running_var = norm.num_batches_tracked = None
