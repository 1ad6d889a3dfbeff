"""What is trained of a supernet, wherever and by whom: what makes two trainings one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from pydantic import JsonValue

from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.space.search_space import SearchSpace

from ..data import PreparedData
from ..training.recipe import ProxyConfig, proxy_arch
from .config import SupernetConfig


@dataclass(frozen=True, kw_only=True)
class TrainingSpec:
    """A supernet of the proxies of a space's networks inside a budget, how it is trained, and from which seed."""

    space: SearchSpace
    budget: Budget
    proxy: ProxyConfig
    config: SupernetConfig
    seed: int

    def identity(self, data: PreparedData) -> dict[str, JsonValue]:
        """Returns what two trainings on some images must have in common to be one.

        How trials would train their proxies is no part of it.
        """
        return {
            "config": self.config.model_dump(mode="json"),
            "proxy": self.proxy.model_dump(mode="json", exclude={"training"}),
            "space_digest": self.space.digest,
            "budget": asdict(self.budget),
            "data_digest": data.digest,
            "seed": self.seed,
        }

    def proxy_maker(self, data: PreparedData) -> Callable[[ArchConfig], ArchConfig]:
        """Returns what makes a target's proxy for some images."""

        def adapted(target: ArchConfig) -> ArchConfig:
            return proxy_arch(target, self.proxy, channels=data.channels, classes=data.num_classes)

        return adapted
