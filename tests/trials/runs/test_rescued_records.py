"""What a search that lost its run directory tells: where the records are kept, and what the user has to bring."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from trials.engines.jobs import SupernetSource
from trials.lost_directory import LostDirectoryError
from trials.runs.history import read_history
from trials.runs.records import HEADER_KEYS, Records


@pytest.mark.parametrize("is_inside", [True, False])
def test_a_lost_supernet_is_asked_for_if_it_lay_in_the_run_directory(tmp_path: Path, is_inside: bool) -> None:
    run_dir, rescued = tmp_path / "run", tmp_path / "run-rescued"
    path = "supernet/supernet.safetensors" if is_inside else str(tmp_path / "elsewhere.safetensors")
    with Records(run_dir) as records:
        records.start({key: {} for key in HEADER_KEYS} | {"command": []})
        records.supernet(SupernetSource(path=path, digest="abc"), 1.0)
        shutil.rmtree(run_dir)
        with pytest.raises(LostDirectoryError) as caught:
            records.interrupted()
    copy = f"the trained supernet was on disk alone; with a copy of it as {rescued / path}, " if is_inside else ""
    assert str(caught.value).endswith(f" {copy}carry on with: sret-nas search --resume {rescued}")
    assert caught.value.rescued == rescued
    supernet = read_history(rescued).supernet
    assert supernet is not None
    assert supernet.path == path


def test_records_go_where_other_files_of_the_run_were_rescued_to(tmp_path: Path) -> None:
    run_dir, rescued = tmp_path / "run", tmp_path / "kept"
    with Records(run_dir) as records:
        records.start({key: {} for key in HEADER_KEYS} | {"command": []})
        shutil.rmtree(run_dir)
        error = records.lost(rescued)
    assert error.rescued == rescued
    assert str(error).endswith(f"carry on with: sret-nas search --resume {rescued}")
    assert read_history(rescued).trials == {}
