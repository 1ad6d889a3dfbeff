"""Which run directory a search is resumed in: the one that was named, or one that a copy is fetched to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sret_nas.errors import UserError

from ..console import Console
from ..runs.remote_copy import fetch_run, is_copy


def resumed_directory(resume: Path | str, out: Path | None, options: dict[str, Any], console: Console) -> Path:
    """Returns the run directory to resume in.

    If `resume` names a copy, it is fetched, and its storage becomes the default of `storage` in `options`.

    Args:
        resume: A run directory, the folder of a copy, or its address as text.
        out: Where a copy is fetched to; None means `runs/NAME`.

    Raises `UserError` if `out` is another directory than the run directory, or if the copy cannot be fetched.
    """
    if is_copy(resume):
        fetched, storage = fetch_run(str(resume), out, console)
        options.setdefault("storage", storage)
        return fetched
    run_dir = Path(resume)
    if out is not None and out.resolve() != run_dir.resolve():
        raise UserError(f"a resumed search stays in its run directory: leave out --out, or give --resume {out}")
    return run_dir
