"""What a supernet's training tells of itself: lines, scalars, scores, and that it became slow."""

from __future__ import annotations

import io
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console
from tensorboardX import SummaryWriter

from sret_nas.arch.budget import Budget
from sret_nas.nn.supernet import Supernet
from tests.trials.supernet.tiny_supernet import SPACE, config, proxy, trained
from trials.data import PreparedData
from trials.supernet import monitor
from trials.supernet.inherit import extract_for_eval
from trials.supernet.monitor import LINE_SECONDS, Monitor
from trials.supernet.networks import extreme
from trials.training.recipe import proxy_arch
from trials.training.train import score


@pytest.mark.parametrize(
    ("speeds", "said"),
    [
        ([400, 380, 60, 50], ["note: 60 images/s now, and 400 before"]),
        ([50, 400, 390], []),  # it became faster
        ([400, 150, 400], []),
    ],
)
def test_a_training_that_becomes_slow_says_so_once(
    speeds: list[int], said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(monitor.time, "monotonic", lambda: now[0])
    counts = SimpleNamespace(steps=0, images=0, seconds=0.0, skipped=0)
    optimizer = SimpleNamespace(param_groups=[{"lr": 1.0}])
    state = SimpleNamespace(counts=counts, step=SimpleNamespace(optimizer=optimizer))
    watched = SimpleNamespace(num_images=10**9, scores=None)  # scoring would take too long
    console = Console(file=io.StringIO(), width=200)
    with Monitor(tmp_path, cast(Any, state), cast(Any, watched), 1_000, console) as watching:
        for speed in speeds:
            now[0] += LINE_SECONDS + 1
            counts.steps, counts.images, counts.seconds = counts.steps + 1, counts.images + 10 * speed, now[0] * 10 / 11
            watching.step_done(1.0)
    notes = [line for line in console.file.getvalue().splitlines() if line.startswith("note")]  # type: ignore[attr-defined]
    assert len(notes) == len(said)
    assert all(note.startswith(text) for note, text in zip(notes, said, strict=True))


@pytest.mark.slow
def test_a_training_tells_how_it_goes(data: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines where there is no terminal, scalars for TensorBoard, and the scores of three subnets, the last ones those
    of the finished weights."""
    monkeypatch.setattr(monitor, "LINE_SECONDS", 0.0)
    monkeypatch.setattr(monitor, "MAX_SHARE", 0.0)
    scalars: list[tuple[str, float, int]] = []
    monkeypatch.setattr(
        SummaryWriter, "add_scalar", lambda self, name, value, step: scalars.append((name, value, step))
    )
    with (tmp_path / "told.txt").open("w") as file:
        path = trained(tmp_path, data, config(images=4 * 32), console=Console(file=file, width=200))
    told = (tmp_path / "told.txt").read_text().splitlines()
    assert (
        sum(bool(re.match(r"step [1-4] of 4: loss \d\.\d{3}, [\d,]+ images/s, .* left$", line)) for line in told) == 4
    )
    losses = [(value, step) for name, value, step in scalars if name == "loss"]
    assert [step for _, step in losses] == [1, 2, 3, 4]
    assert all(1 < value < 4 for value, _ in losses)  # about log 10
    rates = [value for name, value, _ in scalars if name == "learning_rate"]
    assert rates == pytest.approx([2e-3, 2e-3 * 0.853553, 2e-3 * 0.5, 2e-3 * 0.146447], rel=1e-4)  # a cosine
    accuracies = {name: value for name, value, step in scalars if name.startswith("accuracy/") and step == 4}
    supernet, _ = Supernet.load(path)
    for name, end in (("smallest", "cheapest"), ("largest", "most_expensive")):
        arch = proxy_arch(extreme(SPACE, Budget(), end), proxy(), channels=1, classes=10)  # type: ignore[arg-type]
        assert (
            accuracies[f"accuracy/{name}"] == 1 - score(extract_for_eval(supernet, arch, data, 32), data.val, 32).error
        )
    assert len(accuracies) == 3
    assert re.fullmatch(r"step 4: validation accuracy smallest .*%, middle .*%, largest .*%", told[-1])
