"""Fixtures with the tiny supernet's module and data."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.trials.supernet.tiny_supernet import tiny_data
from trials.data import PreparedData


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return tiny_data(tmp_path_factory.mktemp("tiny-data"))
