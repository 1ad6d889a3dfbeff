"""What a process prints and writes travels to the driver in updates, in order."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from trials.distributed.output_stream import OutputStream, Update
from trials.supernet.state import CHECKPOINT
from trials.supernet.training import SUPERNET

pytestmark = pytest.mark.slow


def test_an_update_is_what_was_printed_and_written_since_the_last_poll(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    (there / "tensorboard").mkdir(parents=True)
    (there / CHECKPOINT).write_bytes(b"sent out, not to be sent back")
    output = OutputStream(there, replaced=(CHECKPOINT, SUPERNET))
    scalars = there / "tensorboard" / "events.out.tfevents.1.machine"
    scalars.write_bytes(b"one")
    output.console.print("step 1")
    first = output.poll(timeout=0.0)
    assert first.text == "step 1\n"
    assert [(file.name, file.content) for file in first.files] == [("tensorboard/" + scalars.name, b"one")]
    assert output.poll(timeout=0.0) == Update()
    with scalars.open("ab") as file:
        file.write(b" and two")
    (there / "new").write_bytes(b"a checkpoint")
    (there / "new").rename(there / CHECKPOINT)
    second = output.poll(timeout=0.0)
    assert [(file.name, file.content) for file in second.files] == [
        (CHECKPOINT, b"a checkpoint"),
        ("tensorboard/" + scalars.name, b" and two"),
    ]
    console = OutputStream(tmp_path)
    for update in (first, second):
        update.apply(here, console.console)
    assert console.poll(timeout=0.0).text == "step 1\n"
    assert (here / CHECKPOINT).read_bytes() == b"a checkpoint"
    assert (here / "tensorboard" / scalars.name).read_bytes() == b"one and two"


def test_what_was_written_first_is_sent_and_applied_first(tmp_path: Path) -> None:
    """A checkpoint that says which network is the best never comes before that network."""
    there = tmp_path / "there"
    (there / "best").mkdir(parents=True)
    output = OutputStream(there, replaced=("best/weights", CHECKPOINT, SUPERNET))
    for name in ("best/weights", CHECKPOINT):
        (there / name).write_bytes(name.encode())
    update = output.poll(timeout=0.0)
    assert [file.name for file in update.files] == ["best/weights", CHECKPOINT]
    update.apply(tmp_path / "here", Console(quiet=True))
    assert (tmp_path / "here" / "best" / "weights").read_bytes() == b"best/weights"
    (there / "best").rename(there / "replaced just now")
    assert output.poll(timeout=0.0) == Update()
