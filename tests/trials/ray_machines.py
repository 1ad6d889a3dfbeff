"""A cluster on this machine, for tests: nodes that share nothing with the driver but the address."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster as RayCluster


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
        return self.cluster.add_node(num_cpus=1, **free_ports())


def free_ports() -> dict[str, int]:
    """For a node's agents. Left to choose, they tell their ports by files, which Ray awaits for 20 s only."""
    names = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
    with ExitStack() as stack:
        listeners = {name: stack.enter_context(socket.socket()) for name in names}
        for listener in listeners.values():
            listener.bind(("", 0))
        return {name: listener.getsockname()[1] for name, listener in listeners.items()}


@contextmanager
def two_machines(elsewhere: Path) -> Iterator[Machines]:
    """A cluster that wants a token, started in another folder, with a home and temporary files of its own."""
    folder = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))  # short: it holds sockets
    (folder / "t" / "ray").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", uuid.uuid4().hex * 2)
        patch.setenv("HOME", str(folder))
        patch.setenv("TMPDIR", str(folder / "t"))
        patch.chdir(elsewhere)
        ray._raylet.Config.initialize("")
        ray._raylet.AuthenticationTokenLoader.instance().reset_cache()
        head = {"num_cpus": 0, "include_dashboard": False, "include_log_monitor": False, "temp_dir": str(folder)}
        cluster = RayCluster(initialize_head=True, head_node_args={**head, **free_ports()})
        machines = Machines(cluster, folder / "t")
        machines.add()
        machines.add()
        yield machines
        cluster.shutdown()
    ray._raylet.Config.initialize("")
    ray._raylet.AuthenticationTokenLoader.instance().reset_cache()
    shutil.rmtree(folder, ignore_errors=True)
