"""Checkpoints of torch, read without trust: tensors and plain data only, no more of them than the file has bytes."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from sret_nas.bounded_files import open_regular
from sret_nas.errors import UserError

_GLOBAL = re.compile(r"GLOBAL (\S+)")


def read_checkpoint(path: str | Path, device: torch.device | str = "cpu") -> Any:
    """Returns what `torch.save` wrote, its tensors on a device. Nothing in the file is run (`weights_only`).

    Raises `UserError` for a file that is none, is damaged, holds anything but tensors and plain data, or is packed,
    which torch never does and which would let a small file fill all memory.
    """
    with open_regular(path) as file:
        try:
            if zipfile.is_zipfile(file):
                _require_unpacked(file, path)
            file.seek(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch tells of checks that it makes of foreign tensors
                return torch.load(file, map_location=device, weights_only=True)
        except (UserError, torch.OutOfMemoryError):
            raise
        except pickle.UnpicklingError as error:
            code = _GLOBAL.search(str(error))
            what = f"it refers to {code[1]}, which could run anything" if code else _first_line(error)
            raise UserError(f"{path}: not a checkpoint that can be read safely: {what}") from None
        except Exception as error:  # bytes that are no checkpoint fail anywhere in the reader, in any way
            raise UserError(f"{path}: not a checkpoint that can be read safely: {_first_line(error)}") from None


def _require_unpacked(file: Any, path: str | Path) -> None:
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED:
                raise UserError(f"{path}: not a checkpoint that can be read safely: {entry.filename} in it is packed")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
