"""Reads torch checkpoints from untrusted sources: tensors and plain data only, never code and never a zip bomb."""

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
    """Returns the content of a `torch.save` file, with its tensors on `device`. Runs no code in it (`weights_only`).

    Raises `UserError` if the file is not a regular file, is damaged, or holds anything but tensors and plain data. A
    compressed archive is refused too: torch never compresses, and a small compressed file could fill all memory.
    """
    with open_regular(path) as file:
        try:
            if zipfile.is_zipfile(file):
                _require_uncompressed(file, path)
            file.seek(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch warns about its checks of untrusted tensors
                return torch.load(file, map_location=device, weights_only=True)
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
