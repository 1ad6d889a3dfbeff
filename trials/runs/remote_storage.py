"""Where the copy of a run directory is kept: a folder, such as one that machines share, or a bucket of an object store.

A place holds whole files under names such as `weights/trial-0001.safetensors`; a file is replaced at once or not at
all. Buckets are PyArrow's to know, which takes credentials and endpoints from where the stores' own tools take them.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote

from sret_nas.errors import UserError
from sret_nas.files import write_atomically

_BUCKET = re.compile(r"(?P<scheme>s3|gs)://(?P<path>[^/?#@\s]+(?:/[^?#\s]*)?)(?P<query>\?\S+)?")
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:/")
_HOST = re.compile(r"(?:https?://)?[\w.\[\]:-]+/?")
_WORD = re.compile(r"[\w.-]+")
_PARAMETERS = {
    "allow_bucket_creation": _WORD, "allow_bucket_deletion": _WORD, "endpoint_override": _HOST,
    "force_virtual_addressing": _WORD, "region": _WORD, "retry_limit_seconds": _WORD, "scheme": _WORD,
}  # fmt: skip
"""Parameters that an address may have, and what they may say: nothing that could be a secret, which records would keep.

Whatever is not listed is refused, so that a parameter with a secret which PyArrow learns tomorrow is refused as well.
"""
_GCS_SECONDS = 60
"""How long Google's client may try again; by default it does for 15 minutes."""


class Place(ABC):
    """A folder or bucket, or a part of it, that holds the copy of one run directory. Methods raise `OSError` alone."""

    def __init__(self, address: str) -> None:
        self.address = address
        """As users write it."""

    @abstractmethod
    def sizes(self) -> dict[str, int]:
        """The bytes of every file, by its name; nothing where nothing was written yet."""

    @abstractmethod
    def size(self, name: str) -> int | None:
        """The bytes of a file; None if it is not there."""

    @abstractmethod
    def read(self, name: str) -> bytes: ...

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Puts a file there, or in the place of the one that is there."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Does nothing if the file is not there."""


class Folder(Place):
    """A folder inside one that is there: a parent that is missing is not mounted, and is never made."""

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


class Bucket(Place):
    """The objects of a bucket whose keys begin alike."""

    def __init__(self, address: str) -> None:
        """Raises `UserError` if PyArrow is not installed, `OSError` if there is no such bucket, as far as it tells."""
        super().__init__(address)
        try:
            from pyarrow import fs  # a tenth of a second, for those who need it
        except ModuleNotFoundError as error:
            raise UserError(f"{address} needs PyArrow ({error}): pip install -e '.[storage]'") from None
        self._fs = fs
        with _errors_of_arrow():
            self._store, self._path = fs.FileSystem.from_uri(_with_patience(address))

    def sizes(self) -> dict[str, int]:
        selector = self._fs.FileSelector(self._path, recursive=True, allow_not_found=True)
        with _errors_of_arrow():
            found = self._store.get_file_info(selector)
        prefix = f"{self._path.rstrip('/')}/"
        return {info.path.removeprefix(prefix): info.size for info in found if info.is_file}

    def size(self, name: str) -> int | None:
        with _errors_of_arrow():
            info = self._store.get_file_info(self._key(name))
        return info.size if info.is_file else None

    def read(self, name: str) -> bytes:
        with _errors_of_arrow(), self._store.open_input_stream(self._key(name)) as stream:
            content: bytes = stream.read()
        return content

    def write(self, name: str, content: bytes) -> None:
        with _errors_of_arrow(), self._store.open_output_stream(self._key(name)) as stream:
            stream.write(content)

    def delete(self, name: str) -> None:
        with _errors_of_arrow(), suppress(FileNotFoundError):
            self._store.delete_file(self._key(name))

    def _key(self, name: str) -> str:
        return f"{self._path.rstrip('/')}/{name}"


def _is_own_file(path: Path) -> bool:
    """Returns whether this is a file that a copy may have written: not hidden, and no link to a file elsewhere."""
    return path.is_file() and not path.is_symlink() and not path.name.startswith(".")


def path_inside(folder: Path, name: str) -> Path:
    """Returns the path of a file of a copy in a folder.

    Raises `OSError` if the name, which may come from a bucket that others write, leads out of the folder: if it is
    absolute, has empty parts, `.` or `..`, or goes through a link.
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
    """Most of them are `OSError` already."""
    from pyarrow import ArrowException

    try:
        yield
    except ArrowException as error:
        raise OSError(str(error)) from error


def _with_patience(address: str) -> str:
    if not address.startswith("gs://") or "retry_limit_seconds=" in address:
        return address
    return f"{address}{'&' if '?' in address else '?'}retry_limit_seconds={_GCS_SECONDS}"


def is_bucket(address: str) -> bool:
    return "://" in address


def normalise_address(storage: str) -> str:
    """Returns the one spelling of a storage: a bucket without a slash at its end, or an absolute path.

    Raises `UserError`, which repeats nothing that could be a secret, if it is neither or could hold one.
    """
    wanted = "must be a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX"
    if not storage:
        raise UserError(f"{wanted}, got nothing")
    if _SCHEME.match(storage) is None:
        return str(Path(storage).expanduser().absolute())
    if "@" in unquote(unquote(storage)):
        raise UserError(f"must not hold credentials, which records would keep: {_CREDENTIALS}")
    found = _BUCKET.fullmatch(storage)
    if found is None:
        raise UserError(f"{wanted}, got {re.split('[?#]', storage)[0]!r}")
    query = found["query"] or ""
    for parameter in query[1:].split("&") if query else ():
        _check_parameter(parameter)
    return f"{found['scheme']}://{found['path'].rstrip('/')}{query}"


_CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or GOOGLE_APPLICATION_CREDENTIALS"


def _check_parameter(parameter: str) -> None:
    name, _, value = parameter.partition("=")
    if name not in _PARAMETERS:
        raise UserError(
            f"may have the parameters {', '.join(_PARAMETERS)}, and has another; secrets must not stand here, where "
            f"records would keep them: {_CREDENTIALS}"
        )
    if _PARAMETERS[name].fullmatch(unquote(value)) is None:
        rule = "HOST:PORT, http:// or https:// before it" if name == "endpoint_override" else "one word"
        raise UserError(f"parameter {name} must be {rule}, without credentials: {_CREDENTIALS}")


def place_of(storage: str, name: str) -> Place:
    """Where the copy of the run directory with this name lies in a storage. Raises `UserError` and `OSError`."""
    if not is_bucket(storage):
        return Folder(Path(storage) / name)
    base, mark, query = storage.partition("?")
    return Bucket(f"{base}/{quote(name)}{mark}{query}")


def split_address(address: str) -> tuple[str, str]:
    """Storage and name of the copy at an address, as `place_of` takes them. Raises `UserError` if it names no copy."""
    if not is_bucket(address):
        path = Path(normalise_address(address))
        return str(path.parent), path.name
    base, mark, query = normalise_address(address).partition("?")
    storage, _, name = base.rpartition("/")
    if storage.endswith("/"):
        raise UserError(f"{base} is a bucket: name the copy of a run in it, such as {base}/2026-01-31-120000")
    run_name = unquote(name)
    if run_name in ("", ".", "..") or "/" in run_name or not run_name.isprintable():
        raise UserError(f"{base} names no copy of a run: its last part must be the name of a folder, got {run_name!r}")
    return f"{storage}{mark}{query}", run_name


def one_line(error: OSError) -> str:
    """What went wrong, on one line."""
    return " ".join(str(error).split())
