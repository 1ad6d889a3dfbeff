"""Which run directory a search is resumed in: the one that was named, or one that a copy is fetched to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sret_nas.errors import UserError

from ..console import Console
from ..runs.remote_copy import fetch_run, fetched_to, is_copy
from ..runs.remote_storage import is_bucket, split_address


def resumed_directory(resume: Path | str, out: Path | None, options: dict[str, Any], console: Console) -> Path:
    """Returns the run directory to resume in.

    If `resume` names a copy, it is fetched, and its storage becomes the default of `storage` in `options`.

    Args:
        resume: A run directory, the folder of a copy, or its address as text.
        out: Where a copy is fetched to; None means `runs/NAME`.

    Raises `UserError` if `out` is another directory than the run directory, if the copy cannot be fetched, or if the
    run directory would be its own copy.
    """
    if is_copy(resume):
        if "storage" not in options:
            _require_apart(str(resume), out)
        fetched, storage = fetch_run(str(resume), out, console)
        options.setdefault("storage", storage)
        return fetched
    run_dir = Path(resume)
    if out is not None and out.resolve() != run_dir.resolve():
        raise UserError(f"a resumed search stays in its run directory: leave out --out, or give --resume {out}")
    return run_dir


def _require_apart(address: str, out: Path | None) -> None:
    """Raises `UserError`, before anything is fetched, if a run directory would lie where its copy is kept.

    That is so for a copy of a copy among the runs, made by hand.
    """
    storage, name = split_address(address)
    run_dir = fetched_to(name, out)
    if not is_bucket(storage) and (Path(storage) / run_dir.name).resolve() == run_dir.resolve():
        raise UserError(
            f"{address} is the copy of a run, and would be carried on in {run_dir}, where its own copy is kept: name "
            "another --out, or carry on without a copy, with --no-storage"
        )
