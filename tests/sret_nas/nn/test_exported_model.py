"""Exported files from outside: damaged ones and strangers' are refused in one line, and run no code."""

from __future__ import annotations

import io
import json
import pickle
import random
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sret_nas.errors import UserError
from sret_nas.nn.exported_info import ExportedInfo
from sret_nas.nn.exported_model import is_exported, open_exported
from tests.foreign_files.mutation import mutated
from tests.sret_nas.nn.conftest import Exported

CANARY = Path("canary")


class Malicious:
    """Writes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (CANARY, "code was run")


def changed(path: Path, change: Callable[[dict[str, bytes]], None]) -> bytes:
    """Returns the archive of torch.export with other entries; their names are those below the first folder."""
    with zipfile.ZipFile(path) as archive:
        first = archive.namelist()[0].partition("/")[0]
        entries = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    change(entries)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in entries.items():
            archive.writestr(f"{first}/{name}", content)
    return buffer.getvalue()


def pickled(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def in_model(old: str, new: str) -> Callable[[dict[str, bytes]], None]:
    def change(entries: dict[str, bytes]) -> None:
        text = entries["models/model.json"].decode()
        assert old in text
        entries["models/model.json"] = text.replace(old, new).encode()

    return change


def with_pickled_weight(entries: dict[str, bytes]) -> None:
    name = "data/weights/model_weights_config.json"
    config = json.loads(entries[name])
    next(iter(config["config"].values()))["use_pickle"] = True
    entries[name] = json.dumps(config).encode()
    entries["data/weights/weight_0"] = pickled(Malicious())


def with_pickled_constant(entries: dict[str, bytes]) -> None:
    name = "data/constants/model_constants_config.json"
    config = json.loads(entries[name])
    next(iter(config["config"].values()))["path_name"] = "opaque_obj_0"
    entries[name] = json.dumps(config).encode()
    entries["data/constants/opaque_obj_0"] = pickle.dumps(Malicious())


SYMBOL = "Symbol('s34', positive=True, integer=True)"

HARMFUL = {
    "a pickle among the weights": (with_pickled_weight, "pickle"),
    "a pickle among the constants": (with_pickled_constant, "does not belong"),
    "sample inputs that run code": (
        lambda entries: entries.update({"data/sample_inputs/model.pt": pickled(Malicious())}),
        "sample inputs",
    ),
    "native code": (lambda entries: entries.update({"data/aotinductor/model/a.so": b"code"}), "does not belong"),
    "an operator of Python": (in_model("torch.ops.aten.linear.default", "torch.load"), "target in its program"),
    "a size that is evaluated": (in_model(SYMBOL, "__import__('os').mkdir('canary')"), "expr_str in its program"),
    "guards": (in_model('"guards_code": []', '"guards_code": ["open(1)"]'), "guards"),
    "a name that is code": (in_model('"name": "linear"', '"name": "a; import os"'), "name in its program"),
}


@pytest.mark.parametrize(("change", "message"), HARMFUL.values(), ids=HARMFUL.keys())
def test_a_pt2_file_that_could_run_code_is_refused(
    exported: Exported, change: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.pt2").write_bytes(changed(exported.pt2, change))
    with pytest.raises(UserError, match=r"m\.pt2: not a model of torch.export that can be read safely: .*" + message):
        open_exported(tmp_path / "m.pt2", threads=1)
    assert not CANARY.exists()


def test_an_unchanged_copy_is_read(exported: Exported, tmp_path: Path) -> None:
    (tmp_path / "m.pt2").write_bytes(changed(exported.pt2, lambda entries: None))
    assert open_exported(tmp_path / "m.pt2", threads=1).info == exported.info


@pytest.mark.parametrize("name", ["pt2", "onnx", "xml"])
@pytest.mark.parametrize("damage", [lambda content: content[: len(content) // 2], lambda content: b"", bytes.swapcase])
def test_a_damaged_file_is_refused_in_one_line(
    exported: Exported, name: str, damage: Callable[[bytes], bytes], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    original = getattr(exported, name)
    path = tmp_path / original.name
    path.write_bytes(damage(original.read_bytes()))
    with pytest.raises(UserError, match=str(path)) as caught:
        open_exported(path, threads=1)
    assert str(caught.value).isprintable()
    assert capfd.readouterr().out == ""


def test_metadata_that_contradict_each_other_are_refused(exported: Exported, tmp_path: Path) -> None:
    model = onnx.load(exported.onnx)
    for entry in model.metadata_props:
        if entry.key == "sret_nas.class_names":
            entry.value = '["one"]'
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(UserError, match="class_names must have 5 names, got 1"):
        open_exported(tmp_path / "m.onnx", threads=1)


def test_a_stranger_s_onnx_file_runs_without_what_is_known(exported: Exported, tmp_path: Path) -> None:
    model = onnx.load(exported.onnx)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "m.onnx")
    opened = open_exported(tmp_path / "m.onnx", threads=1)
    assert opened.info is None
    assert opened.input_shape == (None, 3, 33, 33)


def test_what_is_wrong_with_an_onnx_file_is_printed_by_nobody(
    exported: Exported, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    content = exported.onnx.read_bytes()
    assert b"MatMul" in content
    (tmp_path / "m.onnx").write_bytes(content.replace(b"MatMul", b"\xefatMul"))  # an operator whose name is no UTF-8
    with pytest.raises(UserError, match=r"m\.onnx: cannot be read as an ONNX model: .*0xef"):
        open_exported(tmp_path / "m.onnx", threads=1)
    assert capfd.readouterr().out == ""


def test_metadata_are_read_as_they_were_written(exported: Exported) -> None:
    entries = exported.info.to_entries()
    assert json.loads(entries["sret_nas.class_names"]) == list(exported.info.class_names or ())
    assert ExportedInfo.from_entries({**entries, "author": "somebody"}, "here") == exported.info
    assert ExportedInfo.from_entries({"author": "somebody"}, "here") is None


def test_exported_models_are_known_by_their_endings_and_files(exported: Exported, tmp_path: Path) -> None:
    assert all(is_exported(Path(name)) for name in ("a.onnx", "a.PT2", "a.xml"))
    assert not is_exported(Path("a.safetensors"))
    assert is_exported(exported.xml.parent)
    assert not is_exported(tmp_path)


@pytest.mark.parametrize("ours", ["config.json", "best/config.json", "last/config.json", "best.yaml"])
def test_a_folder_of_ours_with_an_openvino_model_in_it_names_its_network(ours: str, tmp_path: Path) -> None:
    (tmp_path / "model.xml").touch()
    assert is_exported(tmp_path)
    file = tmp_path / ours
    file.parent.mkdir(exist_ok=True)
    file.touch()
    file.with_name("model.safetensors").touch()
    assert not is_exported(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pt2", "onnx", "xml"])
@settings(max_examples=15, print_blob=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_a_changed_file_is_read_or_refused_in_one_line(
    name: str, seed: int, exported: Exported, tmp_path: Path
) -> None:
    good: Path = getattr(exported, name)
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
        path = Path(folder, good.name)
        path.write_bytes(mutated(good.read_bytes(), random.Random(seed)))
        if name == "xml":
            shutil.copy(good.with_suffix(".bin"), folder)
        try:
            open_exported(path, threads=1)
        except UserError as error:
            text = str(error)
            assert text.isprintable(), f"seed {seed}"
            assert str(path) in text, f"seed {seed}: {text}"
