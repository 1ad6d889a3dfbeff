"""Slices of a supernet's shared weights as the parameters of a network, gathered in one node of the autograd graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sret_nas.arrays import IntArray
from sret_nas.nn.network import SReT


@dataclass(frozen=True)
class IndexSet:
    """The indices of one dimension of a shared weight that a network uses."""

    indices: Tensor
    """The used indices, (n,)."""
    positions: Tensor
    """For every index its position among the used ones, or n if it is not used, (N,)."""

    @classmethod
    def of(cls, indices: IntArray, size: int, device: torch.device) -> IndexSet:
        """Returns the set of some indices of a dimension with `size` entries."""
        positions = np.full(size, len(indices))
        positions[indices] = np.arange(len(indices))
        return cls(torch.from_numpy(indices).to(device), torch.from_numpy(positions).to(device))


@dataclass(frozen=True)
class WeightSlice:
    """Which part of a shared weight is a parameter of a network."""

    module: nn.Module
    """The supernet's module that owns the shared weight."""
    name: str
    """The weight's name in that module."""
    shape: torch.Size
    """The shape of the network's parameter."""
    rows: IndexSet | None
    """Used indices of dimension 0; None if all are."""
    columns: IndexSet | None
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
            gradient = gradient.reshape(num_rows, len(self.columns.indices), *shape[2:])
            indices = self.columns.indices.view(-1, *[1] * (len(shape) - 2)).expand_as(gradient)
            padded[:num_rows].scatter_(1, indices, gradient)
        return padded if self.rows is None else padded.index_select(0, self.rows.positions)


class _PackedVectors:
    """All sliced vectors of a network, gathered with one call.

    Most of a network's parameters are biases and norms, so small that a call for each would be mostly overhead.
    """

    def __init__(self, slices: Sequence[WeightSlice]) -> None:
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
        # As in `WeightSlice.scatter`: a 0 is appended, which every unused position selects.
        shared = torch.split(torch.cat([*dense, some.new_zeros(1)]).index_select(0, self.positions), self.lengths)
        return [None if g is None else whole for g, whole in zip(gradients, shared, strict=True)]


class _GatherWeights(torch.autograd.Function):
    """Gathers all sliced parameters of a network in one node of the autograd graph.

    A node for each parameter would slow small networks noticeably. Shared vectors come first in
    the arguments, then the other shared weights.
    """

    @staticmethod
    def forward(
        ctx: Any, vectors: _PackedVectors | None, slices: Sequence[WeightSlice], *shared: Tensor
    ) -> tuple[Tensor, ...]:
        """Returns copies of the used parts of shared weights, in the order of `shared`.

        Args:
            ctx: What `backward` gets: indices and shapes alone, since gradients do not depend on the weights' values.
            vectors: Indices of the shared vectors; None if no vector is sliced.
            slices: Of the other shared weights.
            shared: The vectors, then the others.
        """
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
        """Returns the gradients of `forward`'s arguments, from those of its results.

        They are 0 in the parts that the network does not use. A weight whose result has no gradient has none either.
        """
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


class SlicedNetwork:
    """A network on the meta device, without weights, and the slices of the shared weights that are its parameters."""

    def __init__(self, network: SReT, slices: dict[str, WeightSlice]) -> None:
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
