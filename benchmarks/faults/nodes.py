"""A Ray cluster on this machine, of nodes that hold one worker each, which can be killed and added."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray.cluster_utils import Cluster


@dataclass
class Nodes:
    """The nodes that a search runs on; the head has no room for workers."""

    cluster: Cluster
    there: list[Any] = field(default_factory=list)

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def add(self) -> None:
        self.there.append(self.cluster.add_node(num_cpus=1))

    def kill(self) -> None:
        """Kills the first node, with all its processes."""
        self.cluster.remove_node(self.there.pop(0), allow_graceful=False)


@contextmanager
def cluster_of(number: int) -> Iterator[Nodes]:
    """Yields a cluster of so many nodes, with temporary files of its own."""
    folder = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))  # short: it holds sockets, whose names may not be long
    (folder / "ray").mkdir()  # where Ray notes its address
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(folder)
    cluster = Cluster()
    try:
        cluster.add_node(num_cpus=0, include_dashboard=False, temp_dir=str(folder))  # the head
        nodes = Nodes(cluster)
        for _ in range(number):
            nodes.add()
        yield nodes
    finally:
        cluster.shutdown()
        del os.environ["TMPDIR"]
        if before is not None:
            os.environ["TMPDIR"] = before
        shutil.rmtree(folder, ignore_errors=True)
