"""What travels with an exported network: how images are prepared, the names of classes, the architecture.

ONNX files hold it as metadata properties, files of torch.export as extra files, OpenVINO models as runtime information.
Each entry is JSON under a key of its own, so that other programs can read one without the others:

| key | value |
| --- | --- |
| `sret_nas.preprocessing` | size in pixels, mean, deviation, interpolation, crop (`Preprocessing`) |
| `sret_nas.class_names` | names in the order of the logits |
| `sret_nas.architecture` | the network, as `ArchConfig.to_dict` gives it |
| `sret_nas.precision` | `fp32` or `int8` |
| `sret_nas.pixels` | `uint8` if the network takes images of 8 bits and standardises them itself; else missing |
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict

from sret_nas.arch.config import ArchConfig
from sret_nas.errors import UserError
from sret_nas.files import validate
from sret_nas.json_files import parse_json
from sret_nas.nn.model_directory import Preprocessing
from sret_nas.plurals import counted

PREFIX = "sret_nas."
"""How the keys of the entries begin."""

ExportPrecision = Literal["fp32", "int8"]


class ExportedInfo(BaseModel):
    """What is known of an exported network."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: ArchConfig
    preprocessing: Preprocessing | None = None
    """None if it is not known how the images of its training were standardised."""
    class_names: tuple[str, ...] | None = None
    precision: ExportPrecision = "fp32"
    pixels: Literal["uint8"] | None = None
    """The type of the images that the network takes, if it standardises them itself; None if they must be."""

    def to_entries(self) -> dict[str, str]:
        """Returns the entries of a file's metadata by key."""
        fields = self.model_dump(mode="json", exclude_none=True)
        return {f"{PREFIX}{name}": json.dumps(value) for name, value in fields.items()}

    @classmethod
    def from_entries(cls, entries: Mapping[str, str], source: str) -> ExportedInfo | None:
        """Returns what a file's metadata says; None if it has no entries of ours.

        Raises `UserError`, naming `source`, for entries that are damaged or contradict each other.
        """
        ours = {key.removeprefix(PREFIX): text for key, text in entries.items() if key.startswith(PREFIX)}
        if not ours:
            return None
        data = {name: parse_json(text, f"{source}: metadata {PREFIX}{name}") for name, text in ours.items()}
        info = validate(cls, data, f"{source}: metadata")
        arch, names, preprocessing = info.architecture, info.class_names, info.preprocessing
        if info.pixels is not None and preprocessing is None:
            raise UserError(f"{source}: metadata: pixels are {info.pixels}, but preprocessing is missing")
        if names is not None and len(names) != arch.classes:
            raise UserError(
                f"{source}: metadata: class_names must have {counted(arch.classes, 'name')}, got {len(names)}"
            )
        if preprocessing is not None and preprocessing.channels != arch.channels:
            raise UserError(
                f"{source}: metadata: mean must have {counted(arch.channels, 'value')}, got {preprocessing.channels}"
            )
        return info
