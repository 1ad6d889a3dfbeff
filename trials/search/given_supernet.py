"""A supernet that `--supernet` names: it brings its space, its images and its proxy's size to the search."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from sret_nas.arch.config import ArchConfig
from sret_nas.errors import UserError
from sret_nas.files import validate
from sret_nas.space.search_space import SearchSpace
from sret_nas.space.supernet_shape import SupernetShape, bounding_shape

from ..data import DIGITS
from ..runs.option_groups import flag
from ..runs.options import SearchOptions
from ..training.recipe import ProxyConfig, proxy_arch

_OF_DATA = {
    "data": "source",
    "data_root": "root",
    "split_seed": "split_seed",
    "max_train_images": "max_train",
    "max_val_images": "max_val",
    "max_test_images": "max_test",
    "skip_broken": "skip_broken",
}
"""Options that say which images are used, with their names in `DataConfig`."""

_WHERE = ("data", "data_root")
"""Those that only say where the same images lie, which may have moved."""


class _Record(BaseModel):
    """What a supernet's file says about its training; files of other programs may say less."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    space: dict[str, Any] | None = None
    proxy: ProxyConfig | None = None
    data: dict[str, Any] = {}


@dataclass(frozen=True)
class GivenSupernet:
    """What the header of a supernet's file says, before its weights are read."""

    path: Path
    shape: SupernetShape
    record: _Record

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads the header of a file. Raises `UserError` if it holds no supernet."""
        from sret_nas.nn.weights import WeightsFile

        header = WeightsFile(path, "extent", "training").header
        shape = validate(SupernetShape, header["extent"], f"{path}: extent")
        return cls(path, shape, validate(_Record, header["training"], f"{path}: training"))

    def completed(self, options: SearchOptions) -> SearchOptions:
        """Returns the options with those that were not given as this supernet was trained.

        Raises `UserError` naming both values if one that was given differs.
        """
        recorded, given = self._recorded(), options.model_fields_set
        for name in recorded.keys() & given:
            now, then = getattr(options, name), recorded[name]
            if now != then and not (name in _WHERE and self._may_have_moved(options)):
                raise UserError(
                    f"{flag(name)} {now} does not go with --supernet {self.path}, which was trained with "
                    f"{_said(then)}: leave out {flag(name)}, or train another supernet"
                )
        brought = {name: value for name, value in recorded.items() if name not in given}
        if "data" in given:
            brought.pop("data_root", None)
        return SearchOptions.parse({**options.model_dump(exclude_unset=True), **brought}, "search")

    def space(self, options: SearchOptions) -> SearchSpace:
        """Returns the space that is asked for, or that of this supernet's training if none is.

        Raises `UserError` if the supernet does not hold all its networks.
        """
        recorded = None
        if "space" not in options.model_fields_set and self.record.space is not None:
            recorded = SearchSpace.from_dict(self.record.space, f"{self.path}: space")
        space = options.load_space(recorded)
        proxy = options.proxy(num_train_images=1)

        def adapted(target: ArchConfig) -> ArchConfig:
            return proxy_arch(target, proxy, channels=self.shape.channels, classes=self.shape.classes)

        problem = self.shape.first_missing(bounding_shape(space, adapted=adapted))
        if problem is not None:
            trained = f"; it was trained for {self.record.space['name']}" if self.record.space else ""
            raise UserError(
                f"{self.path} does not hold all networks of {space.name} at {proxy.image_size} px: {problem}{trained}"
            )
        return space

    def describe(self, space: SearchSpace, options: SearchOptions) -> str:
        """Returns a line that says what comes from the file."""
        return f"Supernet: {self.path}, for {space.name} at {options.image_size} px, on the images of {options.data}"

    def _recorded(self) -> dict[str, Any]:
        """Returns the options that this supernet was trained with, by name."""
        data = self.record.data
        found = {name: data[key] for name, key in _OF_DATA.items() if key in data}
        if self.record.proxy is not None:
            found |= {"image_size": self.record.proxy.image_size, "width_scale": self.record.proxy.width_scale}
        return found

    def _may_have_moved(self, options: SearchOptions) -> bool:
        """Returns whether the given images may be the recorded ones elsewhere; their content is compared later."""
        return DIGITS not in (options.data, self.record.data.get("source", options.data))


def _said(value: object) -> str:
    return "all" if value is None else str(value)
