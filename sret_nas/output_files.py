"""Checks of output paths: no command overwrites its inputs, and existing files are replaced only with `--force`."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sret_nas.errors import UserError

HIDDEN = 11
"""Most bytes by which the name of a hidden or unfinished file is longer than that of the file that it becomes."""


def require_free(outputs: Iterable[Path], *, reads: Iterable[Path], force: bool = False, option: str = "--out") -> None:
    """Checks that writing the outputs destroys nothing; call it first, and again right before writing.

    Other spellings of a path, symbolic links and hard links count as the file itself.

    Args:
        outputs: Files to be written.
        reads: Files and folders that the command reads; missing ones are ignored.
        force: Whether existing files may be replaced. Inputs of the command are protected even so.
        option: The option that names the outputs, for the message.

    Raises:
        UserError: The first output that may not be written, and why.
    """
    sources = [source for source in reads if source.exists()]
    for output in outputs:
        require_writable(output, option)
        _require_room(output, option)
        if not os.path.lexists(output):
            continue
        if output.is_dir():
            raise UserError(f"{output} is a folder: name another {option}")
        if any(_is_part_of(output, source) for source in sources):
            raise UserError(f"{output} is read by this command, which never writes over it: name another {option}")
        if not force:
            raise UserError(f"{output} exists already: name another {option}, or write over it with --force")


def require_empty_folder(folder: Path, option: str = "--out") -> None:
    """Checks that a folder does not exist yet or is empty, and that it can be written.

    Raises `UserError` otherwise, naming the first entry of the folder.
    """
    require_writable(folder, option)
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise UserError(f"{folder} must be a folder, got a file: name another {option}")
    held = sorted(entry.name for entry in folder.iterdir())
    if held:
        raise UserError(f"{folder} is not empty (it holds {held[0]}): name an {option} that does not exist yet")


def require_new_folder(folder: Path, option: str = "--out") -> None:
    """Checks that a folder does not exist yet, or is empty and can be replaced as a whole.

    Raises `UserError` as `require_empty_folder`, and for a name that is too long, the current folder, or a mount point,
    which stay where they are.
    """
    require_empty_folder(folder, option)
    _require_room(folder, option)
    if not folder.is_dir():
        return
    if folder.samefile(os.curdir):
        raise UserError(
            f"{folder} is the folder that the command runs in, which cannot be replaced: name another {option}"
        )
    if os.path.ismount(folder):
        raise UserError(f"{folder} is a mount point, which cannot be replaced: name a folder inside it with {option}")


def holds_nothing(path: Path) -> bool:
    """Returns whether nothing lies at a path, or an empty folder."""
    return not os.path.lexists(path) or (path.is_dir() and not any(path.iterdir()))


def move_aside(path: Path) -> Path:
    """Renames what lies at a path, which may be a link, and returns its new path: the first free `NAME.old`."""
    names = (f"{path.name}.old{number}" for number in itertools.chain([""], itertools.count(2)))
    aside = next(free for name in names if not os.path.lexists(free := path.with_name(name)))
    path.rename(aside)
    return aside


def require_replaceable(file: Path) -> None:
    """Checks that a file can be made or replaced where no option names it. Raises `UserError` otherwise."""
    require_writable(file, "")
    if file.is_dir():
        raise _not_writable(file, "it is a folder", "")


def require_writable(path: Path, option: str = "--out") -> None:
    """Checks that a file or folder can be made or replaced, which is best known before long work.

    Raises `UserError` if the system allows neither, or allows no such name, with its reason. Without an option, nothing
    else can be named in its place.
    """
    try:
        os.lstat(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _not_writable(path, error.strerror, option) from None
    absolute = Path(os.path.abspath(path))  # unlike `resolve`, it does not follow a link, which would be replaced
    folder = next(folder for folder in (absolute, *absolute.parents) if folder.is_dir())
    if not os.access(folder, os.W_OK | os.X_OK):
        is_read_only = bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
        raise _not_writable(path, os.strerror(errno.EROFS if is_read_only else errno.EACCES), option)


def _require_room(path: Path, option: str) -> None:
    """Raises `UserError` for a name that leaves no room for that of the hidden file or folder that becomes it."""
    absolute = Path(os.path.abspath(path))
    folder = next(folder for folder in (absolute, *absolute.parents) if folder.is_dir())
    if 0 < os.pathconf(folder, "PC_NAME_MAX") < len(os.fsencode(absolute.name)) + HIDDEN:
        raise _not_writable(path, os.strerror(errno.ENAMETOOLONG), option)


def _not_writable(path: Path, reason: str | None, option: str) -> UserError:
    advice = f": name another {option}" if option else ""
    return UserError(f"{path} cannot be written: {reason}{advice}")


def require_outside(folder: Path, images: Path, option: str = "--out") -> None:
    """Raises `UserError` if a folder to be written lies inside an image folder, where it would be read as a class."""
    if images.is_dir() and _is_part_of(folder, images):
        raise UserError(
            f"{folder} must not lie inside the image folder {images}, where it would be read as a class: name another "
            f"{option}"
        )


def _is_part_of(output: Path, source: Path) -> bool:
    """Returns whether an output is the source itself or lies inside it."""
    if source.is_dir():
        return output.resolve().is_relative_to(source.resolve())
    return output.exists() and output.samefile(source)


@contextmanager
def new_folder(folder: Path, option: str = "--out") -> Iterator[Path]:
    """Yields a temporary folder that becomes `folder` when the block ends: whole, or not at all.

    A link to an empty folder stays a link. Raises `UserError` if the folder holds something or cannot be replaced,
    before and after the block. Missing parents are created.
    """
    require_new_folder(folder, option)
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    whole = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        yield whole
        whole.chmod(0o755)  # mkdtemp creates private folders; results are readable by all users
        require_new_folder(folder, option)
        whole.rename(folder)
    except BaseException:
        shutil.rmtree(whole, ignore_errors=True)
        raise
