"""Files of networks and of what they are chosen from: spaces, architectures, weights, model directories, exports."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path
from typing import Any

import timm
import torch
from rich.console import Console

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.result_file import result_yaml
from sret_nas.files import validate
from sret_nas.json_files import read_json
from sret_nas.latency.profile import LatencyProfile
from sret_nas.latency.table import LatencyTable
from sret_nas.nn.checkpoints import read_checkpoint
from sret_nas.nn.exported_info import ExportedInfo
from sret_nas.nn.model_directory import CONFIG, ModelInfo, Preprocessing, read_model, write_model
from sret_nas.nn.network import SReT
from sret_nas.nn.public_checkpoints import read_public, to_public, write_public
from sret_nas.nn.supernet import Supernet
from sret_nas.optimize.score_config import ScoreConfig
from sret_nas.space.search_space import SearchSpace
from sret_nas.space.supernet_shape import bounding_shape
from sret_nas.yaml_files import dump_yaml
from tests.foreign_files.small import SMOKE, TINY, Kind, beside, files_in, renamed, saved, torch_saved
from tests.latency_profiles import pretended_profile
from trials.training.initial_weights import weights_of_checkpoint, weights_of_supernet
from trials.training.recipe import ProxyConfig, TrainingConfig
from trials.training.teachers import load_teacher
from trials.workflows.convert_checkpoint import convert_to_directory
from trials.workflows.named_network import named_architecture, recorded_schedule
from trials.workflows.trained_network import BEST, load_trained

TEACHER = "test_vit"
"""The smallest model of timm."""
CLASSES = ("a", "b", "c")
PREPROCESSING = Preprocessing(image_size=32, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))


@functools.cache
def _network() -> SReT:
    torch.manual_seed(0)
    return SReT(TINY)


@functools.cache
def _supernet() -> bytes:
    torch.manual_seed(0)
    supernet = Supernet(bounding_shape(SMOKE.model_copy(update={"image_size": 32, "classes": 3})))
    proxy = ProxyConfig(image_size=32, training=TrainingConfig(images=100))
    return saved(lambda path: supernet.save(path, {"seed": 0, "proxy": proxy.model_dump(mode="json")}))


@functools.cache
def _model_directory() -> dict[str, bytes]:
    """The files of a small model directory, by name."""
    with tempfile.TemporaryDirectory() as folder:
        info = ModelInfo(preprocessing=PREPROCESSING, class_names=CLASSES, metrics={"test": {"error": 0.1}})
        write_model(Path(folder, "model"), _network(), info)
        return files_in(Path(folder, "model"))


@functools.cache
def _teacher() -> dict[str, Any]:
    torch.manual_seed(0)
    return dict(timm.create_model(TEACHER, num_classes=len(CLASSES)).state_dict())


def _public() -> dict[str, Any]:
    return to_public(_network().state_dict(), TINY)


def _exported_entries() -> bytes:
    info = ExportedInfo(architecture=TINY, preprocessing=PREPROCESSING, class_names=CLASSES)
    return json.dumps(info.to_entries()).encode()


def _read_exported_entries(path: Path) -> object:
    entries = read_json(path)
    if not isinstance(entries, dict):
        return None  # no format holds anything but words by name
    words = {key: value if isinstance(value, str) else json.dumps(value) for key, value in entries.items()}
    return ExportedInfo.from_entries(words, str(path))


def _result() -> bytes:
    text = result_yaml(
        TINY, metrics={"error": 0.1}, recipe={"depth_schedule": "full", "data": {"digest": "0"}},
        provenance={"weights": "weights/0.safetensors"},
    )  # fmt: skip
    return text.encode()


def _read_result(path: Path) -> None:
    """As `train`, `evaluate` and `export` do with a `best.yaml`."""
    file = renamed(path, BEST)
    _network().save(file.with_suffix(".safetensors"))
    named_architecture(str(file))
    recorded_schedule(str(file))
    load_trained(file.parent)


def _read_first_weights(path: Path) -> None:
    weights_of_supernet(path, SMOKE.network([0] * len(SMOKE.stages)))


def _convert(path: Path, class_names: Path | None = None) -> None:
    convert_to_directory(path, path.with_name("converted"), None, class_names, Console(quiet=True))


def _convert_with_names(path: Path) -> None:
    checkpoint = path.with_name("public.pth")
    checkpoint.write_bytes(_public_file())
    _convert(checkpoint, path)


@functools.cache
def _public_file() -> bytes:
    return saved(lambda path: write_public(path, _network()))


KINDS = {
    "space": Kind(lambda: dump_yaml(SMOKE.to_dict()).encode(), SearchSpace.load),
    "architecture": Kind(
        lambda: dump_yaml({"arch_id": TINY.arch_id, "architecture": TINY.to_dict()}).encode(), ArchConfig.from_yaml
    ),
    "result": Kind(_result, _read_result),
    "latency profile": Kind(
        lambda: pretended_profile(SMOKE).model_dump_json().encode(),
        lambda path: LatencyTable(SMOKE, validate(LatencyProfile, read_json(path), str(path))),
    ),
    "score": Kind(
        lambda: b"every_stage:\n  recursions: {1: 0.02}\nlog_flops: -0.1\n",
        lambda path: ScoreConfig.load(path).score(SMOKE, str(path)),
    ),
    "network": Kind(lambda: saved(_network().save), SReT.load),
    "first weights": Kind(lambda: saved(_network().save), lambda path: weights_of_checkpoint(path, TINY)),
    "supernet": Kind(_supernet, Supernet.load),
    "first weights of a supernet": Kind(_supernet, _read_first_weights),
    "public checkpoint": Kind(
        lambda: torch_saved({"model": {f"module.{name}": value for name, value in _public().items()}}),
        lambda path: read_public(path).convert(TINY),
    ),
    "old public checkpoint": Kind(
        lambda: torch_saved({"state_dict": _public()}, _use_new_zipfile_serialization=False),
        lambda path: read_public(path).convert(TINY),
    ),
    "converted checkpoint": Kind(_public_file, _convert),
    "class names": Kind(lambda: b"cat\ndog\n\xc3\xa9\n", _convert_with_names),
    "checkpoint": Kind(
        lambda: torch_saved({"identity": "{}", "network": _network().state_dict(), "losses": [1.0]}), read_checkpoint
    ),
    "model config": Kind(
        lambda: _model_directory()[CONFIG], lambda path: read_model(beside(path, CONFIG, _model_directory()))
    ),
    "model metrics": Kind(
        lambda: _model_directory()["metrics.json"],
        lambda path: load_trained(beside(path, "metrics.json", _model_directory())),
    ),
    "teacher": Kind(
        lambda: torch_saved({"state_dict": _teacher()}),
        lambda path: load_teacher(TEACHER, path, CLASSES, len(CLASSES)),
    ),
    "exported metadata": Kind(_exported_entries, _read_exported_entries),
}
