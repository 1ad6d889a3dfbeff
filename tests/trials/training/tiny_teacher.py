"""A teacher in a folder, for tests of commands."""

from __future__ import annotations

from pathlib import Path

import torch

from sret_nas import SReT
from sret_nas.nn.model_directory import ModelInfo, Preprocessing, write_model
from tests.trials.training.tiny_training import ARCH


def write_teacher(directory: Path) -> Path:
    """Writes a network with weights that were never trained, and preprocessing of its own. Returns the folder."""
    torch.manual_seed(0)
    seen = Preprocessing(image_size=16, mean=(0.3,), std=(0.4,))
    info = ModelInfo(preprocessing=seen, class_names=None, metrics={}, recipe=None, provenance={})
    write_model(directory, SReT(ARCH), info)
    return directory
