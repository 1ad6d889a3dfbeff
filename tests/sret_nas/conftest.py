"""What tests of networks and their costs may use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sret_nas.arch.config import ArchConfig
    from sret_nas.nn.flops import TracedCost


@pytest.fixture(scope="session")
def traced_cost() -> Iterator[Callable[[ArchConfig], TracedCost]]:
    """Counts a network with fvcore as `fvcore_cost` does, in half the time.

    Weights are left as memory has them, since a count asks for shapes alone. And the thread has a short stack: a trace
    keeps the stack of every operator, with pytest's frames.
    """
    import torch  # here, as most of these tests do without

    from sret_nas.nn.flops import fvcore_cost

    def count(arch: ArchConfig) -> TracedCost:
        with pytest.MonkeyPatch.context() as patch:
            for name in ("kaiming_uniform_", "trunc_normal_", "uniform_"):
                patch.setattr(torch.nn.init, name, lambda tensor, *_, **__: tensor)
            return thread.submit(fvcore_cost, arch).result()

    with ThreadPoolExecutor(max_workers=1) as thread:
        yield count
