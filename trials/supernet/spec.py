"""The specification of a supernet's training, without where it runs, and its identity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import JsonValue

from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.space.search_space import SearchSpace

from ..data import PreparedData
from ..training.prepared_labels import SoftLabelSource
from ..training.recipe import ProxyConfig, proxy_arch
from .config import SupernetConfig


@dataclass(frozen=True, kw_only=True)
class TrainingSpec:
    """Space, budget, proxy, hyperparameters and seed of a supernet's training."""

    space: SearchSpace
    budget: Budget
    proxy: ProxyConfig
    config: SupernetConfig
    seed: int
    soft_labels: SoftLabelSource | None = None
    """The labels of a teacher, which are learned in place of the images' classes."""

    def identity(self, data: PreparedData) -> dict[str, JsonValue]:
        """Returns the data that identify a training on some images: two with the same identity give the same supernet.

        The proxy's own training is left out, because only trials use it.
        """
        return {
            "config": self.config.model_dump(mode="json", exclude={"depth_distillation"}),
            # None if it is off, because files of earlier versions lack it.
            "depth distillation": self.config.depth_distillation or None,
            "soft labels": None if self.soft_labels is None else self.soft_labels.digest,  # likewise
            "proxy": self.proxy.model_dump(mode="json", exclude={"training"}),
            "space_digest": self.space.digest,
            "budget": self.budget.to_dict(),
            "data_digest": data.digest,
            "seed": self.seed,
        }

    def proxy_maker(self, data: PreparedData) -> Callable[[ArchConfig], ArchConfig]:
        """Returns the function that maps a target to its proxy, with the channels and classes of the data."""

        def adapted(target: ArchConfig) -> ArchConfig:
            return proxy_arch(target, self.proxy, channels=data.channels, classes=data.num_classes)

        return adapted
