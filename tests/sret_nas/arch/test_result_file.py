"""A result file: the network in canonical form, what it costs, and what goes with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.arch.presets import PRESETS
from sret_nas.arch.result_file import result_yaml, write_result
from sret_nas.errors import ConfigError

ARCH = PRESETS["sret_t"]
ABOUT = {"metrics": {"error": 0.25}, "recipe": {"epochs": 3}, "provenance": {"trial": 7}}


def test_everything_is_under_its_key_and_the_network_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "best.yaml"
    write_result(path, ARCH, **ABOUT)
    content = yaml.safe_load(path.read_text())
    assert list(content) == ["arch_id", "architecture", "cost", "metrics", "recipe", "provenance"]
    assert content == {
        "arch_id": ARCH.arch_id, "architecture": ARCH.to_dict(), "cost": cost_of(ARCH).to_dict(), **ABOUT
    }  # fmt: skip
    assert ArchConfig.from_yaml(path) == ARCH
    assert path.read_text() == result_yaml(ARCH, **ABOUT)


def test_the_architecture_is_written_in_canonical_form() -> None:
    """With one recursion the order of loops means nothing, and is written as the default."""
    data = ARCH.to_dict()
    data["stages"][0].update(recursions=1, groups=[8], loop="external", nll="last")
    odd = ArchConfig.from_dict(data)
    assert odd != odd.canonical()
    content = yaml.safe_load(result_yaml(odd, **ABOUT))
    assert content["architecture"] == odd.canonical().to_dict()
    assert content["arch_id"] == odd.arch_id


def test_an_edited_architecture_is_not_the_network_that_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "best.yaml"
    content = yaml.safe_load(result_yaml(ARCH, **ABOUT))
    content["architecture"]["classes"] = 7
    path.write_text(yaml.safe_dump(content))
    edited = ARCH.model_copy(update={"classes": 7})
    with pytest.raises(
        ConfigError, match=f"arch_id: is '{ARCH.arch_id}', but the architecture is {edited.arch_id}: it was"
    ):
        ArchConfig.from_yaml(path)
    del content["arch_id"]
    path.write_text(yaml.safe_dump(content))
    assert ArchConfig.from_yaml(path) == edited
