"""Files of every kind that the tool reads, good ones and what a seed makes of them, with the function that reads each.

Used by the fuzz test of the suite and by the long one, `benchmarks/faults/fuzz_files.py`.
"""

from __future__ import annotations

import functools
import io
import json
import random
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from sret_nas.arch.config import ArchConfig
from sret_nas.errors import UserError
from sret_nas.files import validate
from sret_nas.json_files import read_json
from sret_nas.latency.profile import LatencyProfile
from sret_nas.latency.table import LatencyTable
from sret_nas.nn.checkpoints import read_checkpoint
from sret_nas.nn.model_directory import CONFIG, ModelInfo, Preprocessing, read_model, write_model
from sret_nas.nn.network import SReT
from sret_nas.nn.public_checkpoints import read_public, to_public
from sret_nas.nn.supernet import Supernet
from sret_nas.optimize.score_config import ScoreConfig
from sret_nas.space.search_space import SearchSpace
from sret_nas.space.supernet_shape import bounding_shape
from sret_nas.yaml_files import dump_yaml, read_yaml
from tests.latency_profiles import pretended_profile
from trials.data.config import DataConfig
from trials.data.decode import UNREADABLE, open_image, to_pixels, without_warnings
from trials.data.preparation import prepare
from trials.data.prepared import METADATA, PreparedData, array_path
from trials.runs.directory import RECORDS_FILE
from trials.runs.events import check_header
from trials.runs.history import read_history
from trials.runs.supernet_train_options import SupernetTrainOptions
from trials.strategies.strategy import Candidate
from trials.supernet.config import SupernetConfig
from trials.workflows.train_supernet import RecordedTraining

Reader = Callable[[Path], object]

PREPARED = {
    "metadata": METADATA,
    "images": array_path(Path(), "train", "images").name,
    "labels": array_path(Path(), "test", "labels").name,
}
"""Files of a prepared data set, by what they are."""
IMAGES = ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "PPM")
SMOKE = SearchSpace.load("smoke")
TINY = ArchConfig.from_dict(
    {
        "stages": [
            {"width": 4, "heads": 2, "blocks": 1, "recursions": 2, "groups": [2, 2], "mlp_ratio": 1.0},
            {"width": 8, "heads": 2, "blocks": 1, "recursions": 1, "groups": [1], "mlp_ratio": 1.0},
        ],
        "image_size": 32,
        "classes": 3,
    }
)
ODD_WORDS = (
    b'!!int ""', b"!!timestamp x", b"!!map [1]", b"!!python/name:os.system", b'"\\ud83d"', b'"\\e[31m"',
    b'"a\\nerror: b"',
    b"&a [*a]", b"<<", b"2020-13-45", b"0x_", b".nan", b"-.inf", b"1e999", b"9" * 500, b"NaN", b"-1", b"0", b"8192",
    b"1000000000000", b"true", b"null", b"~", b"[]", b"{}", b"[" * 200, b"{a: " * 100, b"'", b"\x00", b"\xff",
    b"\x1b[31m",
    "\u202e".encode(), "\ud83d\ude00".encode(errors="replace"), b"? [a]\n: b", b"- x\n" * 50, b"1:30", b"=", b"[[[1]]]",
)  # fmt: skip
"""What stands in the place of a value: each was once trouble to some reader."""
ODD_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 2, 2**31, 2**63, 10**30, 1.5, -0.0, 1e308, "", "x", "a\nerror: b", "\x1b[31m", "\u202e", [], {},
    [1, 2, 3], {"a": 1}, [[[[1]]]], 8192, 128, "0" * 5000,
)  # fmt: skip


def good_files() -> dict[str, bytes]:
    """Returns a small good file of every kind, by the kind's name."""
    torch.manual_seed(0)
    network, supernet = SReT(TINY), Supernet(bounding_shape(SMOKE.model_copy(update={"image_size": 32, "classes": 3})))
    weights = {"network": _saved(network.save), "supernet": _saved(lambda path: supernet.save(path, {"seed": 0}))}
    public = to_public(network.state_dict(), TINY)
    options = SupernetTrainOptions(space="smoke")
    config = SupernetConfig(training=options.supernet_training(100))
    training = RecordedTraining(options=options, config=config, space=SMOKE.to_dict())
    return {
        "space": dump_yaml(SMOKE.to_dict()).encode(),
        "architecture": dump_yaml({"arch_id": TINY.arch_id, "architecture": TINY.to_dict()}).encode(),
        "training": dump_yaml(training.model_dump(mode="json")).encode(),
        "records": _records(options),
        "latency profile": pretended_profile(SMOKE).model_dump_json().encode(),
        **weights,
        "public checkpoint": _torch_saved({"model": {f"module.{name}": value for name, value in public.items()}}),
        "old public checkpoint": _torch_saved({"state_dict": public}, _use_new_zipfile_serialization=False),
        "checkpoint": _torch_saved({"identity": "{}", "network": network.state_dict(), "losses": [1.0]}),
        "score": b"every_stage:\n  recursions: {1: 0.02}\nlog_flops: -0.1\n",
        "model config": _model_directory()[CONFIG],
        **{f"prepared {name}": _prepared_files()[file] for name, file in PREPARED.items()},
        **{f"{name} image": _image(name) for name in IMAGES},
    }


READERS: dict[str, Reader] = {
    "space": SearchSpace.load,
    "architecture": ArchConfig.from_yaml,
    "training": lambda path: validate(RecordedTraining, read_yaml(path), str(path)),
    "records": lambda path: _read_records(path),
    "latency profile": lambda path: LatencyTable(SMOKE, validate(LatencyProfile, read_json(path), str(path))),
    "network": SReT.load,
    "supernet": Supernet.load,
    "public checkpoint": lambda path: read_public(path).convert(TINY),
    "old public checkpoint": lambda path: read_public(path).convert(TINY),
    "checkpoint": read_checkpoint,
    "score": lambda path: ScoreConfig.load(path).score(SMOKE, str(path)),
    "model config": lambda path: read_model(_beside(path, CONFIG, _model_directory())),
    **{f"prepared {name}": lambda path, file=file: _read_prepared(path, file) for name, file in PREPARED.items()},
    **{f"{name} image": lambda path: _read_image(path) for name in IMAGES},
}


@functools.cache
def _prepared_files() -> dict[str, bytes]:
    """Returns the files of a small prepared data set, by name: two classes of five grey images."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(10):
            path = Path(folder, "images", "ab"[number % 2], f"{number}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.effect_noise((9, 8), 50).save(path)
        prepared = Path(folder, "prepared")
        prepare(DataConfig(source=str(Path(folder, "images")), image_size=8), prepared)
        return _files_in(prepared)


@functools.cache
def _model_directory() -> dict[str, bytes]:
    """Returns the files of a small model directory, by name."""
    with tempfile.TemporaryDirectory() as folder:
        preprocessing = Preprocessing(image_size=32, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
        info = ModelInfo(preprocessing=preprocessing, class_names=("a", "b", "c"), metrics={"test": {"error": 0.1}})
        write_model(Path(folder, "model"), SReT(TINY), info)
        return _files_in(Path(folder, "model"))


def _files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def _beside(path: Path, name: str, files: dict[str, bytes]) -> Path:
    """Puts a file, under its right name, into a folder of the good others; returns the folder."""
    for other, content in files.items():
        if other != name:
            path.with_name(other).write_bytes(content)
    path.rename(path.with_name(name))
    return path.parent


def _read_prepared(path: Path, name: str) -> None:
    data = PreparedData.open(_beside(path, name, _prepared_files()))
    data.verify()
    assert data.summary()


def _saved(save: Callable[[Path], None]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder) / "w")
        return (Path(folder) / "w").read_bytes()


def _torch_saved(content: Any, **how: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **how)
    return buffer.getvalue()


def _image(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((24, 20), 50).convert("L" if kind == "GIF" else "RGB").save(buffer, kind)
    return buffer.getvalue()


def _records(options: SupernetTrainOptions) -> bytes:
    candidate = Candidate(SMOKE.network([0] * len(SMOKE.stages)), "full")
    header = {
        "event": "header", "format": 1, "time": 1.0, "command": ["search"], "options": options.model_dump(mode="json"),
        "space": SMOKE.to_dict(), "space_digest": SMOKE.digest, "proxy": {}, "device": "cpu",
        "versions": {"torch": "3"},
        "data": {"summary": "digits", "digest": "0", "classes": 10}, "expected": {"trial_seconds": 1.0},
    }  # fmt: skip
    shared = {"number": 0, "time": 2.0}
    asked = {
        "event": "asked", "arch_id": candidate.arch.arch_id, "flops": 1, "params": 1, "depth_schedule": "full",
        "architecture": candidate.arch.to_dict(), **shared,
    }  # fmt: skip
    failed = {"event": "failed", "failure": {"cause": "diverged", "message": "nan"}, "seconds": 1.0, **shared}
    return b"".join(json.dumps(event).encode() + b"\n" for event in (header, asked, failed))


def _read_records(path: Path) -> None:
    path.rename(path.with_name(RECORDS_FILE))
    check_header(read_history(path.parent).header, str(path))


def _read_image(path: Path) -> None:
    try:
        with without_warnings(), open_image(path) as image:
            to_pixels(image, 16)
    except UNREADABLE as error:  # the caller gathers these, and names the files
        raise UserError(f"{path}: {error}") from None


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Returns a file with one to three changes: of bytes, of words, of values, of what a header claims, or cut off."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        content = rng.choice((_flip, _cut_off, _insert, _replace_word, _replace_word, _replace_value, _repeat))(
            content, rng
        )
    return content


def _flip(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 4, 32))):
        if changed:
            changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _cut_off(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _insert(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content) + 1)
    return content[:place] + rng.choice(ODD_WORDS) + content[place:]


def _repeat(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content) + 1)
    piece = content[start : start + rng.choice((1, 10, 100))]
    return content[:start] + piece * rng.choice((2, 10, 1000)) + content[start:]


def _replace_word(content: bytes, rng: random.Random) -> bytes:
    words = list(re.finditer(rb"[\w.]+|\"[^\"\n]{0,40}\"", content))
    if not words:
        return content
    word = rng.choice(words)
    return content[: word.start()] + rng.choice(ODD_WORDS) + content[word.end() :]


def _replace_value(content: bytes, rng: random.Random) -> bytes:
    """Replaces one value in a file of JSON, or the JSON header of safetensors, by an odd one of another type."""
    length = int.from_bytes(content[:8], "little")
    is_weights = 0 < length <= len(content) - 8
    texts = content[8 : 8 + length].split(b"\n") if is_weights else content.split(b"\n")
    number = rng.randrange(len(texts))
    try:
        data = json.loads(texts[number])
    except (ValueError, RecursionError):  # of what an earlier change left
        return content
    texts[number] = json.dumps(_with_odd_value(data, rng)).encode()
    changed = b"\n".join(texts)
    return len(changed).to_bytes(8, "little") + changed + content[8 + length :] if is_weights else changed


def _with_odd_value(data: Any, rng: random.Random) -> Any:
    if isinstance(data, str) and data[:1] in ("{", "["):  # JSON in JSON: the metadata of safetensors
        try:
            return json.dumps(_with_odd_value(json.loads(data), rng))
        except (ValueError, RecursionError):
            return rng.choice(ODD_VALUES)
    if rng.random() < 0.2 or not isinstance(data, dict | list) or not data:
        return rng.choice(ODD_VALUES)
    if isinstance(data, list):
        place = rng.randrange(len(data))
        return [*data[:place], _with_odd_value(data[place], rng), *data[place + 1 :]]
    key = rng.choice(list(data))
    if rng.random() < 0.1:
        return {name: value for name, value in data.items() if name != key}
    return {**data, key: _with_odd_value(data[key], rng)}
