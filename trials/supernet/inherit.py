"""Scores subnets with inherited weights, reusing the features of stages that networks have in common.

Two networks with the same stem and first stages compute the same features there. The features of the validation images
are cached after every stage, and a network starts from the longest prefix in the cache. Nothing is approximated: a
score with cached features equals the score without, bit for bit.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

import torch
from torch import Tensor

from sret_nas.arch.config import ArchConfig
from sret_nas.nn.network import SReT
from sret_nas.nn.operating_points import Depth, full_depth
from sret_nas.nn.stem import batch_norms
from sret_nas.nn.supernet import Supernet

from ..data import PreparedData, PreparedPart, batches
from ..training.precision import passes_in
from ..training.recipe import Precision
from ..training.train import Score, first_images, recalibrate_batch_norm, score_logits, slice_part

CACHE_BYTES = 256 * 2**20
"""Memory for cached features in one worker."""


def extract_for_eval(
    supernet: Supernet, arch: ArchConfig, data: PreparedData, batch_size: int, precision: Precision = "fp32"
) -> SReT:
    """Returns a subnet as a separate network, ready for evaluation, with new BatchNorm statistics."""
    network = supernet.extract(arch)
    recalibrate_batch_norm(network, data.train, batch_size, precision=precision)
    return network.eval()


class SubnetScorer:
    """Scores subnets of a supernet on the first `num_images` images of the validation part, or on all (None)."""

    def __init__(
        self, supernet: Supernet, data: PreparedData, batch_size: int, num_images: int | None = None,
        precision: Precision = "fp32", cache_bytes: int = CACHE_BYTES,
    ) -> None:  # fmt: skip
        self.supernet = supernet
        self._data = data
        self._part = data.val if num_images is None else first_images(data.val, num_images)
        self._batch_size, self._precision = batch_size, precision
        self._cache = FeatureCache(cache_bytes)
        self._statistics: dict[Hashable, dict[str, Tensor]] = {}

    @property
    def num_images(self) -> int:
        """The number of images that a full score covers."""
        return len(self._part)

    def part(self, start: int, stop: int) -> PreparedPart:
        """Returns the scored images from `start` to before `stop`."""
        return slice_part(self._part, start, stop)

    @torch.no_grad()
    def score(
        self, arch: ArchConfig, start: int = 0, stop: int | None = None, max_recursions: int | None = None
    ) -> Score:
        """Scores one subnet on the images from `start` to before `stop`, by default on all.

        With `max_recursions`, it is the whole subnet's file of weights, run at a shallower depth. That may differ from
        the subnet of that depth, whose NLLs can be other ones. The cross-entropy may not be finite.
        """
        network, span = self._network(arch), (start, self.num_images if stop is None else stop)
        depth = full_depth(arch if max_recursions is None else arch.with_max_recursions(max_recursions))
        with passes_in(self._precision, network.pos_embed.device):
            num_done, features = self._longest_cached(network, span, depth)
            for stage in range(num_done, len(arch.stages)):
                features = [network.run_stage(stage, batch, depth[stage]) for batch in features]
                if stage < len(arch.stages) - 1:  # a network with all stages in common is the same network
                    self._cache.put((span, _prefix(arch, stage + 1), depth[: stage + 1]), features)
            return score_logits((network.classify(batch) for batch in features), self.part(*span))

    def _network(self, arch: ArchConfig) -> SReT:
        """Returns the subnet in evaluation mode. BatchNorm is in the stem alone, so each stem is calibrated once."""
        network, stem = self.supernet.extract(arch), _prefix(arch, 0)
        if stem not in self._statistics:
            recalibrate_batch_norm(network, self._data.train, self._batch_size, precision=self._precision)
            self._statistics[stem] = {name: value.clone() for name, value in _statistics(network).items()}
        for name, value in _statistics(network).items():
            value.copy_(self._statistics[stem][name])
        return network.eval()

    def _longest_cached(self, network: SReT, span: tuple[int, int], depth: Depth) -> tuple[int, list[Tensor]]:
        """Returns the number of stages of the longest cached prefix, and the images' features after it."""
        for num_stages in range(len(network.arch.stages) - 1, -1, -1):
            features = self._cache.get((span, _prefix(network.arch, num_stages), depth[:num_stages]))
            if features is not None:
                return num_stages, features
        device = network.pos_embed.device
        image_batches = batches(self.part(*span), batch_size=self._batch_size)
        embedded = [network.embed(images.to(device)) for images, _ in image_batches]
        self._cache.put((span, _prefix(network.arch, 0), ()), embedded)
        return 0, embedded


class FeatureCache:
    """Caches features by key, and drops the least recently used beyond a size limit."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._features: OrderedDict[Hashable, list[Tensor]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._features)

    def get(self, key: Hashable) -> list[Tensor] | None:
        """Returns the features of a key, or None."""
        if key not in self._features:
            return None
        self._features.move_to_end(key)
        return self._features[key]

    def put(self, key: Hashable, features: list[Tensor]) -> None:
        """Caches the features of a new key, unless they alone exceed the limit."""
        if _num_bytes(features) > self._max_bytes:
            return
        self._features[key] = features
        self._num_bytes += _num_bytes(features)
        while self._num_bytes > self._max_bytes:
            _, dropped = self._features.popitem(last=False)
            self._num_bytes -= _num_bytes(dropped)


def _prefix(arch: ArchConfig, num_stages: int) -> Hashable:
    """Returns a key for everything that the features after the stem and the first `num_stages` stages depend on."""
    stages = arch.canonical().stages[:num_stages]
    # The first stage's width decides the stem's last two convolutions, also when no stage is in the prefix.
    return arch.stem, arch.stages[0].width, arch.residual if stages else None, stages


def _statistics(network: SReT) -> dict[str, Tensor]:
    """Returns the buffers of all BatchNorms by name."""
    norms = enumerate(batch_norms(network.stem))
    return {f"{index}.{name}": buffer for index, norm in norms for name, buffer in norm.named_buffers()}


def _num_bytes(features: list[Tensor]) -> int:
    return sum(batch.numel() * batch.element_size() for batch in features)
