"""Reads torch checkpoints from untrusted sources: tensors and plain data only, never code and never a zip bomb.

A tensor may also be a view that repeats one stored number a trillion times, or have no values at all (the meta device).
Whatever computes with such a tensor runs out of memory or fails, so those are refused here, for all readers.
"""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from sret_nas.bounded_files import open_regular
from sret_nas.errors import UserError, describe

_GLOBAL = re.compile(r"GLOBAL (\S+)")


def read_checkpoint(path: str | Path, device: torch.device | str = "cpu") -> Any:
    """Returns the content of a `torch.save` file, with its tensors on `device`. Runs no code in it (`weights_only`).

    Raises `UserError` if the file is not a regular file, is damaged, or holds anything but tensors and plain data. A
    compressed archive is refused too: torch never compresses, and a small compressed file could fill all memory. So are
    sparse tensors, and those with more values than the file.
    """
    with open_regular(path) as file:
        try:
            if zipfile.is_zipfile(file):
                _require_uncompressed(file, path)
            file.seek(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch warns about its checks of untrusted tensors
                content = torch.load(file, map_location=device, weights_only=True)
            _require_stored(content, path)
            return content
        except (UserError, torch.OutOfMemoryError):
            raise
        except pickle.UnpicklingError as error:
            code = _GLOBAL.search(str(error))  # the rest of torch's text advises to load without its checks
            what = f"it refers to {code[1]}, which could run anything" if code else _DAMAGED
            raise UserError(f"{path}: not a checkpoint that can be read safely: {what}") from None
        except Exception:  # arbitrary bytes can raise any exception anywhere in torch's reader, such as `KeyError(101)`
            raise UserError(f"{path}: not a checkpoint that can be read safely: {_DAMAGED}") from None


_DAMAGED = "it is no file of torch.save, or damaged"


def _require_uncompressed(file: Any, path: str | Path) -> None:
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED:
                raise UserError(
                    f"{path}: not a checkpoint that can be read safely: {entry.filename} in it is compressed"
                )


def _require_stored(content: object, path: str | Path) -> None:
    """Raises `UserError` for a tensor whose values are not all in the file, one by one."""
    seen: set[int] = set()
    left: list[tuple[str, object]] = [("", content)]
    while left:
        name, value = left.pop()
        if isinstance(value, torch.Tensor):
            if not _is_stored(value):
                raise UserError(f"{path}: {describe(name)} must be a plain tensor with all its values in the file")
        elif isinstance(value, dict | list | tuple | argparse.Namespace) and id(value) not in seen:
            seen.add(id(value))  # data may refer to themselves
            items = vars(value) if isinstance(value, argparse.Namespace) else value
            named = items.items() if isinstance(items, dict) else ((name, item) for item in items)
            left += [(str(key), item) for key, item in named]


def _is_stored(tensor: torch.Tensor) -> bool:
    if tensor.layout != torch.strided or tensor.is_meta:
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
