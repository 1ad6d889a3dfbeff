"""Data that a worker keeps between jobs, which end with the worker."""

from __future__ import annotations

import gc
import pickle
import subprocess
import sys
import weakref
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.errors import UserError
from sret_nas.feasible.feasible_set import FeasibleSet
from sret_nas.files import digest_of_file
from sret_nas.nn.supernet import Supernet
from sret_nas.space.search_space import SearchSpace
from sret_nas.space.supernet_shape import bounding_shape
from tests import REPOSITORY
from trials.data import DataConfig, prepare
from trials.engines.jobs import InheritedTrialJob, SupernetSource
from trials.training.recipe import ProxyConfig, TrainingConfig
from trials.worker.context import WorkerContext
from trials.worker.entry import JobRunner

SPACE = SearchSpace.load("smoke").model_copy(update={"image_size": 32, "channels": 1, "classes": 10})
NETWORKS = list(FeasibleSet(SPACE, Budget()))
PROXY = ProxyConfig(image_size=32, training=TrainingConfig(images=64, batch_size=32))
CPU = torch.device("cpu")

_TORCH = tuple(map(int, version("torch").split(".")[:2]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with images and two supernets."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("worker")
    prepare(DataConfig(image_size=32, max_train=64, max_val=50), folder / "data", None)
    for name in ("first", "second"):
        Supernet(bounding_shape(SPACE)).save(folder / f"{name}.safetensors", {})
    return folder


def source(folder: Path, name: str) -> SupernetSource:
    path = folder / f"{name}.safetensors"
    return SupernetSource(path=str(path), digest=digest_of_file(path))


def trial(folder: Path, arch: ArchConfig, supernet: str = "first") -> InheritedTrialJob:
    from trials.data import PreparedData

    return InheritedTrialJob(
        arch=arch, proxy=PROXY, data_dir=str(folder / "data"), data_digest=PreparedData.open(folder / "data").digest,
        device="cpu", threads=1, seed=0, depth_schedule="full", supernet=source(folder, supernet),
    )  # fmt: skip


@pytest.mark.slow
def test_a_worker_opens_images_and_supernet_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Path] = []
    load = Supernet.load
    monkeypatch.setattr(Supernet, "load", lambda path: loaded.append(path) or load(path))  # type: ignore[func-returns-value]
    worker = JobRunner()
    results = [worker(trial(folder, arch).model_dump(mode="json")) for arch in NETWORKS[:3]]
    assert loaded == [folder / "first.safetensors"]
    assert len({result["cross_entropy"] for result in results}) == 3
    again = JobRunner()(trial(folder, NETWORKS[2]).model_dump(mode="json"))
    assert again["cross_entropy"] == results[2]["cross_entropy"]
    assert len(loaded) == 2


@pytest.mark.slow
def test_what_it_keeps_goes_with_it(folder: Path) -> None:
    context = WorkerContext()
    kept = weakref.ref(context.supernet(source(folder, "first"), CPU))
    gc.collect()
    assert kept() is not None
    del context
    gc.collect()
    assert kept() is None


@pytest.mark.slow
def test_of_two_supernets_only_the_last_is_in_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is released before the second is read."""
    context = WorkerContext()
    first = weakref.ref(context.supernet(source(folder, "first"), CPU))
    was_there: list[bool] = []
    load = Supernet.load

    def watched(path: Path) -> object:
        gc.collect()
        was_there.append(first() is not None)
        return load(path)

    monkeypatch.setattr(Supernet, "load", watched)
    context.supernet(source(folder, "second"), CPU)
    assert was_there == [False]


def test_a_runner_travels_without_what_it_keeps(folder: Path) -> None:
    worker = JobRunner()
    before = len(pickle.dumps(worker))
    worker(trial(folder, NETWORKS[0]).model_dump(mode="json"))
    assert len(pickle.dumps(worker)) == before


def test_a_supernet_that_has_changed_is_refused(folder: Path, tmp_path: Path) -> None:
    context, meant = WorkerContext(), source(folder, "first")
    opened = context.supernet(meant, CPU)
    assert torch.equal(opened.head.weight, Supernet.load(Path(meant.path))[0].head.weight)
    with pytest.raises(UserError, match="its content has changed"):
        context.supernet(meant.model_copy(update={"digest": "0" * 64}), CPU)
    with pytest.raises(UserError, match=r"no\.safetensors: there is no such file"):
        context.supernet(SupernetSource(path=str(tmp_path / "no.safetensors"), digest="0"), CPU)


@pytest.mark.skipif(_TORCH < (2, 14), reason="seen of torch 2.9: it imports its compiler for every optimiser")
@pytest.mark.slow
def test_a_worker_of_a_search_does_without_what_only_whole_trainings_need(tmp_path: Path) -> None:
    """They take as long to import as all the rest, in every worker. So does torch's compiler, which neither a step
    nor a subnet needs, and SymPy takes a third of a second."""
    script = (
        "import sys, torch, trials.worker.dispatch\n"
        "from trials.training.optimizer import adamw\n"
        "weight = torch.nn.Parameter(torch.zeros(3))\n"
        "optimizer = adamw([{'params': [weight]}], 0.1)\n"
        "optimizer.zero_grad()\n"
        "weight.sum().backward()\n"
        "optimizer.step()\n"
        "optimizer.load_state_dict(optimizer.state_dict())\n"
        "from sret_nas.space.supernet_shape import bounding_shape\n"
        "from sret_nas.nn.supernet import Supernet\n"
        "from sret_nas.space.search_space import SearchSpace\n"
        "space = SearchSpace.load('smoke')\n"
        "supernet = Supernet(bounding_shape(space))\n"
        "supernet.save(sys.argv[1], {})\n"
        "Supernet.load(sys.argv[1])[0].extract(space.network([0] * len(space.stage_tables)))\n"
        "print([name for name in ('timm', 'torchvision', 'torch._dynamo', 'sympy') if name in sys.modules])"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "supernet.safetensors")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
