"""Reads files of torch.export without the parts of the format that could run code.

`torch.export.load` unpickles what a file says is pickled, loads native code from it, evaluates the expressions of its
shapes, and executes its guards. None of that is in a file of `write_torch_export`. So a file is read only if it has
nothing but graph, tensors and metadata, and its graph nothing but torch's operators and sizes of the batch.
"""

from __future__ import annotations

import io
import json
import logging
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from sret_nas.bounded_files import open_regular, require_regular
from sret_nas.errors import UserError, printable
from sret_nas.json_files import parse_json
from sret_nas.nn.exported_info import PREFIX

_ENTRIES = re.compile(
    r"(\.data/(version|serialization_id)|\.format_version|\.storage_alignment|archive_(format|version)|byteorder"
    r"|models/model\.json|data/sample_inputs/model\.pt"
    r"|data/weights/(weight_\d+|model_weights_config\.json)|data/constants/(tensor_\d+|model_constants_config\.json)"
    rf"|extra/{re.escape(PREFIX)}\w+)"
)
"""Paths in the archive below its first folder."""

_OPERATOR = re.compile(r"torch\.ops\.aten\.\w+\.\w+|_operator\.(getitem|add|sub|mul|floordiv|mod|eq|ge|le|gt|lt)")
_SIZE = re.compile(
    r"(Symbol\('[su]\d+'(, (positive|integer)=True)*\)|Integer\(\d+\)|Mul|Add|FloorDiv|Mod|[(), \d+*-])+"
)
_NAME = re.compile(r"[\w.]*")
_TYPES = ("builtins.tuple", "builtins.list", "builtins.dict", None)

_FREE_TEXT = ("nn_module_stack", "torch_fn", "source_fn_stack", "from_node", "stack_trace", "torch_version")
"""Keys whose text is never evaluated: they say where a node comes from."""


def read_exported_program(path: Path) -> tuple[torch.export.ExportedProgram, dict[str, str]]:
    """Returns the program in a `.pt2` file, and the extra files in it.

    Raises `UserError` if it is no file, is damaged, or has anything that `write_torch_export` never writes.
    """
    require_regular(path)
    logger = logging.getLogger("torch.export")
    before = logger.level
    try:
        with open_regular(path) as file:
            extra = _check(file)
            file.seek(0)
            logger.setLevel(logging.CRITICAL)  # torch logs a traceback for a damaged file, and then fails
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return torch.export.load(file), extra
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except UserError as error:
        raise UserError(f"{path}: not a model of torch.export that can be read safely: {error}") from None
    except Exception as error:  # arbitrary bytes can raise any exception anywhere in torch's reader
        reason = f"it is damaged ({type(error).__name__})"
        raise UserError(f"{path}: not a model of torch.export that can be read safely: {reason}") from None
    finally:
        logger.setLevel(before)


def _check(file: Any) -> dict[str, str]:
    """Returns the extra files of an archive. Raises `UserError` for anything in it that could run code."""
    with zipfile.ZipFile(file) as archive:
        contents: dict[str, str] = {}
        for entry in archive.infolist():
            name = entry.filename.partition("/")[2]
            if entry.compress_type != zipfile.ZIP_STORED:
                raise UserError(f"{_shown(entry.filename)} in it is compressed")
            if not _ENTRIES.fullmatch(name) or name in contents:
                raise UserError(f"{_shown(entry.filename)} does not belong in it")
            contents[name] = entry.filename
        for config in ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json"):
            for payload in parse_json(archive.read(contents[config]), config)["config"].values():
                if payload["use_pickle"] is not False or not _NAME.fullmatch(payload["path_name"]):
                    raise UserError(f"{config} refers to a pickle, which could run anything")
        _check_sample_inputs(archive.read(contents["data/sample_inputs/model.pt"]))
        _check_model(parse_json(archive.read(contents["models/model.json"]), "model.json"))
        extra = {name.removeprefix("extra/"): real for name, real in contents.items() if name.startswith("extra/")}
        return {name: archive.read(real).decode() for name, real in extra.items()}


def _check_sample_inputs(content: bytes) -> None:
    """Raises `UserError` for sample inputs that hold more than tensors: torch would then unpickle them all the same."""
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except Exception:  # arbitrary bytes can raise any exception anywhere in torch's reader
        raise UserError("its sample inputs are not tensors alone") from None


def _check_model(model: dict[str, Any]) -> None:
    """Raises `UserError` if a program has guards, or text that is neither a name, an operator nor a size."""
    if model.get("guards_code"):
        raise UserError("its program has guards, which are code")
    for key, text in _texts("", model):
        if key in _FREE_TEXT:
            continue
        if key in ("in_spec", "out_spec"):
            allowed = all(kind in _TYPES for kind in _types(json.loads(text)))
        else:
            allowed = bool({"target": _OPERATOR, "expr_str": _SIZE}.get(key, _NAME).fullmatch(text))
        if not allowed:
            raise UserError(f"{key} in its program is {_shown(repr(text))}")


def _texts(key: str, data: Any) -> Iterator[tuple[str, str]]:
    """Yields all strings in plain data, each with the key that it or its list has. Keys are texts as well."""
    if isinstance(data, str):
        yield key, data
    elif isinstance(data, list):
        for item in data:
            yield from _texts(key, item)
    elif isinstance(data, dict):
        for name, item in data.items():
            yield "key", name
            yield from _texts(name, item)


def _types(spec: Any) -> Iterator[str | None]:
    """Yields the types of a tree of arguments."""
    if isinstance(spec, list):
        for item in spec:
            yield from _types(item)
    elif isinstance(spec, dict):
        yield spec["type"]
        yield from _types(spec["children_spec"])


def _shown(text: str) -> str:
    return printable(text, 120)
