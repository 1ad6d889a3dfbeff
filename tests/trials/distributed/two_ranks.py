"""A training in two processes, of which this one is the first and a copy of it the second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from torch.distributed import FileStore

from tests.forked import Forked
from trials.distributed.processes import process_group


def run_in_two_ranks(run: Callable[[], object], store: Path) -> None:
    """Runs a function in both processes of a process group, with the environment that torchrun would set.

    `store` is a new file, in which they meet.
    """

    def join(rank: int) -> None:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {"WORLD_SIZE": "2", "LOCAL_RANK": "0", "RANK": str(rank)}.items():
                patch.setenv(name, value)
            with process_group("cpu", FileStore(str(store), 2)):
                run()

    second = Forked(lambda: join(1))
    try:
        join(0)
    except BaseException:
        second.kill()
        raise
    finally:
        told, _ = second.communicate()
    assert second.returncode == 0, told
