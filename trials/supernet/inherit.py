"""Subnets with weights inherited from a supernet, scored on the same images in the same order.

Networks that begin alike compute alike: what the stem and the first stages make of the validation images is kept, and
the next network that begins with the same takes it from there. Nothing is approximated: a score with kept features
equals the one without bit for bit.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

import torch
from torch import Tensor

from sret_nas.arch.config import ArchConfig
from sret_nas.nn.network import SReT, batch_norms
from sret_nas.nn.supernet import Supernet

from ..data import PreparedData, batches
from ..training.train import Score, first_images, recalibrate_batch_norm, score_logits, slice_split

KEPT_BYTES = 256 * 2**20
"""Memory for features that are kept, in one worker."""


def extract_for_eval(supernet: Supernet, arch: ArchConfig, data: PreparedData, batch_size: int) -> SReT:
    """A subnet as a network of its own, ready for evaluation: the statistics of its stem are found anew."""
    network = supernet.extract(arch)
    recalibrate_batch_norm(network, data.train, batch_size)
    return network.eval()


class SubnetScorer:
    """Scores subnets of a supernet on the first `num_images` (None: all) images of the validation part."""

    def __init__(
        self, supernet: Supernet, data: PreparedData, batch_size: int, num_images: int | None = None,
        kept_bytes: int = KEPT_BYTES,
    ) -> None:  # fmt: skip
        self.supernet = supernet
        self._data = data
        self._part = data.val if num_images is None else first_images(data.val, num_images)
        self._batch_size = batch_size
        self._kept = FeatureCache(kept_bytes)
        self._statistics: dict[Hashable, dict[str, Tensor]] = {}

    @property
    def num_images(self) -> int:
        """Images that there are to be scored on."""
        return len(self._part)

    @torch.no_grad()
    def score(self, arch: ArchConfig, start: int = 0, stop: int | None = None) -> Score:
        """Error and cross-entropy, which may not be finite, of one subnet on all images, or on those from `start` to
        before `stop`."""
        network, span = self._network(arch), (start, self.num_images if stop is None else stop)
        number, features = self._longest_kept(network, span)
        for stage in range(number, len(arch.stages)):
            features = [network.run_stage(stage, batch) for batch in features]
            if stage < len(arch.stages) - 1:  # the last stage's are of no use to another network
                self._kept.keep((span, _beginning(arch, stage + 1)), features)
        return score_logits((network.classify(batch) for batch in features), slice_split(self._part, *span))

    def _network(self, arch: ArchConfig) -> SReT:
        """The subnet. Statistics of the stem depend on the stem alone, so each stem's are found once."""
        network, stem = self.supernet.extract(arch), _beginning(arch, 0)
        if stem not in self._statistics:
            recalibrate_batch_norm(network, self._data.train, self._batch_size)
            self._statistics[stem] = {name: value.clone() for name, value in _statistics(network).items()}
        for name, value in _statistics(network).items():
            value.copy_(self._statistics[stem][name])
        return network.eval()

    def _longest_kept(self, network: SReT, span: tuple[int, int]) -> tuple[int, list[Tensor]]:
        """The images' features after the longest beginning that is kept, and how many stages that has."""
        for number in range(len(network.arch.stages) - 1, -1, -1):
            features = self._kept.find((span, _beginning(network.arch, number)))
            if features is not None:
                return number, features
        device = network.pos_embed.device
        part = slice_split(self._part, *span)
        embedded = [network.embed(images.to(device)) for images, _ in batches(part, batch_size=self._batch_size)]
        self._kept.keep((span, _beginning(network.arch, 0)), embedded)
        return 0, embedded


class FeatureCache:
    """Features by what computed them; of those that do not fit into memory together, the last used stay."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._num_bytes = 0
        self._features: OrderedDict[Hashable, list[Tensor]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._features)

    def find(self, key: Hashable) -> list[Tensor] | None:
        if key not in self._features:
            return None
        self._features.move_to_end(key)
        return self._features[key]

    def keep(self, key: Hashable, features: list[Tensor]) -> None:
        if _num_bytes(features) > self._most_bytes:
            return
        self._features[key] = features
        self._num_bytes += _num_bytes(features)
        while self._num_bytes > self._most_bytes:
            _, dropped = self._features.popitem(last=False)
            self._num_bytes -= _num_bytes(dropped)


def _beginning(arch: ArchConfig, number: int) -> Hashable:
    """What decides the features after the stem and the first `number` stages."""
    stages = arch.canonical().stages[:number]
    return arch.stem, arch.stages[0].width, stages


def _statistics(network: SReT) -> dict[str, Tensor]:
    norms = enumerate(batch_norms(network.stem))
    return {f"{at}.{name}": value for at, norm in norms for name, value in norm.named_buffers()}


def _num_bytes(features: list[Tensor]) -> int:
    return sum(batch.numel() * batch.element_size() for batch in features)
