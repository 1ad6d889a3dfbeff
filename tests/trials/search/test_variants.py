"""A whole search that chooses among residual connections, heads and stems, by one supernet."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console

from cli import main
from sret_nas.arch.config import ArchConfig
from sret_nas.nn.network import SReT
from sret_nas.nn.supernet import Supernet
from sret_nas.yaml_files import dump_yaml
from tests.counted_spaces import space_of
from trials.runs.history import read_history
from trials.runs.options import SearchOptions
from trials.search.run import Run
from trials.search.search import start_search

pytestmark = pytest.mark.slow

SPACE = space_of(
    {"width": [8, 12], "recursions": [1, 2], "groups": [[4, 2], [1]]},
    {"width": [12, 16], "heads": [4], "recursions": [1, 2], "groups": [[1], [2]], "nll": ["every", "none"]},
    residual=["path", "branch", "plain"], head=["average", "class_token", "distillation_token"],
    stem={"kind": ["conv", "patch"], "norm": ["batch", "layer", "none"], "strides": [2, 2, 1]},
)  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs")
    (folder / "space.yaml").write_text(dump_yaml(SPACE.to_dict()))
    options: dict[str, Any] = {
        "space": str(folder / "space.yaml"), "params_budget": 12_000, "trials": 40, "seed": 3,
        "max_train_images": 128, "max_val_images": 100, "max_test_images": 100, "image_size": 24, "batch_size": 32,
        "supernet_images": 320, "train_images": 96, "finalists": 1, "controls": 1, "device": "cpu", "workers": 0,
    }  # fmt: skip
    console = Console(file=io.StringIO(), width=120)
    return start_search(SearchOptions.parse(options, "search"), folder / "run", ["test"], console)


def test_trials_have_every_variant_and_the_best_builds(finished: Run) -> None:
    archs = [trial.candidate.arch for trial in finished.trials]
    assert {arch.residual for arch in archs} == set(SPACE.residual)
    assert {arch.head for arch in archs} == set(SPACE.head)
    assert {(arch.stem.kind, arch.stem.norm) for arch in archs} == {(stem.kind, stem.norm) for stem in SPACE.stem.stems}
    for path in [finished.run_dir / "best.yaml", *(finished.run_dir / "pareto").iterdir()]:
        network = SReT.from_yaml(path).eval()
        assert sum(parameter.numel() for parameter in network.parameters()) <= 12_000
        assert network(torch.zeros(1, network.arch.channels, 32, 32)).shape == (1, network.arch.classes)


def test_a_trial_s_network_is_the_supernet_s(finished: Run) -> None:
    supernet, _ = Supernet.load(finished.run_dir / "supernet" / "supernet.safetensors")
    assert (supernet.shape.residual, supernet.shape.head) == (SPACE.residual, SPACE.head)
    for trial in finished.trials[:10]:
        assert trial.result is not None
        supernet.extract(trial.result.proxy_arch)


def test_the_report_says_what_the_variants_are_worth(finished: Run) -> None:
    page = (finished.run_dir / "report.html").read_text()
    for words in ("residual: ", "head: ", "stem kind: conv to patch", "stem norm: "):
        assert words in page


def test_the_best_structure_at_another_cost_is_picked(finished: Run, capsys: pytest.CaptureFixture[str]) -> None:
    out = finished.run_dir.parent / "picked.yaml"
    assert main(["runs", "pick", str(finished.run_dir), "--params", "9K", "--out", str(out)]) == 0
    assert SPACE.contains(_as_searched(ArchConfig.from_yaml(out)))
    assert yaml.safe_load(out.read_text())["cost"]["params"] <= 9_000


def _as_searched(arch: ArchConfig) -> ArchConfig:
    """Returns a result with the input of the space, which a search takes from its images."""
    return arch.model_copy(update={"channels": SPACE.channels, "classes": SPACE.classes})


def test_a_resumed_search_goes_on_with_more_trials(finished: Run) -> None:
    before = [trial.candidate.key for trial in finished.trials]
    assert main(["search", "--resume", str(finished.run_dir), "--trials", "44", "--workers", "0"]) == 0
    history = read_history(finished.run_dir)
    asked = [history.trials[number].candidate.key for number in range(44)]
    assert asked[:40] == before[:40]
