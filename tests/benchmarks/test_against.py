"""The comparison with other networks: all of it at tiny sizes, killed and carried on, and what its networks cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.against import report, run, searches, trainings
from benchmarks.against.networks import TIMM, build, flops_of, params_of, sret_arch
from benchmarks.against.setting import CLASSES, Setting, published, small_targets
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.nn.network import SReT
from sret_nas.space.search_space import SearchSpace
from trials.training import checkpoint

PUBLISHED = published("anywhere")
TINY_SEARCH = (
    "--space", "smoke", "--supernet-images", "40", "--batch-size", "20", "--trials", "4", "--finalists", "0",
    "--controls", "0",
)  # fmt: skip


class KilledError(Exception):
    """Stands for the end of the process, at a place where nothing can be tidied up."""


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    """Returns four steps on noise, in colour."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for part, number in (("train", 10), ("val", 2)):
        for label in range(CLASSES):
            folder = root / part / f"class{label}"
            folder.mkdir(parents=True)
            for index in range(number):
                pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    return Setting(
        space=small_targets(SearchSpace.load("smoke"), 16), source=str(root), image_size=16,
        kinds=("found", "random", "ResNet"), budgets=(302_000,), seeds=(0,),
        images=80, batch_size=20, search_arguments=TINY_SEARCH, checkpoint_seconds=0.0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(setting: Setting, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a work directory in which everything was run without interruption."""
    work = tmp_path_factory.mktemp("against")
    run.run(setting, work, work / "results")
    return work


@pytest.mark.slow
def test_all_kinds_are_trained_and_reported(setting: Setting, whole: Path) -> None:
    found, trained = run.open_tables(whole, whole / "results")
    assert trained.done == {(kind, 302_000, 0) for kind in setting.kinds}
    (line,) = (line for line in trained.lines if line["kind"] == "found")
    assert line["flops"] == found.lines[0]["flops"] == cost_of(searches.found(found, 302_000)).flops
    assert setting.source not in found.lines[0]["command"]
    for line in trained.lines:
        assert 0 <= line["test_error"] <= 1
        assert line["images"] == 80
        assert line["latency_ms"] > 0
    run.report(setting, whole, whole / "reported")
    assert (whole / "reported" / "against.png").stat().st_size > 0


@pytest.mark.slow
def test_a_killed_training_goes_on_from_its_checkpoint(
    setting: Setting, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, steps = checkpoint.save_checkpoint, []

    def save_and_die(path: Path, state: Any, identity: dict[str, Any]) -> None:
        save(path, state, identity)
        steps.append(len(state.losses))
        if len(steps) == 2:
            raise KilledError

    monkeypatch.setattr(trainings, "save_checkpoint", save_and_die)
    monkeypatch.setattr(trainings, "STEPS_AT_ONCE", 1)
    table = trainings.Table(tmp_path / "none.gz", tmp_path / "growing", trainings.KEY)
    data = setting.prepared(whole / "data")
    with pytest.raises(KilledError):
        trainings.run(setting, "ResNet", 302_000, 0, None, data, tmp_path, table)
    trainings.run(setting, "ResNet", 302_000, 0, None, data, tmp_path, table)
    assert steps == [1, 2, 3, 4]
    (again,) = table.lines
    (once,) = (line for line in run.open_tables(whole, whole / "results")[1].lines if line["kind"] == "ResNet")
    assert {name: again[name] for name in ("train_loss", "test_error", "test_cross_entropy")} == {
        name: once[name] for name in ("train_loss", "test_error", "test_cross_entropy")
    }


@pytest.mark.slow
def test_a_training_that_is_there_is_not_run_again(setting: Setting, whole: Path) -> None:
    tables = run.open_tables(whole, whole / "results")
    before = [list(table.lines) for table in tables]
    run.run(setting, whole, whole / "results")
    assert [table.lines for table in run.open_tables(whole, whole / "results")] == before


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*TIMM, "published shape", "random"])
def test_networks_cost_about_what_they_are_compared_at(kind: str) -> None:
    budget = PUBLISHED.budgets[1]
    network = build(kind, budget, 0, PUBLISHED, None)
    bare = network if isinstance(network, SReT) else network.get_submodule("network")
    assert flops_of(bare, 32) == pytest.approx(budget, rel=0.12)
    assert params_of(network) > 0


@pytest.mark.slow
def test_random_networks_differ_by_seed_and_are_within_the_budget() -> None:
    drawn = [sret_arch("random", budget, seed, PUBLISHED) for budget in PUBLISHED.budgets for seed in PUBLISHED.seeds]
    assert len(set(drawn)) == len(drawn)
    for arch, budget in zip(drawn, [each for each in PUBLISHED.budgets for _ in PUBLISHED.seeds], strict=True):
        assert 0.97 * budget <= cost_of(arch).flops <= budget
        assert (arch.image_size, arch.classes) == (32, CLASSES)


def test_the_published_shape_keeps_its_proportions() -> None:
    arch: ArchConfig = sret_arch("published shape", PUBLISHED.budgets[2], 0, PUBLISHED)
    first, second, third = arch.stages
    assert (second.width, third.width) == (2 * first.width, 4 * first.width)
    assert [stage.recursions for stage in arch.stages] == [2, 2, 2]


def test_differences_are_of_equal_seeds() -> None:
    def line(kind: str, seed: int, error: float) -> dict[str, Any]:
        return {"kind": kind, "budget": 2_000_000, "seed": seed, "test_error": error, "flops": 1, "params": 1,
                "latency_ms": 1.0, "cpu_seconds": 1.0}  # fmt: skip

    lines = [line("found", 0, 0.2), line("found", 1, 0.3), line("ResNet", 1, 0.25), line("ViT", 2, 0.5)]
    found = report.figures(PUBLISHED, [], lines)
    cells = {(cell["kind"], cell["budget"]): cell for cell in found["cells"]}
    assert cells["ResNet", 2_000_000]["less_found"] == [-0.05]
    assert cells["ViT", 2_000_000]["less_found"] == []
    assert (cells["found", 2_000_000]["test_error"], cells["found", 2_000_000]["seeds"]) == (0.25, 2)
    assert cells["random", 2_000_000] == {"kind": "random", "budget": 2_000_000, "seeds": 0}
    assert found["progress"] == {"searches": [0, 3], "trainings": [4, 54]}
