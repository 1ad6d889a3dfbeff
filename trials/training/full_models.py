"""The model directories of a whole training, which stand beside files of users' own."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sret_nas.nn.model_directory import FILES, ModelInfo, is_model_directory, write_model
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
