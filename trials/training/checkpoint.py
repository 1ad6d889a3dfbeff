"""Checkpoints of a trial's training: saved after a part of it, and loaded to continue.

On the CPU, a training that was stopped and continued ends in the same weights, bit for bit, as an uninterrupted one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from .checkpoint_file import DamagedError, read_checkpoint, restoring, write_checkpoint
from .train import Training


def save_checkpoint(path: Path, training: Training, identity: dict[str, Any]) -> None:
    """Writes a checkpoint, whole or not at all. `identity` is plain data that identifies the training."""
    version, numbers, gauss = training.rng.getstate()
    content = {
        "identity": json.dumps(identity),
        "network": training.network.state_dict(),
        "optimizer": training.optimizer.state_dict(),
        "rng": [version, list(numbers), gauss],
        "torch_rng": _torch_rng(training.device),
        "losses": training.losses,
        "images": training.images,
        "seconds": training.seconds,
    }
    write_checkpoint(path, content)


def load_checkpoint(path: Path, training: Training, identity: dict[str, Any], until: int) -> bool:
    """Loads a checkpoint into a training, and sets torch's global generators. Returns whether it was used.

    It is not used if the file is missing or damaged, belongs to another training, or lies beyond the step `until`. (A
    search that was killed before it recorded a rung leaves such a file.) The training then starts anew, with the same
    result.

    Raises `UserError` for a file that is not a checkpoint of a trial.
    """
    if not path.is_file():
        return False
    try:
        content = read_checkpoint(path, training.device)
    except DamagedError:  # the training begins anew, and writes it again
        return False
    with restoring(path, "a trial", "delete it to start the trial anew"):
        if json.loads(content["identity"]) != identity or len(content["losses"]) > until:
            return False
        training.network.load_state_dict(content["network"])
        training.optimizer.load_state_dict(content["optimizer"])
        version, numbers, gauss = content["rng"]
        training.rng.setstate((version, tuple(numbers), gauss))
        training.losses, training.images = content["losses"], content["images"]
        training.seconds = content["seconds"]
        _set_torch_rng(training.device, content["torch_rng"])
    return True


def _torch_rng(device: torch.device) -> dict[str, torch.Tensor]:
    states = {"cpu": torch.get_rng_state()}
    return states if device.type == "cpu" else {**states, "device": torch.cuda.get_rng_state(device)}


def _set_torch_rng(device: torch.device, states: dict[str, torch.Tensor]) -> None:
    torch.set_rng_state(states["cpu"].cpu())
    if device.type != "cpu":
        torch.cuda.set_rng_state(states["device"].cpu(), device)
