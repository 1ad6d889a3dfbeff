"""Model directories behind symbolic links, such as to another disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sret_nas.errors import UserError
from sret_nas.nn.model_directory import put_back, read_info, write_model
from sret_nas.nn.network import SReT
from tests.sret_nas.nn.test_model_directory import ARCH, INFO


@pytest.fixture(scope="module")
def network() -> SReT:
    torch.manual_seed(0)
    return SReT(ARCH)


@pytest.fixture
def best(tmp_path: Path) -> Path:
    """Returns a link to an empty folder elsewhere."""
    (tmp_path / "disk" / "mine").mkdir(parents=True)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "best").symlink_to("../disk/mine")
    return tmp_path / "run" / "best"


def test_a_link_stays_one_when_the_directory_is_written_and_replaced(network: SReT, best: Path) -> None:
    for error in (0.5, 0.25):
        info = type(INFO)(preprocessing=INFO.preprocessing, metrics={"error": error})
        write_model(best, network, info, replace=True)
        assert best.is_symlink()
        assert read_info(best).metrics == {"error": error}
        assert [path.name for path in best.parent.iterdir()] == ["best"]
        assert [path.name for path in best.resolve().parent.iterdir()] == ["mine"]


def test_a_directory_that_a_kill_left_hidden_behind_a_link_is_put_back(network: SReT, best: Path) -> None:
    write_model(best, network, INFO)
    target = best.resolve()
    target.rename(target.with_name(".mine.abcd1234.old"))
    put_back(best)
    assert best.is_symlink()
    assert read_info(best) == INFO


def test_the_current_folder_is_refused_before_anything_is_written(
    network: SReT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    with pytest.raises(UserError, match="is the folder that the command runs in"):
        write_model(Path(), network, INFO)
    assert [path.name for path in tmp_path.rglob("*")] == ["here"]
