"""Checkpoints whose bytes change on the disk."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from sret_nas.errors import UserError
from sret_nas.nn.supernet import Supernet
from sret_nas.space.supernet_shape import bounding_shape
from tests.trials.supernet.tiny_supernet import SPACE, config
from trials.distributed.processes import Processes
from trials.supernet.state import CHECKPOINT, TrainingState
from trials.training.checkpoint_file import read_checkpoint, require_same, restoring, write_checkpoint

CPU = torch.device("cpu")
CONTENT = {"weights": torch.arange(500.0), "counts": {"steps": 3, "name": "x"}}


def is_content(found: dict[str, object]) -> bool:
    weights = found["weights"]
    assert isinstance(weights, torch.Tensor)
    return torch.equal(weights, CONTENT["weights"]) and found["counts"] == CONTENT["counts"]


def test_what_was_written_is_read_back_by_this_and_by_torch(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "c.pt", CONTENT)
    assert is_content(read_checkpoint(tmp_path / "c.pt", CPU))
    assert is_content(torch.load(tmp_path / "c.pt", weights_only=True))


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    write_checkpoint(path, CONTENT)
    stored = path.read_bytes()
    for position in [*random.Random(0).sample(range(len(stored)), 300), *range(len(stored) - 120, len(stored))]:
        flipped = bytearray(stored)
        flipped[position] ^= 1
        path.write_bytes(flipped)
        with pytest.raises(UserError, match=r"c\.pt: cannot be read as a checkpoint: .*; delete it to start anew$"):
            read_checkpoint(path, CPU)


@pytest.mark.parametrize("length", [0, 1, 100, -1])
def test_a_torn_file_is_noticed(tmp_path: Path, length: int) -> None:
    path = tmp_path / "c.pt"
    write_checkpoint(path, CONTENT)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UserError, match="cannot be read as a checkpoint"):
        read_checkpoint(path, CPU)


def test_a_file_of_an_earlier_version_is_read_and_its_flipped_values_are_noticed(tmp_path: Path) -> None:
    """It has no checksum of its own: torch's padding may change unnoticed, and no value of it."""
    path = tmp_path / "old.pt"
    torch.save(CONTENT, path)
    assert is_content(read_checkpoint(path, CPU))
    stored = path.read_bytes()
    noticed = 0
    for position in random.Random(0).sample(range(len(stored)), 300):
        flipped = bytearray(stored)
        flipped[position] ^= 1
        path.write_bytes(flipped)
        try:
            assert is_content(read_checkpoint(path, CPU))
        except UserError:
            noticed += 1
    assert noticed > 200


def test_a_digest_that_was_not_recorded_differs_from_nothing() -> None:
    then, now = {"labels": {"soft labels": "FKD"}}, {"labels": {"soft labels": "FKD", "files (digest)": "ab"}}
    require_same(now, then, Path("checkpoint.pt"))
    with pytest.raises(UserError, match=r"with another labels\.files \(digest\): it was cd, got ab"):
        require_same(now, {"labels": {**then["labels"], "files (digest)": "cd"}}, Path("checkpoint.pt"))
    with pytest.raises(UserError, match=r"with another labels: it was None"):
        require_same(now, {"labels": None}, Path("checkpoint.pt"))


def test_content_that_does_not_fit_is_named_in_one_line(tmp_path: Path) -> None:
    """Of a supernet; checkpoints of other trainings are restored in the same way."""
    state = TrainingState(Supernet(bounding_shape(SPACE)), config(), Processes(0, 1, CPU))
    state.save(tmp_path, {"seed": 0})
    content = read_checkpoint(tmp_path / CHECKPOINT, CPU)
    del content["supernet"]["head.weight"], content["supernet"]["head.bias"]
    write_checkpoint(tmp_path / CHECKPOINT, content)
    with pytest.raises(UserError) as raised:
        state.load(tmp_path, {"seed": 0})
    reason = 'Error(s) in loading state_dict for Supernet: Missing key(s) in state_dict: "head.weight", "head.bias".'
    where = f"{tmp_path / CHECKPOINT}: not a checkpoint of a supernet"
    assert str(raised.value) == f"{where}: RuntimeError: {reason}; delete it to start anew"


def test_a_lack_of_memory_is_no_fault_of_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(torch.OutOfMemoryError), restoring(tmp_path / "c.pt", "a supernet"):
        raise torch.OutOfMemoryError("no room")
