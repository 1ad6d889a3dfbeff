"""Trainings in processes on Ray end in the same weights as with torchrun, bit for bit, whatever happens to them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image
from rich.console import Console

from cli import main
from sret_nas.errors import UserError
from sret_nas.yaml_files import dump_yaml
from tests import REPOSITORY
from tests.trials.distributed.torchrun_trainings import (
    INTERRUPTED,
    assert_carried_on,
    assert_same,
    mark,
    steps_of,
    torchrun,
)
from tests.trials.engines.marked_processes import MARK, processes_with
from tests.trials.ray_machines import LOOPBACK, Machines, listening_addresses, with_descendants
from tests.trials.supernet.tiny_supernet import SPACE
from tests.trials.training.tiny_training import ARCH
from trials.distributed import ray_group as on_ray
from trials.distributed.output_stream import FileUpdate, Update
from trials.engines.ray_worker import WorkerInfo
from trials.lost_directory import LostDirectoryError
from trials.runs.history import read_history
from trials.supernet.state import CHECKPOINT
from trials.supernet.training import SUPERNET

pytestmark = pytest.mark.slow

STEPS = 64
"""Long enough that something can happen in the middle of it."""
FLAGS = [
    "--image-size", "16", "--max-train-images", "80", "--max-val-images", "60", "--max-test-images", "20",
    "--images", str(STEPS * 32), "--batch-size", "32", "--seed", "3", "--threads", "1", "--device", "cpu",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def handlers() -> Iterator[None]:
    """Runs the command line with its own signal handlers."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of all trainings of this file, with the space and images that they share."""
    folder = tmp_path_factory.mktemp("trainings")
    (folder / "space.yaml").write_text(dump_yaml(SPACE.to_dict()))
    return folder


@pytest.fixture(scope="module")
def on_cluster(machines: Machines) -> list[str]:
    return ["--engine", "ray", "--ray-address", machines.address, "--workers", "2"]


def anew(folder: Path, name: str) -> list[str]:
    return ["supernet", "train", "--space", str(folder / "space.yaml"), *FLAGS, "--out", str(folder / name)]


@pytest.fixture(scope="module")
def whole(folder: Path) -> Path:
    """Returns the result of torchrun with two processes. Tests share it and must not change it."""
    torchrun(*anew(folder, "torchrun"))
    return folder / "torchrun"


@contextmanager
def on_first_updates(*acts: Callable[[], None]) -> Iterator[None]:
    """Calls a function when the first process begins to write, which is in the middle of its training.

    The next one is called when new processes, which have taken the place of lost ones, begin to write.
    """
    watch, apply, left = on_ray._watch, Update.apply, list(acts)
    may_act = [False]

    def watched(*arguments: Any) -> Any:
        may_act[0] = True
        return watch(*arguments)

    def and_act(self: Update, *arguments: Any) -> None:
        apply(self, *arguments)
        if self.files and may_act[0] and left:
            may_act[0] = False
            left.pop(0)()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(on_ray, "_watch", watched)
        patch.setattr(Update, "apply", and_act)
        yield
    assert left == []


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    return captured.out + captured.err


def test_a_search_trains_its_supernet_on_its_cluster(
    folder: Path, whole: Path, machines: Machines, capsys: pytest.CaptureFixture[str]
) -> None:
    """With one process per machine, which is recorded. Its trials find room afterwards.

    Files and lines reach the driver, and nothing stays on the machines.
    """
    flags = [word if word != "--images" else "--supernet-images" for word in FLAGS]
    asked = ["search", "--space", str(folder / "space.yaml"), *flags, "--trials", "4", "--finalists", "0", "--controls"]
    out, cached = folder / "search", set(machines.cache.glob("*/train_images.npy"))
    assert main([*asked, "0", "--engine", "ray", "--ray-address", machines.address, "--out", str(out)]) == 0
    told = shown(capsys)
    assert re.search(r"(?<!\d)1 thread in each of 2 processes on the cluster", told)
    assert re.search(rf"^step {STEPS}: validation accuracy smallest .*%", told, re.MULTILINE)
    history = read_history(out)
    assert (history.header["supernet"]["processes"], history.header["supernet"]["threads"]) == (2, 1)
    assert sum(trial.result is not None for trial in history.trials.values()) == 4
    assert_same(out / "supernet", whole)
    assert steps_of(out / "supernet") == STEPS
    (scalars,) = (out / "supernet" / "tensorboard").iterdir()
    assert scalars.read_bytes().count(b"loss") == STEPS
    assert [path.name for path in machines.temporary.glob("sret-nas-training-*")] == []
    assert set(machines.cache.glob("*/train_images.npy")) > cached, "the images travelled"


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Collects the process groups that are started during a test."""
    started: list[Any] = []
    join = on_ray.ProcessGroup._join
    monkeypatch.setattr(on_ray.ProcessGroup, "_join", lambda self, *rest: (started.append(self), join(self, *rest)))
    return started


def test_what_loses_a_process_or_a_machine_or_is_interrupted_is_carried_on_by_torchrun_and_ray(
    folder: Path, whole: Path, machines: Machines, on_cluster: list[str], groups: list[Any], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """One training: begun anew on Ray after the loss of a process, and interrupted there and under torchrun.

    Then a lost machine ends it, that of the second process, because there is no room for another one, and it is carried
    on.
    """
    begun = folder / "interrupted"
    resume = ["supernet", "train", "--resume", str(begun)]
    victims: list[WorkerInfo] = []

    def lose_a_process() -> None:
        victims.append(groups[-1].infos[1])
        os.kill(victims[0].process_id, signal.SIGKILL)

    def interrupt() -> None:
        assert len(groups) == 2
        interrupt_in_the_middle(groups[-1])

    with on_first_updates(lose_a_process, interrupt), pytest.raises(KeyboardInterrupt):
        main_raising([*anew(folder, "interrupted"), *on_cluster])
    told = shown(capsys)
    (line,) = [line for line in told.splitlines() if "starts again" in line]
    assert line.startswith(f"process 1 of 2 (pid {victims[0].process_id} on {victims[0].host}) ended: ")
    assert line.endswith("; the training starts again from the beginning (1 of 2 times)")
    assert f"carry on with: sret-nas supernet train --resume {begun} --engine ray" in told
    steps = steps_of(begun)
    assert 0 < steps < STEPS - 1
    assert not (begun / SUPERNET).exists()

    mark(begun)
    (tmp_path / "interrupted.py").write_text(INTERRUPTED.replace("INTERRUPTED_AT", str(steps + 1)))
    torchrun(*resume, script=tmp_path / "interrupted.py", code=130)
    assert steps_of(begun) == steps + 1

    def lose_a_machine() -> None:
        monkeypatch.setattr(on_ray, "START_SECONDS", 1.0)
        lost = groups[-1].infos[1]
        os.kill(lost.process_id, signal.SIGSTOP)  # its node takes a while to end, in which it must not train on
        node = next(node for node in machines.cluster.worker_nodes if node.node_id == lost.node_id)
        machines.cluster.remove_node(node, allow_graceful=False)
        with suppress(ProcessLookupError):
            os.kill(lost.process_id, signal.SIGKILL)

    try:
        with on_first_updates(lose_a_machine):
            assert main([*resume, *on_cluster]) == 1
    finally:
        monkeypatch.undo()
        machines.complete()
    error = shown(capsys).splitlines()[-1]
    assert "process 1 of 2" in error
    assert f"carry on with: sret-nas supernet train --resume {begun} --engine ray" in error
    assert not (begun / SUPERNET).exists()

    assert main([*resume, *on_cluster]) == 0
    assert_carried_on(begun, whole)


def interrupt_in_the_middle(group: Any) -> None:
    """Sends Ctrl-C to this process, and lets the training rest until it has surely been told."""
    rests = group.infos[1].process_id
    os.kill(rests, signal.SIGSTOP)
    threading.Timer(1.0, os.kill, (rests, signal.SIGCONT)).start()
    os.kill(os.getpid(), signal.SIGINT)


def main_raising(arguments: list[str]) -> None:
    """Runs the command line, and raises `KeyboardInterrupt` for its exit code."""
    if main(arguments) == 130:
        raise KeyboardInterrupt


def test_on_this_machine_ctrl_c_ends_all_that_was_started(folder: Path, whole: Path) -> None:
    """On a private Ray, interrupted as by a terminal, and resumed to the same weights."""
    mark, out = uuid.uuid4().hex, folder / "here"
    environment = {**os.environ, MARK: mark, "PYTHONPATH": str(REPOSITORY)}
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        environment.pop(name, None)
    command = [sys.executable, str(REPOSITORY / "cli.py")]
    flags = ["--engine", "ray", "--workers", "2"]
    driver = subprocess.Popen(
        [*command, *anew(folder, "here"), *flags], env=environment, process_group=0, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    while not (out / "tensorboard").exists() and driver.poll() is None:
        threading.Event().wait(0.05)
    listening = listening_addresses(with_descendants(psutil.Process(driver.pid)))
    os.killpg(driver.pid, signal.SIGINT)
    told, _ = driver.communicate(timeout=120)
    assert driver.returncode == 130, told
    assert told.endswith(
        f"carry on with: python {REPOSITORY}/cli.py supernet train --resume {out} --engine ray --workers 2\n"
    )
    assert listening["raylet"]
    assert set().union(*listening.values()) <= LOOPBACK, "torch's and gloo's ports included"
    assert processes_with(mark) == []
    assert 0 < steps_of(out) < STEPS
    assert main(["supernet", "train", "--resume", str(out), *flags]) == 0
    assert_same(out, whole)


@pytest.fixture(scope="module")
def network_flags(folder: Path) -> list[str]:
    """Returns the options of a training of a network, whose images lie at the same path on both machines."""
    (folder / "network.yaml").write_text(dump_yaml({"architecture": ARCH.to_dict()}))
    rng = np.random.default_rng(0)
    for name in ("cat", "dog", "fox"):
        (folder / "images" / name).mkdir(parents=True)
        for index in range(15):
            pixels = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / name / f"{index}.png")
    return [
        "train", str(folder / "network.yaml"), "--data", str(folder / "images"), "--epochs", "16", "--batch-size", "12",
        "--depth-schedule", "sandwich", "--threads", "1", "--data-workers", "0", "--device", "cpu",
    ]  # fmt: skip


def test_a_network_trains_on_a_cluster_as_with_torchrun(
    folder: Path, network_flags: list[str], on_cluster: list[str], groups: list[Any], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Interrupted after its first networks, and resumed in new processes. Only the first one has the directory.

    Machines without its images would have said so, before anything was written.
    """
    torchrun(*network_flags, "--out", str(folder / "network torchrun"))
    out, measure = folder / "network ray", on_ray.RayLauncher.measure

    def measure_also_without_images(self: Any, task: Any) -> Any:
        with pytest.raises(UserError, match=r"^[^\n]*/no/such/images[^\n]*$"):
            measure(self, replace(task, data=replace(task.data, source="/no/such/images")))
        assert not out.exists()
        return measure(self, task)

    monkeypatch.setattr(on_ray.RayLauncher, "measure", measure_also_without_images)
    with on_first_updates(lambda: interrupt_in_the_middle(groups[-1])), pytest.raises(KeyboardInterrupt):
        main_raising([*network_flags, "--out", str(out), *on_cluster])
    assert f"carry on with: sret-nas train --resume '{out}' --engine ray --ray-address" in shown(capsys)
    assert not (out / "result.yaml").exists()
    assert main(["train", "--resume", str(out), *on_cluster]) == 0
    expected = folder / "network torchrun"
    names = {str(path.relative_to(expected)) for path in expected.rglob("*") if path.is_file()}
    without = {name for name in names if name.startswith("tensorboard/")}
    assert {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} >= names - without
    for name in ("best/model.safetensors", "last/model.safetensors", "best/metrics.json"):
        assert (out / name).read_bytes() == (expected / name).read_bytes(), name


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--workers", "2"], "--workers goes with --engine ray"),
        (["--ray-address", "auto"], "--ray-address goes with --engine ray"),
        (["--engine", "ray", "--workers", "0"], "--workers must be at least 1, got 0"),
        (["--engine", "ray", "--gpus-per-worker", "2"], "--gpus-per-worker must be 0 or 1"),
        (["--engine", "ray", "--ray-address", "127.0.0.1:1"], "no Ray answers at "),
    ],
)
def test_what_does_not_go_together_is_refused(
    folder: Path, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*anew(folder, "refused"), *flags]) == 2
    (line,) = shown(capsys).splitlines()
    assert message in line
    assert not (folder / "refused").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--workers", "3"], r"--workers 3, each with 1 thread and 0 GPUs, are more than the cluster .* is 2 \("),
        (["--threads", "2"], r"--workers 2, each with 2 threads and 0 GPUs, .*, which is 0 "),
        (["--gpus-per-worker", "1"], "--gpus-per-worker goes with a GPU, got 1 and device cpu"),
        (["--gpus-per-worker", "1", "--device", "auto"], "no machine of the cluster .* has a GPU that Ray knows of"),
        (["--device", "cuda"], "--device cuda goes with --gpus-per-worker 1, and the cluster .* has 0 GPUs"),
        (["--batch-size", "2"], "every process must see at least 2 images at a time"),
    ],
)
def test_what_a_cluster_cannot_do_is_refused_before_it_starts_processes(
    folder: Path, on_cluster: list[str], groups: list[Any], flags: list[str], message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert main([*anew(folder, "refused"), *on_cluster, *flags]) == 2
    assert groups == []
    assert re.search(rf"^error: .*{message}", shown(capsys).splitlines()[-1])
    assert not (folder / "refused").exists()


def test_torchrun_and_ray_exclude_each_other(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main([*anew(folder, "refused"), "--engine", "ray"]) == 2
    assert "leave torchrun out" in shown(capsys)


def test_checkpoints_for_a_directory_that_is_gone_are_kept_beside(tmp_path: Path) -> None:
    directory, console = tmp_path / "run", Console(quiet=True)
    results = on_ray._TrainingDirectory(directory)
    results.apply(Update(files=(FileUpdate(CHECKPOINT, b"first", is_whole=True),)), console)
    shutil.rmtree(directory)
    results.apply(Update(text="step 1"), console)
    with pytest.raises(LostDirectoryError, match="run was deleted"):
        results.apply(Update(files=(FileUpdate(CHECKPOINT, b"second", is_whole=True),)), console)
    results.apply(Update(files=(FileUpdate(SUPERNET, b"last words", is_whole=True),)), console)
    assert not directory.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["run-rescued"]
    assert (tmp_path / "run-rescued" / CHECKPOINT).read_bytes() == b"second"
