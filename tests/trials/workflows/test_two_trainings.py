"""Two trainings that begin in the same directory: the second leaves the first's record alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sret_nas.errors import UserError
from sret_nas.yaml_files import dump_yaml
from tests.trials.supernet.tiny_supernet import SPACE
from trials.runs.directory import TRAINING
from trials.workflows import train_supernet


def test_a_supernet_does_not_replace_a_training_that_began_while_it_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir, space = tmp_path / "run", tmp_path / "space.yaml"
    space.write_text(dump_yaml(SPACE.to_dict()))

    def measure_while_another_begins(job: Any, *_: object) -> Any:
        run_dir.mkdir(exist_ok=True)
        (run_dir / TRAINING).write_text("of another")
        return job

    monkeypatch.setattr(train_supernet, "_planned", measure_while_another_begins)
    given = {"space": str(space), "image_size": 16, "threads": 1}
    given |= {f"max_{part}_images": 20 for part in ("train", "val", "test")}
    options, config = train_supernet.parse_training(given)
    with pytest.raises(UserError, match="run holds a training already: carry it on with --resume"):
        train_supernet.start_training(options, config, run_dir, None, Console(quiet=True))
    assert (run_dir / TRAINING).read_text() == "of another"
