"""Private names of Ray's that tests use, beside those of `trials.engines.ray_internals`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray._common.usage.usage_constants import CLUSTER_METADATA_KEY
from ray._private.ray_constants import KV_NAMESPACE_CLUSTER
from ray._raylet import GcsClient
from ray.autoscaler._private.util import prepare_config, validate_config

__all__ = ["metadata_changed", "prepare_config", "validate_config"]


@contextmanager
def metadata_changed(address: str, **changes: Any) -> Iterator[None]:
    """Lets the head of a cluster say something else of itself, such as its `ray_version`."""
    store = GcsClient(address=address)
    before = store.internal_kv_get(CLUSTER_METADATA_KEY, KV_NAMESPACE_CLUSTER)
    content = json.dumps({**json.loads(before), **changes}).encode()
    store.internal_kv_put(CLUSTER_METADATA_KEY, content, True, KV_NAMESPACE_CLUSTER)
    yield
    store.internal_kv_put(CLUSTER_METADATA_KEY, before, True, KV_NAMESPACE_CLUSTER)
