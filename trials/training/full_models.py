"""The model directories of a whole training, which stand beside files of users' own."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sret_nas.errors import UserError
from sret_nas.nn.model_directory import FILES, ModelInfo, is_model_directory, read_model, write_model
from sret_nas.nn.network import SReT
from sret_nas.output_files import holds_nothing, move_aside


def write_trained(directory: Path, network: SReT, info: ModelInfo, say: Callable[[str], object]) -> None:
    """Writes a model directory, whatever lies in its place: a training does not end for it, and nothing is deleted.

    An earlier network is replaced. Of anything else, files under other names than ours stay where they are, and the
    rest is kept beside the directory.

    Args:
        directory: The model directory.
        network: The network.
        info: What is known of it.
        say: Takes a line about what is kept elsewhere.
    """
    if is_model_directory(directory) or holds_nothing(directory):
        write_model(directory, network, info, replace=True)
        return
    aside = move_aside(directory)
    write_model(directory, network, info)
    if aside.is_dir() and not aside.is_symlink():
        for path in sorted(aside.iterdir()):
            if path.name not in FILES:
                path.rename(directory / path.name)
        with suppress(OSError):  # something is left in it
            aside.rmdir()
    if os.path.lexists(aside):
        say(f"note: {directory} was no network of this training; what lay there is kept as {aside}")


def read_trained(directory: Path, last: Path) -> tuple[SReT, ModelInfo]:
    """Returns the network in a model directory, and what is known of it.

    Args:
        directory: The model directory of the best network.
        last: That of the last network, for the message.

    Raises `UserError` if it is not there any more, or damaged.
    """
    if not is_model_directory(directory):
        raise UserError(
            f"{directory}: the best network is not there any more, so it cannot be tested: put a copy of it back; "
            f"{last} is that of the last epoch"
        )
    return read_model(directory)
