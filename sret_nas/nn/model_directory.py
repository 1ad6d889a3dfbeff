"""A trained network as a directory that other programs load as it is.

| file | content |
|---|---|
| `config.json` | what timm and the Hugging Face hub read: architecture, classes, preprocessing |
| `model.safetensors` | the weights, as `SReT.save` writes them |
| `architecture.yaml` | the network with its cost, as searches write it |
| `recipe.yaml` | how it was trained; missing if that is not known |
| `metrics.json` | what was measured of it |
| `README.md` | the model card |
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr, model_validator

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.arch.result_file import result_yaml
from sret_nas.errors import UserError, describe
from sret_nas.files import validate, write_atomically
from sret_nas.json_files import read_json
from sret_nas.nn.network import SReT
from sret_nas.output_files import require_new_folder
from sret_nas.plurals import counted
from sret_nas.quantities import format_quantity
from sret_nas.yaml_files import dump_yaml, read_yaml

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
ARCHITECTURE = "architecture.yaml"
RECIPE = "recipe.yaml"
METRICS = "metrics.json"
CARD = "README.md"
FILES = (WEIGHTS, CONFIG, ARCHITECTURE, RECIPE, METRICS, CARD)
"""All files of a model directory; `RECIPE` only if the recipe is known."""

TIMM_NAME = "sret"
"""The name under which `sret_nas.timm` registers a network of any architecture."""

Channel = Annotated[StrictFloat, Field(allow_inf_nan=False)]


class Preprocessing(BaseModel):
    """What happens to an image before the network sees it: resized, cropped to a centred square, standardised."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: Annotated[StrictInt, Field(ge=8, le=4096)]
    """Side of the square in pixels."""
    mean: Annotated[tuple[Channel, ...], Field(min_length=1, max_length=64)]
    """Mean of each channel, for pixels scaled to [0, 1]."""
    std: Annotated[tuple[Annotated[Channel, Field(gt=0)], ...], Field(min_length=1, max_length=64)]
    """Standard deviation of each channel."""
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bicubic"
    crop_fraction: Annotated[StrictFloat, Field(gt=0, le=1)] = 1.0
    """Side of the square over the shorter side of the resized image."""

    @model_validator(mode="after")
    def _same_channels(self) -> Self:
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean and std must have a value per channel, got {len(self.mean)} and {len(self.std)}")
        return self

    @property
    def channels(self) -> int:
        return len(self.mean)


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What a model directory says beside architecture and weights. All values are plain data."""

    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None = None
    """Names of the classes in the order of the logits; None if they are not known."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """Results by name, e.g. `{"test": {"error": 0.1, "images": 1000}}`."""
    recipe: dict[str, Any] | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    """Where the network comes from: data, seed, versions, the checkpoint that was converted."""


class _PretrainedConfig(BaseModel):
    """The part of timm's `pretrained_cfg` that is read back."""

    model_config = ConfigDict(frozen=True, extra="allow")

    input_size: tuple[StrictInt, StrictInt, StrictInt]
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"]
    crop_pct: StrictFloat
    mean: tuple[StrictFloat, ...]
    std: tuple[StrictFloat, ...]


class _Config(BaseModel):
    """The part of `config.json` that is read back."""

    model_config = ConfigDict(frozen=True, extra="allow")

    architecture: StrictStr
    model_args: dict[str, Any]
    num_classes: StrictInt | None = None
    pretrained_cfg: _PretrainedConfig
    label_names: tuple[StrictStr, ...] | None = None
    provenance: dict[str, Any] = {}


def write_model(directory: Path, network: SReT, info: ModelInfo, *, replace: bool = False) -> None:
    """Writes a model directory, whole or not at all.

    A link to a folder stays a link, and what it leads to is replaced. Of an existing model directory only `FILES` are
    replaced; whatever else lies in it is kept.

    Args:
        directory: The directory; it must not exist, be empty, or be `replace`d.
        network: The network. Its head decides the number of classes.
        info: What is known of it.
        replace: Whether an existing model directory is replaced.

    Raises:
        UserError: `directory` holds something, or `info` does not fit the network.
    """
    if not (replace and is_model_directory(directory)):
        require_new_folder(directory)
    directory = directory.resolve()
    directory.parent.mkdir(parents=True, exist_ok=True)
    whole = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}."))
    try:
        _write_files(whole, network, info)
        whole.chmod(0o755)  # mkdtemp creates private folders; results are readable by all users
        if directory.exists():
            # There is no atomic exchange of two folders. After a kill between the two renames, `put_back` helps.
            outdated = whole.with_name(f"{whole.name}.old")
            directory.rename(outdated)
            try:
                whole.rename(directory)
            except OSError:
                outdated.rename(directory)
                raise
            _delete_outdated(outdated, directory)
        else:
            whole.rename(directory)
    except BaseException:
        shutil.rmtree(whole, ignore_errors=True)
        raise


def put_back(directory: Path) -> None:
    """Puts a model directory back that a process hid and was killed before it had replaced it (see `write_model`).

    What else such processes left hidden is deleted, except files that are not `FILES`, which return to the directory.
    No other process may write the directory meanwhile.
    """
    directory = directory.resolve()
    name = re.compile(rf"\.{re.escape(directory.name)}\.[a-z0-9_]{{8}}(\.old)?")  # as `mkdtemp` makes them
    hidden = [path for path in directory.parent.iterdir() if name.fullmatch(path.name) and path.is_dir()]
    whole = [path for path in hidden if path.suffix == ".old" and is_model_directory(path)]
    if whole and not os.path.lexists(directory):
        max(whole, key=lambda path: path.stat().st_mtime_ns).rename(directory)
    for path in hidden:
        if path in whole and path.exists():
            _delete_outdated(path, directory)
        shutil.rmtree(path, ignore_errors=True)


def _delete_outdated(outdated: Path, directory: Path) -> None:
    """Deletes a model directory that another replaced, after moving what is not ours into that one."""
    for path in outdated.iterdir():
        if path.name not in FILES and not os.path.lexists(directory / path.name):
            path.rename(directory / path.name)
    shutil.rmtree(outdated)


def _write_files(directory: Path, network: SReT, info: ModelInfo) -> None:
    network.save(directory / WEIGHTS)
    arch = network.current_arch
    preprocessing, names = info.preprocessing, info.class_names
    if names is not None and len(names) != arch.classes:
        raise UserError(f"{directory}: the network has {arch.classes} classes, but {len(names)} names were given")
    if preprocessing.channels != arch.channels:
        raise UserError(
            f"{directory}: the network has {arch.channels} channels, but mean and std have {preprocessing.channels}"
        )
    write_atomically(directory / CONFIG, json.dumps(_config(arch, info), indent=2) + "\n")
    write_atomically(directory / METRICS, json.dumps(info.metrics, indent=2) + "\n")
    if info.recipe is not None:
        write_atomically(directory / RECIPE, dump_yaml(info.recipe))
    # As in the other files, since groups that have no effect at this image size have one at a larger.
    text = result_yaml(
        arch, metrics=info.metrics, recipe=info.recipe or {}, provenance=info.provenance, canonical=False
    )
    write_atomically(directory / ARCHITECTURE, text)
    write_atomically(directory / CARD, _card(arch, info))


def _config(arch: ArchConfig, info: ModelInfo) -> dict[str, Any]:
    """Returns the content of `config.json`, in the form of timm's `save_for_hf`."""
    preprocessing = info.preprocessing
    config: dict[str, Any] = {
        "architecture": TIMM_NAME,
        "num_classes": arch.classes,
        "num_features": arch.stages[-1].width,
        "global_pool": "avg",
        "model_args": {"arch": arch.to_dict()},
        "pretrained_cfg": {
            "custom_load": False,
            "input_size": [arch.channels, preprocessing.image_size, preprocessing.image_size],
            "fixed_input_size": False,
            "interpolation": preprocessing.interpolation,
            "crop_pct": preprocessing.crop_fraction,
            "crop_mode": "center",
            "mean": list(preprocessing.mean),
            "std": list(preprocessing.std),
            "num_classes": arch.classes,
            "pool_size": None,
            **ends_of(arch),
        },
        "provenance": info.provenance,
    }
    if info.class_names is not None:
        config["label_names"] = list(info.class_names)
    return config


def ends_of(arch: ArchConfig) -> dict[str, Any]:
    """Returns the names of the layers that see the image and that give logits, as timm's data have them."""
    return {
        "first_conv": "stem.proj" if arch.stem.kind == "patch" else "stem.convs.0",
        "classifier": ("head", "head_dist") if arch.head == "distillation_token" else "head",
    }


def _card(arch: ArchConfig, info: ModelInfo) -> str:
    """Returns the model card: what the network is, what was measured, how to load it."""
    cost = cost_of(arch)
    size = f"{arch.image_size} x {arch.image_size} px"
    lines = [
        "---", "library_name: timm", "pipeline_tag: image-classification", "tags:", "- sret", "---", "",
        f"# SReT {arch.arch_id}", "",
        f"A Sliced Recursive Transformer for images of {size}, {counted(arch.channels, 'channel')} and "
        f"{counted(arch.classes, 'class', 'classes')}:",
        f"{format_quantity(cost.flops)} FLOPs (multiply-adds), {format_quantity(cost.params)} parameters. It was built",
        "with sret-nas.", "",
        *_measured(info.metrics),
        "## Load", "", "```python", "from sret_nas import SReT", "", 'network = SReT.from_pretrained("DIRECTORY")',
        "```", "", "With timm:", "", "```python", "import timm", "import sret_nas.timm", "",
        'network = timm.create_model("local-dir:DIRECTORY", pretrained=True)', "```", "",
    ]  # fmt: skip
    if info.class_names is not None:
        names = json.dumps(info.class_names, ensure_ascii=False)  # a name may hold commas, or what Markdown knows
        lines += ["## Classes", "", "In the order of the logits:", "", "```json", names, "```", ""]
    return "\n".join(lines)


def _measured(metrics: dict[str, Any]) -> list[str]:
    """Returns the card's table of results: every number in `metrics`, under the path of its keys."""
    rows = [f"| {name} | {value:.6g} |" for name, value in _numbers("", metrics)]
    return ["## Measured", "", "| what | value |", "| --- | --- |", *rows, ""] if rows else []


def _numbers(prefix: str, data: dict[str, Any]) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for key, value in data.items():
        name = f"{prefix} {key}".strip().replace("_", " ")
        if isinstance(value, dict):
            found += _numbers(name, value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append((name, value))
    return found


def is_model_directory(directory: Path) -> bool:
    """Returns whether a folder looks like a model directory: it has a configuration and weights."""
    return (directory / CONFIG).is_file() and (directory / WEIGHTS).is_file()


def holds_model(path: Path) -> bool:
    """Returns whether a folder is a model directory, or the run of a training with one inside."""
    return bool(_model_directories(path))


def directory_of_weights(path: Path) -> Path | None:
    """Returns the model directory whose weights a file is, since it says more of them; None for any other path."""
    return path.parent if path.name == WEIGHTS and is_model_directory(path.parent) else None


def find_model_directory(path: Path, preferred: Sequence[str] = ("best", "last")) -> Path:
    """Returns the model directory that a user means: the folder itself, or `best` or `last` inside a training's run.

    Raises `UserError` if there is none.
    """
    found = _model_directories(path, preferred)
    if found:
        return found[0]
    raise UserError(f"{path}: must be a model directory, which holds {CONFIG} and {WEIGHTS}, or the run of a training")


def _model_directories(path: Path, preferred: Sequence[str] = ("best", "last")) -> list[Path]:
    return [candidate for candidate in (path, *(path / name for name in preferred)) if is_model_directory(candidate)]


def read_model(directory: Path) -> tuple[SReT, ModelInfo]:
    """Returns the network of a model directory, on the CPU, and what is known of it.

    Raises `UserError` if a file is missing, damaged, or does not fit the others.
    """
    info = read_info(directory)
    config, arch = _read_config(directory), read_architecture(directory)
    network = SReT.load(directory / WEIGHTS, arch)  # other programs save weights without saying whose they are
    if arch != network.arch:
        raise UserError(
            f"{directory}: {CONFIG} describes {arch.arch_id}, but {WEIGHTS} holds {network.arch.arch_id}: both must "
            "come from one training"
        )
    if config.num_classes not in (None, arch.classes):
        raise UserError(f"{directory / CONFIG}: num_classes must be {arch.classes}, got {config.num_classes}")
    if info.preprocessing.channels != arch.channels:
        raise UserError(
            f"{directory / CONFIG}: mean must have {counted(arch.channels, 'value')}, got {info.preprocessing.channels}"
        )
    if info.class_names is not None and len(info.class_names) != arch.classes:
        raise UserError(
            f"{directory / CONFIG}: label_names must have {arch.classes} names, got {len(info.class_names)}"
        )
    return network, info


def read_architecture(directory: Path) -> ArchConfig:
    """Returns the architecture of a model directory's network, without reading its weights. Raises `UserError`."""
    config = _read_config(directory)
    return ArchConfig.from_dict(config.model_args.get("arch"), f"{directory / CONFIG}: model_args.arch")


def _read_config(directory: Path) -> _Config:
    path = directory / CONFIG
    config = validate(_Config, read_json(path), str(path))
    if config.architecture != TIMM_NAME:
        raise UserError(f"{path}: architecture must be {TIMM_NAME!r}, got {config.architecture!r}")
    return config


def read_info(directory: Path) -> ModelInfo:
    """Returns what is known of a model directory's network, without reading its weights. Raises `UserError`."""
    path, config = directory / CONFIG, _read_config(directory)
    cfg = config.pretrained_cfg
    preprocessing = validate(
        Preprocessing,
        {
            "image_size": cfg.input_size[1],
            "mean": cfg.mean,
            "std": cfg.std,
            "interpolation": cfg.interpolation,
            "crop_fraction": cfg.crop_pct,
        },
        f"{path}: pretrained_cfg",
    )
    channels, height, width = cfg.input_size
    if height != width or channels != len(cfg.mean):
        raise UserError(
            f"{path}: pretrained_cfg.input_size must be the channels of mean, here {len(cfg.mean)}, and the same size "
            f"twice, got {list(cfg.input_size)}"
        )
    names = config.label_names or ()
    if len(set(names)) != len(names):
        twice = next(name for position, name in enumerate(names) if name in names[:position])
        raise UserError(f"{path}: label_names must differ, got {describe(twice)} twice")
    metrics = _optional(directory / METRICS, read_json)
    recipe = _optional(directory / RECIPE, read_yaml)
    return ModelInfo(
        preprocessing=preprocessing,
        class_names=config.label_names,
        metrics=metrics or {},
        recipe=recipe,
        provenance=config.provenance,
    )


def _optional(path: Path, read: Any) -> dict[str, Any] | None:
    """Returns the mapping in a file, or None if the file does not exist."""
    if not path.exists():
        return None
    data = read(path)
    if not isinstance(data, dict):
        raise UserError(f"{path}: must be a mapping")
    return data
