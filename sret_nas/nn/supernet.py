"""The supernet: one set of shared weights, of which every network of a space uses evenly spread slices.

Weights are entangled (AutoFormer, ICCV 2021): a narrower network uses some rows and columns of a wider network's
weights. Channel i of n is channel i * N // n of N. AutoFormer uses the first n of N channels instead, which does not
work here. Poolings are grouped convolutions and attention has heads, so a channel's relative position decides which
others it is connected to. With even spreading, that position is the same in networks of all widths. (With leading
channels, the ratio of two stages' widths decided the ranking of networks: benchmarks/ranking.)

Recursion counts, loop orders, group schedules, attention heads and permutations own no weights. Stems of convolutions
share theirs, and the scale and shift of their norms, whatever the norm; patch embeddings have their own. Residual
connections share the coefficients of their branches, heads the last norm, the classifier and the class token. The
forward pass is defined once, in `network.SReT`: here its parameters are replaced by slices of the shared weights.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from sret_nas.arch.config import ArchConfig
from sret_nas.errors import UserError, describe
from sret_nas.files import validate
from sret_nas.nn.initialisation import initialise_convolutions, initialise_position_embedding
from sret_nas.nn.layers import NORM_EPS
from sret_nas.nn.network import SReT
from sret_nas.nn.permutations import FixedPermutations
from sret_nas.nn.shared_weights import (
    ClassTokenWeights,
    PoolWeights,
    StageWeights,
    StemWeights,
    pool_shapes,
    spread,
)
from sret_nas.nn.stem import batch_norms
from sret_nas.nn.weight_shapes import supernet_shapes
from sret_nas.nn.weight_slices import IndexSet, SlicedNetwork, WeightSlice
from sret_nas.nn.weights import WeightsFile, check_layout, on_meta_device, with_empty_tensors, write_weights
from sret_nas.space.supernet_shape import SupernetShape, nll_recursions

CACHE_SIZE = 256
"""Networks without weights that a supernet keeps, so that they need not be built again."""


class Supernet(nn.Module):
    """The shared weights of all networks inside a shape. `supernet(images, arch)` runs one of them.

    No state depends on which network ran last. The stem's BatchNorm uses the statistics of the current batch in
    training and evaluation, because running averages over different networks would fit none of them. For inference,
    `extract` a network and estimate its statistics (`recalibrate_batch_norm`).
    """

    def __init__(self, shape: SupernetShape) -> None:
        super().__init__()
        self.shape = shape
        self.fresh_permutations = True
        """Whether training draws new permutations at every pass, as in `SReT`."""
        widths = [stage.width for stage in shape.stages]
        self.stem = StemWeights(shape)
        self.pos_embed = nn.Parameter(torch.zeros(1, widths[0], shape.side, shape.side))
        self.stages = nn.ModuleList(StageWeights(stage, shape.widest_residual) for stage in shape.stages)
        self.pools = nn.ModuleList(PoolWeights(before.widths, after.widths) for before, after in pairwise(shape.stages))
        count = shape.class_tokens
        self.class_tokens = ClassTokenWeights(count, widths[-1]) if count else None
        self.norm = nn.LayerNorm(widths[-1], eps=NORM_EPS)
        self.head = nn.Linear(widths[-1], shape.classes)
        self.head_dist = nn.Linear(widths[-1], shape.classes) if count == 2 else None
        self._initialise()
        self._clear_caches()

    def _initialise(self) -> None:
        """Initialises all weights but the poolings', and sets biases to 0.

        Linear layers and the position embedding start small (standard deviation 0.02), so that every block starts near
        the identity; convolutions are drawn as a network's. The rule of networks for linear layers was no gain for a
        supernet, and PyTorch's defaults were worse (docs/results.md): its narrow networks would start with the spread
        of its widest fan-in.
        """
        initialise_position_embedding(self.pos_embed)
        if self.class_tokens is not None:
            for tokens in self.class_tokens.parameters():
                nn.init.trunc_normal_(tokens, std=0.02)
        initialise_convolutions(self.stem)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def _clear_caches(self) -> None:
        """Empties everything that is derived from the shape and rebuilt on demand."""
        self._sliced_networks: OrderedDict[tuple[ArchConfig, torch.device], SlicedNetwork] = OrderedDict()
        self._permutations = FixedPermutations()
        self._index_sets: dict[tuple[int, int, torch.device], IndexSet] = {}

    def forward(self, images: Tensor, arch: ArchConfig) -> Tensor:
        """Returns the logits (B, classes) of one network; gradients flow to the shared weights.

        Args:
            images: (B, channels, H, W).
            arch: the network, which must lie inside the shape.

        Raises `UserError` for a network outside the shape, or for images that do not fit.
        """
        sliced = self._sliced_network(arch)
        network = sliced.network
        if network.training != self.training:
            network.train(self.training)
        network.fresh_permutations = self.fresh_permutations
        values = {**sliced.weights(), **network.fixed_permutations(self.pos_embed.device, self._permutations)}
        logits: Tensor = functional_call(network, values, (images,), tie_weights=False)
        return logits

    @torch.no_grad()
    def extract(self, arch: ArchConfig) -> SReT:
        """Returns a separate network with copies of its shared weights, on their device and with their dtype.

        Its BatchNorm statistics are those of a new network: estimate them before evaluation. Raises `UserError` for a
        network outside the shape.
        """
        weights = self._sliced_network(arch).weights()
        network = SReT.empty(arch, self.pos_embed.device, self.pos_embed.dtype)
        for name, parameter in network.named_parameters():
            parameter.copy_(weights[name])
        return network

    def save(self, path: str | Path, training: dict[str, Any]) -> None:
        """Writes the shape, the weights, and plain data about how they were trained."""
        write_weights(path, self.state_dict(), {"extent": self.shape.model_dump(mode="json"), "training": training})

    @classmethod
    def load(cls, path: str | Path) -> tuple[Supernet, dict[str, Any]]:
        """Returns the supernet in a file of `save`, on the CPU, and the data about its training.

        Raises `UserError` if the file does not hold a supernet.
        """
        file = WeightsFile(path, "extent", "training")
        shape, training = validate(SupernetShape, file.header["extent"], f"{path}: extent"), file.header["training"]
        if not isinstance(training, dict):
            raise UserError(f"{path}: training: must be a mapping, got {describe(training)}")
        expected = chain(supernet_shapes(shape), pool_shapes(shape, f"{path}: extent"))
        check_layout(expected, file.layout, str(path))
        weights = file.read()
        supernet = on_meta_device(lambda: cls(shape))
        with_empty_tensors(supernet.to(weights["pos_embed"].dtype), torch.device("cpu")).load_state_dict(weights)
        return supernet, training

    def __getstate__(self) -> dict[str, Any]:
        """Returns the state to copy or pickle: everything except caches."""
        caches = ("_sliced_networks", "_permutations", "_index_sets")
        return {name: value for name, value in self.__dict__.items() if name not in caches}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._clear_caches()

    def _sliced_network(self, arch: ArchConfig) -> SlicedNetwork:
        """Returns a network without weights, from a cache of the `CACHE_SIZE` most recently used."""
        key = arch, self.pos_embed.device
        if key in self._sliced_networks:
            self._sliced_networks.move_to_end(key)
            return self._sliced_networks[key]
        self.shape.check(arch)
        network = on_meta_device(lambda: SReT(arch))
        _use_batch_statistics(network.stem)
        slices = {name: self._slice(name, weight.shape, arch) for name, weight in network.named_parameters()}
        self._sliced_networks[key] = SlicedNetwork(network, slices)
        if len(self._sliced_networks) > CACHE_SIZE:
            self._sliced_networks.popitem(last=False)
        return self._sliced_networks[key]

    def _slice(self, name: str, shape: torch.Size, arch: ArchConfig) -> WeightSlice:
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
            filters = IndexSet.of(module.rows(before, after), len(module.pairs), device)
            return WeightSlice(module, path[-1], shape, filters, None)
        if isinstance(module, ClassTokenWeights):  # (1, tokens, D) in a network
            # Never used whole: as views, embedding and position would have one tensor as their gradient.
            used = IndexSet.of(spread(shape[2], shared_shape[1]), shared_shape[1], device)
            first = self._index_set(shape[1], shared_shape[0], device)  # the class token is the first of two
            return WeightSlice(module, path[-1], shape, first, used)
        if path[-1] == "coefficients" and shape != shared_shape:  # of the branches alone
            used = IndexSet.of(2 * np.arange(shape[0]) + 1, shared_shape[0], device)
            return WeightSlice(module, path[-1], shape, used, None)
        assert shape[2:] == shared_shape[2:], (name, shape, shared_shape)
        rows = self._index_set(shape[0], shared_shape[0], device)
        columns = self._index_set(shape[1], shared_shape[1], device) if len(shape) > 1 else None
        return WeightSlice(module, path[-1], shape, rows, columns)

    def _index_set(self, count: int, size: int, device: torch.device) -> IndexSet | None:
        """Returns `count` evenly spread indices of a dimension with `size` entries; None if that is all of them.

        Parameters and networks share the index sets, which are a few per space.
        """
        if count == size:
            return None
        key = count, size, device
        if key not in self._index_sets:
            self._index_sets[key] = IndexSet.of(spread(count, size), size, device)
        return self._index_sets[key]


def _use_batch_statistics(stem: nn.Module) -> None:
    """Makes the BatchNorms of a stem always normalise by the statistics of the batch."""
    for norm in batch_norms(stem):
        norm.track_running_stats = False
        norm.running_mean = norm.running_var = norm.num_batches_tracked = None
