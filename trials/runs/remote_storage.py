"""Stores for the copy of a run directory: a folder, such as a network share, or a prefix in a bucket (S3 or GCS).

A store holds whole files under names such as `weights/trial-0001.safetensors`; a write replaces a file entirely or not
at all. Buckets are accessed through PyArrow, which finds credentials and endpoints where the vendors' own tools do.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote

from sret_nas.errors import UserError
from sret_nas.files import expand_home, write_atomically

_BUCKET = re.compile(r"(?P<scheme>s3|gs)://(?P<path>[^/?#@\s]+(?:/[^?#\s]*)?)(?P<query>\?\S+)?")
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:/")
_HOST = re.compile(r"(?:https?://)?[\w.\[\]:-]+/?")
_WORD = re.compile(r"[\w.-]+")
_PARAMETERS = {
    "allow_bucket_creation": _WORD, "allow_bucket_deletion": _WORD, "endpoint_override": _HOST,
    "force_virtual_addressing": _WORD, "region": _WORD, "retry_limit_seconds": _WORD, "scheme": _WORD,
}  # fmt: skip
"""Parameters that an address may have, with the form of their values.

None can hold a secret, because addresses are kept in the records. Unlisted parameters are refused, also those that
PyArrow may add in the future.
"""
_GCS_SECONDS = 60
"""Time limit of retries in Google's client, whose default is 15 minutes."""


class RunStore(ABC):
    """Holds the copy of one run directory. All methods raise `OSError` if the store cannot be used."""

    def __init__(self, address: str) -> None:
        self.address = address
        """The address as users write it."""

    @abstractmethod
    def sizes(self) -> dict[str, int]:
        """Returns the bytes of every file by name; empty before anything was written."""

    @abstractmethod
    def size(self, name: str) -> int | None:
        """Returns the bytes of a file; None if it does not exist."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Returns the content of a file."""

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Writes a file, replacing an existing one."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Deletes a file if it exists."""


class FolderStore(RunStore):
    """A folder whose parent must exist: a missing parent is probably not mounted, so it is never created."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path

    def sizes(self) -> dict[str, int]:
        self._require_parent()
        files = (path for path in self._path.rglob("*") if _is_own_file(path))
        return {path.relative_to(self._path).as_posix(): path.stat().st_size for path in files}

    def size(self, name: str) -> int | None:
        self._require_parent()
        path = path_inside(self._path, name)
        return path.stat().st_size if path.is_file() else None

    def read(self, name: str) -> bytes:
        return path_inside(self._path, name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        self._require_parent()
        write_atomically(path_inside(self._path, name), content)

    def delete(self, name: str) -> None:
        path = path_inside(self._path, name)
        path.unlink(missing_ok=True)
        with suppress(OSError):  # it holds something else
            path.parent.rmdir()

    def _require_parent(self) -> None:
        if not self._path.parent.is_dir():
            raise FileNotFoundError(f"there is no folder {self._path.parent}: create or mount it")


class BucketStore(RunStore):
    """The objects of a bucket under one prefix."""

    def __init__(self, address: str) -> None:
        """Connects to the bucket.

        Raises `UserError` if PyArrow is not installed, and `OSError` if it reports that the bucket is not accessible.
        """
        super().__init__(address)
        try:
            from pyarrow import fs  # takes a tenth of a second, so only here
        except ModuleNotFoundError as error:
            raise UserError(f"{address} needs PyArrow ({error}): pip install -e '.[storage]'") from None
        self._fs = fs
        with _errors_of_arrow():
            self._filesystem, self._path = fs.FileSystem.from_uri(_with_retry_limit(address))

    def sizes(self) -> dict[str, int]:
        selector = self._fs.FileSelector(self._path, recursive=True, allow_not_found=True)
        with _errors_of_arrow():
            infos = self._filesystem.get_file_info(selector)
        prefix = f"{self._path}/"
        return {info.path.removeprefix(prefix): info.size for info in infos if info.is_file}

    def size(self, name: str) -> int | None:
        with _errors_of_arrow():
            info = self._filesystem.get_file_info(self._key(name))
        return info.size if info.is_file else None

    def read(self, name: str) -> bytes:
        with _errors_of_arrow(), self._filesystem.open_input_stream(self._key(name)) as stream:
            content: bytes = stream.read()
        return content

    def write(self, name: str, content: bytes) -> None:
        with _errors_of_arrow(), self._filesystem.open_output_stream(self._key(name)) as stream:
            stream.write(content)

    def delete(self, name: str) -> None:
        with _errors_of_arrow(), suppress(FileNotFoundError):
            self._filesystem.delete_file(self._key(name))

    def _key(self, name: str) -> str:
        return f"{self._path}/{name}"


def _is_own_file(path: Path) -> bool:
    """Returns whether a copy may have written this file: it is not hidden, and not a link."""
    return path.is_file() and not path.is_symlink() and not path.name.startswith(".")


def path_inside(folder: Path, name: str) -> Path:
    """Returns the path of a copied file inside a folder.

    Raises `OSError` if the name leads out of the folder: if it is absolute, has empty parts, `.` or `..`, or goes
    through a link. Names may come from a bucket that others can write to.
    """
    path = folder / name
    parts = name.split("/")
    if "\0" in name or "" in parts or not {".", ".."}.isdisjoint(parts) or PurePosixPath(name).is_absolute():
        raise OSError(f"it names a file {name!r}, which is not inside the run directory: delete or rename that file")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise OSError(f"{path} is a link that leads out of {folder}: remove the link")
    return path


@contextmanager
def _errors_of_arrow() -> Iterator[None]:
    """Turns PyArrow's own errors into `OSError`, which most of them are already."""
    from pyarrow import ArrowException

    try:
        yield
    except ArrowException as error:
        raise OSError(str(error)) from error


def _with_retry_limit(address: str) -> str:
    """Returns the address with a limit on retries, which Google's client would otherwise go on with for minutes."""
    if not address.startswith("gs://") or "retry_limit_seconds=" in address:
        return address
    return f"{address}{'&' if '?' in address else '?'}retry_limit_seconds={_GCS_SECONDS}"


def is_bucket(address: str) -> bool:
    return "://" in address


def normalise_address(storage: str) -> str:
    """Returns the canonical form of a storage: a bucket address without a trailing slash, or an absolute path.

    Raises `UserError` if it is neither, or may contain a secret, which the message does not repeat.
    """
    wanted = "must be a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX"
    if not storage:
        raise UserError(f"{wanted}, got nothing")
    if _SCHEME.match(storage) is None:
        return str(expand_home(storage).absolute())
    if "@" in unquote(unquote(storage)):
        raise UserError(f"must not hold credentials, which records would keep: {_CREDENTIALS}")
    match = _BUCKET.fullmatch(storage)
    if match is None:
        raise UserError(f"{wanted}, got {re.split('[?#]', storage)[0]!r}")
    query = match["query"] or ""
    for parameter in query[1:].split("&") if query else ():
        _check_parameter(parameter)
    return f"{match['scheme']}://{match['path'].rstrip('/')}{query}"


_CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or GOOGLE_APPLICATION_CREDENTIALS"


def _check_parameter(parameter: str) -> None:
    name, _, value = parameter.partition("=")
    if name not in _PARAMETERS:
        raise UserError(
            f"may have only the parameters {', '.join(_PARAMETERS)}; it must not hold secrets, which records would "
            f"keep: {_CREDENTIALS}"
        )
    if _PARAMETERS[name].fullmatch(unquote(value)) is None:
        rule = "HOST:PORT, http:// or https:// before it" if name == "endpoint_override" else "one word"
        raise UserError(f"parameter {name} must be {rule}, without credentials: {_CREDENTIALS}")


def store_for(storage: str, name: str) -> RunStore:
    """Returns the store for the run directory of this name in a storage. Raises `UserError` and `OSError`."""
    if not is_bucket(storage):
        return FolderStore(Path(storage) / name)
    base, mark, query = storage.partition("?")
    return BucketStore(f"{base}/{quote(name)}{mark}{query}")


def split_address(address: str) -> tuple[str, str]:
    """Returns the storage and the run's name in an address, for `store_for`. Raises `UserError` if it has no name."""
    if not is_bucket(address):
        path = Path(normalise_address(address))
        return str(path.parent), path.name
    base, mark, query = normalise_address(address).partition("?")
    storage, _, name = base.rpartition("/")
    if storage.endswith("/"):
        raise UserError(f"{base} is a bucket: name the copy of a run in it, such as {base}/2026-01-31-120000")
    run_name = unquote(name)
    if run_name in (".", "..") or "/" in run_name or not run_name.isprintable():
        raise UserError(f"{base} names no copy of a run: its last part must be the name of a folder, got {run_name!r}")
    return f"{storage}{mark}{query}", run_name


def one_line(error: OSError) -> str:
    """Returns an error's message on one line."""
    return " ".join(str(error).split())
