"""Rays on this machine, for tests: a cluster whose nodes share nothing with the driver, and what listens where."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray.cluster_utils import Cluster as RayCluster

from trials.engines.ray_internals import reload_authentication


@dataclass
class Machines:
    """A cluster on this machine whose nodes have room for one worker each, except the head, which has none.

    Its nodes are started in another folder, with a home and temporary files of their own. It wants a token.
    """

    folder: Path
    """Where its nodes keep their files: a short path, because it holds sockets."""
    elsewhere: Path
    """Where its nodes are started."""
    cluster: Any = None
    token: str = field(default_factory=lambda: uuid.uuid4().hex * 2)

    @property
    def temporary(self) -> Path:
        """Where its nodes keep temporary files."""
        return self.folder / "t"

    @property
    def cache(self) -> Path:
        """Where its nodes keep what jobs read."""
        return self.temporary / f"sret-nas-{os.getuid()}"

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    @contextmanager
    def admitting(self) -> Iterator[None]:
        """Lets this process join: it has the token, and works elsewhere.

        Ray's workers look for code where their driver works, and must not find the checkout.
        """
        patch = pytest.MonkeyPatch()
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", self.token)
        patch.chdir(self.elsewhere)
        reload_authentication()
        try:
            yield
        finally:
            patch.undo()
            reload_authentication()

    def start(self) -> None:
        """Starts the head, and nodes for two workers."""
        without = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
        head = {"num_cpus": 0, **without, "temp_dir": str(self.folder)}
        with self._at_home():
            self.cluster = _started(lambda: RayCluster(initialize_head=True, head_node_args=head))
        self.complete()

    def complete(self) -> None:
        """Starts nodes until there are two for workers."""
        while len(self.cluster.worker_nodes) < 2:
            self.add()

    def add(self) -> Any:
        """Starts another node."""
        with self._at_home():
            return _started(lambda: self.cluster.add_node(num_cpus=1))

    @contextmanager
    def _at_home(self) -> Iterator[None]:
        with self.admitting(), pytest.MonkeyPatch.context() as patch:
            patch.delenv("PYTHONPATH", raising=False)
            patch.setenv("HOME", str(self.folder))
            patch.setenv("TMPDIR", str(self.temporary))
            yield


STARTS = 4
"""How often a node is started: Ray awaits its agents for 20 s only, which may be too short on a busy machine."""


def _started(start: Callable[[], Any]) -> Any:
    for _ in range(STARTS - 1):
        with suppress(Exception):  # Ray's own, of no class of its own
            return start()
    return start()


@contextmanager
def two_machines(elsewhere: Path) -> Iterator[Machines]:
    """Yields a cluster with room for two workers. Nothing has its token outside of `admitting`."""
    with tempfile.TemporaryDirectory("", "r", "/tmp", ignore_cleanup_errors=True) as folder:
        machines = Machines(Path(folder), elsewhere)
        (machines.temporary / "ray").mkdir(parents=True)
        machines.start()
        yield machines
        with machines.admitting():
            ray.shutdown()  # a test that failed may have left a connection, with which no cluster ends
            machines.cluster.shutdown()


def with_descendants(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def listening_addresses(processes: list[psutil.Process]) -> dict[str, set[str]]:
    """Returns the addresses on which processes accept connections, by the processes' names."""
    found: dict[str, set[str]] = {}
    for each in processes:
        with suppress(psutil.NoSuchProcess):
            listening = [told for told in each.net_connections("inet") if told.status == psutil.CONN_LISTEN]
            found.setdefault(each.name(), set()).update(told.laddr.ip for told in listening)
    return found


LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
