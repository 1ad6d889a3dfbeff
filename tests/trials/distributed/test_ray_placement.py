"""How many processes, threads and GPUs of a cluster a training takes, and a resumed one."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest

from sret_nas.errors import UserError
from tests.trials.supernet.tiny_supernet import config
from trials.data import PreparedData
from trials.distributed import ray_group as on_ray
from trials.distributed.launcher import RayPlacement
from trials.distributed.output_stream import OutputStream
from trials.machine import num_cores
from trials.runs.options import SearchOptions
from trials.search.supernet import SupernetProvision, _feasible_now, _num_equal_shards

pytestmark = pytest.mark.slow

CPUS, GPUS = {"CPU": 4.0}, {"CPU": 8.0, "GPU": 2.0}


@pytest.mark.parametrize(
    ("there", "asked", "device", "threads", "expected"),
    [
        ([CPUS], RayPlacement(), "auto", None, (1, 4, 0)),
        ([CPUS, {}, {"CPU": 6.0}], RayPlacement(), "auto", None, (2, 4, 0)),
        ([CPUS], RayPlacement(processes=3), "auto", None, (3, 1, 0)),
        ([CPUS, CPUS], RayPlacement(processes=4), "auto", None, (4, 2, 0)),
        ([CPUS, GPUS], RayPlacement(), "auto", None, (2, 4, 1)),
        ([{"CPU": 3.0, "GPU": 1.0}, GPUS], RayPlacement(), "cuda", None, (3, 3, 1)),
        ([CPUS, GPUS], RayPlacement(), "cpu", None, (2, 4, 0)),
        ([CPUS, GPUS], RayPlacement(gpus=0), "auto", 2, (2, 2, 0)),
    ],
)
def test_what_is_taken_of_a_cluster(
    there: list[dict[str, float]], asked: RayPlacement, device: str, threads: int | None,
    expected: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(on_ray, "machines", lambda: there)
    needs = on_ray.needs_of("it", asked, device, threads)
    assert (needs.processes, needs.threads, needs.gpus) == expected


@pytest.mark.parametrize(
    ("there", "held"),
    [
        ([], "0 (there: no machine with a CPU)"),
        ([{"GPU": 1.0}], "0 (there: no machine with a CPU)"),
        ([GPUS], "2 (there: 8 CPUs, 2 GPUs)"),
    ],
)
def test_more_than_there_is(there: list[dict[str, float]], held: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_ray, "machines", lambda: there)
    with pytest.raises(UserError, match=rf"^--workers 3, .* more than it holds, which is {re.escape(held)}"):
        on_ray.needs_of("it", RayPlacement(processes=3), "auto", None)


@pytest.mark.parametrize(
    ("there", "address", "expected"),
    [
        ([CPUS, CPUS], "auto", (2, 4)),
        ([CPUS], "auto", (None, min(4, num_cores()))),
        ([CPUS, {"CPU": 2.0}, CPUS], "auto", (2, 4)),
        ([CPUS, {"CPU": 2.0}], "auto", (2, 2)),
        ([CPUS, CPUS], None, (None, 4)),
    ],
)
def test_a_resumed_search_trains_as_it_was_begun_or_says_that_it_does_not(
    there: list[dict[str, float]], address: str | None, expected: tuple[int | None, int],
    data: PreparedData, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """It began in two processes of four threads, with four workers."""
    monkeypatch.setattr(on_ray, "machines", lambda: there)
    options = SearchOptions(engine="ray", ray_address=address, workers=4, batch_size=32, device="cpu", threads=1)
    told = OutputStream(data.directory)
    run: Any = SimpleNamespace(options=options, data_dir=data.directory, console=told.console)
    now = _feasible_now(run, SupernetProvision(config=config(), threads=4, processes=2))
    assert (now.processes, now.threads) == expected
    assert ("results may differ" in told.poll(0.0).text) == (expected != (2, 4))


def test_num_equal_shards_of_a_batch() -> None:
    assert [_num_equal_shards(64, most) for most in (0, 1, 3, 7, 8, 100)] == [1, 1, 2, 4, 8, 32]
    assert [_num_equal_shards(7, most) for most in (2, 7)] == [1, 1]
