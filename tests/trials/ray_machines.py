"""Rays on this machine, for tests: a cluster whose nodes share nothing with the driver, and what listens where."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray.cluster_utils import Cluster as RayCluster

from trials.engines.ray_internals import reload_authentication


@dataclass
class Machines:
    """A cluster on this machine whose nodes have room for one worker each, except the head, which has none."""

    cluster: Any
    temporary: Path
    """Where its nodes keep temporary files."""

    @property
    def cache(self) -> Path:
        """Where its nodes keep what jobs read."""
        return self.temporary / f"sret-nas-{os.getuid()}"

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def add(self) -> Any:
        return _started(lambda: self.cluster.add_node(num_cpus=1))


STARTS = 4
"""How often a node is started: Ray awaits its agents for 20 s only, which may be too short on a busy machine."""


def _started(start: Callable[[], Any]) -> Any:
    for _ in range(STARTS - 1):
        with suppress(Exception):  # Ray's own, of no class of its own
            return start()
    return start()


@contextmanager
def two_machines(elsewhere: Path) -> Iterator[Machines]:
    """A cluster that wants a token, started in another folder, with a home and temporary files of its own."""
    with ExitStack() as stack:
        # short: it holds sockets
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory("", "r", "/tmp", ignore_cleanup_errors=True)))
        (folder / "t" / "ray").mkdir(parents=True)
        stack.callback(reload_authentication)
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", uuid.uuid4().hex * 2)
        patch.setenv("HOME", str(folder))
        patch.setenv("TMPDIR", str(folder / "t"))
        patch.chdir(elsewhere)
        reload_authentication()
        head = {"num_cpus": 0, "include_dashboard": False, "include_log_monitor": False, "temp_dir": str(folder)}
        cluster = _started(lambda: RayCluster(initialize_head=True, head_node_args=head))
        machines = Machines(cluster, folder / "t")
        machines.add()
        machines.add()
        yield machines
        cluster.shutdown()


def listening_addresses(process: psutil.Process) -> dict[str, set[str]]:
    """Returns the addresses on which a process and its descendants accept connections, by the processes' names."""
    found: dict[str, set[str]] = {}
    for each in [process, *process.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            listening = [told for told in each.net_connections("inet") if told.status == psutil.CONN_LISTEN]
            found.setdefault(each.name(), set()).update(told.laddr.ip for told in listening)
    return found


LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
