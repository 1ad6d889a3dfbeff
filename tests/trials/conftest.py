"""What tests of searches may use."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from pyarrow import fs

from tests.trials.s3_server import s3_server

if TYPE_CHECKING:
    from tests.trials.ray_machines import Machines


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """Yields a cluster that takes some ten seconds to start and stop. Tests leave it with two nodes for workers."""
    from tests.trials.ray_machines import two_machines  # here, as most tests do without Ray

    with two_machines(tmp_path_factory.mktemp("elsewhere")) as machines:
        yield machines


@pytest.fixture(scope="module")
def machines(cluster: Machines) -> Iterator[Machines]:
    """Yields the cluster, which tests of this module may join."""
    with cluster.admitting():
        yield cluster


@pytest.fixture(scope="session")
def s3_address() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture
def bucket(s3_address: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Returns the address of a new bucket, in a store that this process and those that it starts take for Amazon's."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    name = f"bucket-{uuid.uuid4().hex}"
    store, _ = fs.FileSystem.from_uri(f"s3://{name}?allow_bucket_creation=true")
    store.create_dir(name)
    return f"s3://{name}"
