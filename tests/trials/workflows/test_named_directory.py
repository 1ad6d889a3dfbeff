"""The architecture of a model directory is that of its network, at other image sizes too."""

from __future__ import annotations

from pathlib import Path

import pytest

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.result_file import write_result
from sret_nas.errors import UserError
from sret_nas.nn.model_directory import ModelInfo, Preprocessing, read_model, write_model
from sret_nas.nn.network import SReT
from trials.workflows.named_network import named_architecture, recorded_schedule

SURPLUS = ArchConfig.from_dict(
    {
        "stages": [{"width": 8, "heads": 2, "blocks": 1, "recursions": 2, "groups": [16, 8]}],
        "image_size": 16,
        "classes": 3,
    },
    "data",
)
"""More groups than the four tokens at this size."""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    seen = Preprocessing(image_size=16, mean=(0.5,) * 3, std=(0.5,) * 3)
    info = ModelInfo(preprocessing=seen, recipe={"depth_schedule": "joint"})
    write_model(tmp_path / "run" / "best", SReT(SURPLUS), info)
    return tmp_path / "run" / "best"


@pytest.mark.parametrize("name", ["run", "run/best", "run/best/architecture.yaml"])
def test_groups_beyond_the_tokens_are_kept(name: str, model: Path, tmp_path: Path) -> None:
    named = named_architecture(str(tmp_path / name))
    assert named == SURPLUS == read_model(model)[0].arch
    assert named.model_copy(update={"image_size": 64}).canonical().stages[0].groups == (16, 8)
    assert recorded_schedule(str(tmp_path / name)) == "joint"


def test_directories_of_earlier_versions(model: Path) -> None:
    """Their YAML files have the canonical form."""
    write_result(model / "architecture.yaml", SURPLUS, metrics={}, recipe={}, provenance={})
    assert named_architecture(str(model)) == SURPLUS
    assert named_architecture(str(model / "architecture.yaml")) == SURPLUS.canonical()


def test_directories_that_other_programs_wrote_need_no_architecture_yaml(model: Path) -> None:
    (model / "architecture.yaml").unlink()
    for named in (model, model.parent):
        assert named_architecture(str(named)) == SURPLUS
        assert recorded_schedule(str(named)) == "joint"
    (model / "recipe.yaml").unlink()
    assert recorded_schedule(str(model)) is None


def test_a_directory_of_another_network_is_refused(model: Path) -> None:
    text = (model / "config.json").read_text().replace('"architecture": "sret"', '"architecture": "resnet18"')
    (model / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json: architecture must be 'sret', got 'resnet18'"):
        named_architecture(str(model))
