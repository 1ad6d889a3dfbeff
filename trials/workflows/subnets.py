"""`supernet evaluate` and `supernet extract`: scores networks of a trained supernet, or writes one of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, StrictInt, StrictStr
from rich.console import Console
from rich.table import Table

from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.arch.presets import PRESETS, preset
from sret_nas.arch.result_file import write_result
from sret_nas.errors import UserError
from sret_nas.feasible.stratified import StratifiedSampler
from sret_nas.files import digest_of_file, validate
from sret_nas.nn.supernet import Supernet
from sret_nas.output_files import require_free
from sret_nas.plurals import counted
from sret_nas.quantities import format_quantity
from sret_nas.space.search_space import SearchSpace

from ..console import print_line
from ..data import DataConfig, PreparedData
from ..data.dataset_cache import cached_dataset, where_begun
from ..data.prepared import Metadata
from ..supernet.config import SupernetConfig
from ..supernet.inherit import SubnetScorer, extract_for_eval
from ..supernet.networks import extreme
from ..training.devices import compute_with, device_of
from ..training.recipe import ProxyConfig, proxy_arch
from ..training.train import score


class _Record(BaseModel):
    """The part of a supernet file's training record that scoring its networks needs."""

    model_config = ConfigDict(frozen=True, extra="allow")

    space: dict[str, Any]
    proxy: ProxyConfig
    budget: dict[
        Literal["flops_max", "params_max", "flops_min", "params_min", "shallowest_flops_max"], StrictInt | None
    ]
    data: dict[str, Any]
    data_digest: StrictStr
    prepared: StrictStr
    config: SupernetConfig
    seed: StrictInt


class TrainedSupernet:
    """A supernet from a file, with the images that it was trained on."""

    def __init__(self, path: Path, data: dict[str, Any], device: str, console: Console) -> None:
        """Loads the supernet and its images.

        Args:
            data: Fields of `DataConfig` that differ from the recorded ones, e.g. `source` if a folder has moved.

        Raises `UserError` if the file is not a trained supernet, or the images differ from those of its training.
        """
        supernet, self.training = Supernet.load(path)
        record = validate(_Record, self.training, f"{path}: training")
        self.path = path
        self.supernet = supernet.to(device_of(device))
        self.space = SearchSpace.from_dict(record.space, f"{path}: space")
        self.budget = Budget(**record.budget)
        self.proxy = record.proxy
        self.batch_size = record.config.training.batch_size
        self._record = record
        self.data = self._images(data, console)

    def _images(self, changes: dict[str, Any], console: Console) -> PreparedData:
        record = self._record
        fields = {field.name for field in dataclasses.fields(DataConfig)}
        if unknown := record.data.keys() - fields:
            raise UserError(f"{self.path}: training: data has the unknown key {min(unknown)}")
        config = replace(DataConfig(**record.data), **changes)
        data = None if changes else _whole(Path(record.prepared), record.data_digest)
        if data is not None:
            print_line(console, f"Images: {record.prepared}, the prepared images that {self.path} names")
        else:
            if not changes and (config.is_folder or config.root is not None):
                print_line(console, f"Images: {config.root or config.source}, the folder that {self.path} names")
            with where_begun(f"the supernet {self.path}"):
                _, data = cached_dataset(self.path.absolute().parent, config, console)
        if data.digest != record.data_digest:
            raise UserError(
                f"the images of {config.source} are not those that {self.path} was trained on, so its training part "
                "may hold what would be scored here; give the same with --data"
            )
        return data

    def proxy_of(self, arch: ArchConfig) -> ArchConfig:
        """Returns the proxy of a target network, or the network itself if it is a proxy of this supernet.

        Raises `UserError` if the supernet does not contain it.
        """
        shape = self.supernet.shape
        is_proxy = not self.space.contains(arch) and (arch.image_size, arch.channels, arch.classes) == (
            shape.image_size, shape.channels, shape.classes,
        )  # fmt: skip
        proxy = arch if is_proxy else self._proxy(arch)
        shape.check(proxy)
        return proxy

    def _proxy(self, target: ArchConfig) -> ArchConfig:
        shape = self.supernet.shape
        return proxy_arch(target, self.proxy, channels=shape.channels, classes=shape.classes)

    def networks(self, name: str, seed: int) -> list[tuple[str, ArchConfig]]:
        """Returns the networks of an argument, each with a name: of `random:N`, or of what `network` accepts."""
        if name == "random" or name.startswith("random:"):
            drawn = StratifiedSampler(self.space, self.budget).sample_many(
                np.random.default_rng(seed), _number_in(name)
            )
            return [(arch.arch_id, arch) for arch in drawn]
        return [(name, self.network(name))]

    def network(self, name: str) -> ArchConfig:
        """Returns the network of an argument: `largest` or `smallest` inside the budget, a YAML file, or a preset.

        Raises `UserError` for anything else.
        """
        if name in ("largest", "smallest"):
            return extreme(self.space, self.budget, "most_expensive" if name == "largest" else "cheapest")
        path = Path(name)
        if path.suffix in (".yaml", ".yml") or path.is_file() or len(path.parts) > 1:
            return ArchConfig.from_yaml(path)
        if name in PRESETS:
            return preset(name)
        raise UserError(f"{name!r} is no network: name a YAML file, largest, smallest, or one of {', '.join(PRESETS)}")


def _whole(prepared: Path, digest: str) -> PreparedData | None:
    """Returns the prepared images in a folder if they have this digest and are undamaged; else None."""
    try:
        if Metadata.read(prepared).digest != digest:
            return None
        data = PreparedData.open(prepared)
        data.verify()
    except UserError:
        return None
    return data


def _cost(arch: ArchConfig) -> dict[str, Any]:
    cost = cost_of(arch)
    return {"arch_id": arch.arch_id, "flops": cost.flops, "params": cost.params, "image_size": arch.image_size}


def _number_in(name: str) -> int:
    text = name.partition(":")[2] or "1"
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= 100_000:
        raise UserError(f"random:N must have a whole number from 1 to 100000 for N, got {name!r}")
    return int(text)


def show_subnets(
    path: Path, names: Sequence[str], data: dict[str, Any], device: str, threads: int, seed: int, console: Console
) -> None:
    """Scores networks with inherited weights on the whole validation part, and prints a table.

    Raises `UserError` as `TrainedSupernet` does.
    """
    compute_with(threads)
    trained = TrainedSupernet(path, data, device, console)
    networks = [(title, arch, trained.proxy_of(arch)) for name in names for title, arch in trained.networks(name, seed)]
    scorer = SubnetScorer(trained.supernet, trained.data, trained.batch_size)
    table = Table(
        "network", "FLOPs", "params", "val error", "cross-entropy",
        title=f"{counted(len(trained.data.val), 'validation image')}; FLOPs at each network's own input",
    )  # fmt: skip
    for title, arch, proxy in networks:
        scored, cost = scorer.score(proxy), cost_of(arch)
        table.add_row(
            title, f"{format_quantity(cost.flops)} ({arch.image_size} px)", format_quantity(cost.params),
            f"{scored.error:.2%}", f"{scored.cross_entropy:.4f}",
        )  # fmt: skip
    console.print(table)


def extract_subnet(
    path: Path,
    name: str,
    out: Path,
    data: dict[str, Any],
    device: str,
    threads: int,
    console: Console,
    force: bool = False,
) -> None:
    """Writes the proxy of one network as YAML, and its weights beside it.

    Existing files are replaced only with `force`. Raises `UserError` as `TrainedSupernet` and `require_free` do.
    """
    if out.suffix not in (".yaml", ".yml"):
        raise UserError(f"--out must name a .yaml file, beside which the weights will lie, got {out}")
    weights = out.with_suffix(".safetensors")
    reads = [path, Path(name), *(Path(folder) for folder in data.values())]
    require_free((out, weights), reads=reads, force=force)
    compute_with(threads)
    trained = TrainedSupernet(path, data, device, console)
    target = trained.network(name)
    arch = trained.proxy_of(target)
    network = extract_for_eval(trained.supernet, arch, trained.data, trained.batch_size)
    scored = score(network, trained.data.val, trained.batch_size)
    require_free((out, weights), reads=reads, force=force)  # again, since scoring takes long
    network.save(weights)
    write_result(
        out, arch,
        metrics={"val": {**asdict(scored), "images": len(trained.data.val)}},
        recipe={"supernet": trained.training["config"], "proxy": trained.training["proxy"]},
        provenance={
            "weights": weights.name,
            "supernet": {"file": str(path), "sha256": digest_of_file(path)},
            "target": _cost(target),
            "data_digest": trained.data.digest,
            "seed": trained.training["seed"],
        },
    )  # fmt: skip
    print_line(
        console, f"{out} and {weights}: validation error {scored.error:.2%}, cross-entropy {scored.cross_entropy:.4f}"
    )
