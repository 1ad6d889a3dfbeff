"""Teachers: trained networks whose predictions are the labels of a training. Ours, or any model of timm."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
import torch
import torch.nn.functional as F
from timm.data import resolve_model_data_config
from timm.models import clean_state_dict
from torch import Tensor, nn

import sret_nas.timm  # noqa: F401 - registers our networks as models of timm
from sret_nas.bounded_files import open_regular
from sret_nas.errors import UserError
from sret_nas.files import digest_of_file, expand_home
from sret_nas.json_files import read_json
from sret_nas.nn.checkpoints import read_checkpoint
from sret_nas.nn.model_directory import CONFIG, TIMM_NAME, Preprocessing, find_model_directory, read_model
from sret_nas.plurals import counted

from ..data.whole_images import padded_names

LOCAL_DIR = "local-dir:"
"""timm's prefix for a folder with `config.json` and weights."""

_WEIGHTS = ("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth", "open_clip_pytorch_model.bin")
"""Names of the weights in such a folder."""


class Teacher(nn.Module):
    """A trained network that gives probabilities for images as a student sees them."""

    _scale: Tensor
    _shift: Tensor

    def __init__(
        self, network: nn.Module, name: str, digest: str | None, image_size: int, mean: tuple[float, ...],
        std: tuple[float, ...],
    ) -> None:  # fmt: skip
        """Keeps the network in evaluation mode.

        Args:
            network: maps images (B, C, H, W) to logits (B, classes).
            name: as the user typed it.
            digest: SHA-256 of the file of its weights; None if they came from a hub.
            image_size: side in pixels of the images that it was trained for.
            mean: of the channels, by which its images are standardised.
            std: likewise, their deviation.
        """
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.name, self.digest = name, digest
        self.image_size, self._mean, self._std = image_size, mean, std
        self.register_buffer("_scale", torch.ones(1), persistent=False)
        self.register_buffer("_shift", torch.zeros(1), persistent=False)

    @property
    def classes(self) -> int:
        return int(self.network.num_classes)  # type: ignore[arg-type]  # timm's models and ours have it

    def adapt_to(self, student: Preprocessing) -> Teacher:
        """Prepares for images that were standardised for a student, and returns itself.

        Raises `UserError` if the student's images are in colour and the teacher's are not.
        """
        own, given = len(self._mean), student.channels
        if given != own and given != 1:
            raise UserError(
                f"the teacher {self.name} takes images of {counted(own, 'channel')}, but the network takes {given}"
            )
        own_mean, own_std = (torch.tensor(values).view(-1, 1, 1) for values in (self._mean, self._std))
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (student.mean, student.std))
        self._scale, self._shift = std / own_std, (mean - own_mean) / own_std
        return self

    @torch.no_grad()
    def forward(self, images: Tensor, temperature: float) -> Tensor:
        """Returns probabilities (B, classes) for the student's images (B, C, H, W), resized to the teacher's size.

        Logits are divided by the temperature before the softmax.
        """
        images = images * self._scale + self._shift  # grey images get the teacher's channels here
        if images.shape[-1] != self.image_size:
            size = (self.image_size, self.image_size)
            images = F.interpolate(images, size, mode="bicubic", antialias=True)
        logits: Tensor = self.network(images)
        return (logits.float() / temperature).softmax(dim=1)


def load_teacher(name: str, checkpoint: Path | None, class_names: tuple[str, ...], classes: int) -> Teacher:
    """Returns the teacher that a user names.

    Args:
        name: a model directory or the run of a training, `local-dir:` and a folder of timm's, or the name of a model
            of timm, whose weights then come from a hub.
        checkpoint: the weights of a model of timm in a local file, in place of a hub's.
        class_names: those of the data.
        classes: of the network that is taught.

    Raises `UserError` if there is no such teacher, it cannot be read, or has other classes.
    """
    folder = expand_home(name.removeprefix(LOCAL_DIR))
    if name.startswith(LOCAL_DIR) or folder.is_dir():
        if checkpoint is not None:
            raise UserError("--teacher-checkpoint goes with the name of a model of timm; a folder has its own weights")
        teacher = _from_folder(folder, name, padded_names(class_names, classes))
    elif checkpoint is not None:
        teacher = _from_file(name, checkpoint, classes)
    else:
        teacher = _from_hub(name)
    if teacher.classes != classes:
        raise UserError(f"the teacher {name} has {teacher.classes:,} classes, but the network has {classes:,}")
    return teacher


def _from_folder(folder: Path, name: str, class_names: tuple[str, ...]) -> Teacher:
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder")
    if not (folder / CONFIG).is_file():
        folder = find_model_directory(folder)
    config = read_json(folder / CONFIG)
    if isinstance(config, Mapping) and config.get("architecture") == TIMM_NAME:
        network, info = read_model(folder)
        names = info.class_names
        if names is not None and len(names) == len(class_names) and names != class_names:
            difference = _first_difference(names, class_names)
            raise UserError(f"the teacher {name} has other classes than the data: {difference}")
        digest = digest_of_file(folder / _WEIGHTS[0])
        seen = info.preprocessing
        # The images are float32, and weights may have been saved in half precision.
        return Teacher(network.float(), name, digest, seen.image_size, seen.mean, seen.std)
    weights = next((folder / file for file in _WEIGHTS if (folder / file).is_file()), None)
    if weights is None:
        raise UserError(f"{folder}: must hold {CONFIG} and weights, such as {_WEIGHTS[0]}")
    model = _created(name, lambda: timm.create_model(f"{LOCAL_DIR}{folder}", pretrained=True))
    return _of_timm(model, name, digest_of_file(weights))


def _from_file(name: str, checkpoint: Path, classes: int) -> Teacher:
    _require_known(name)
    state = _state_of(checkpoint)
    model = _created(name, lambda: timm.create_model(name, pretrained=False, num_classes=classes))
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        wrong = [line.strip().rstrip(".") for line in str(error).splitlines()[1:]]
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        what = wrong[0] if wrong else str(error).partition("\n")[0]
        raise UserError(f"{checkpoint}: does not fit {name} with {classes:,} classes: {what[:200]}{more}") from None
    return _of_timm(model, name, digest_of_file(checkpoint))


def _from_hub(name: str) -> Teacher:
    _require_known(name)
    return _of_timm(_created(name, lambda: timm.create_model(name, pretrained=True)), name, None)


def _require_known(name: str) -> None:
    if ":" not in name and not timm.is_model(name.partition(".")[0]):
        raise UserError(
            f"the teacher {name!r} is neither a folder nor a model of timm: name a model directory, {LOCAL_DIR}DIR, or "
            "a model such as resnet18"
        )


def _created(name: str, create: Callable[[], nn.Module]) -> nn.Module:
    """Returns a model of timm. Raises `UserError` with the first line of whatever went wrong."""
    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    hub.setLevel(logging.ERROR)  # it tells of every retry
    try:
        return create()
    except (UserError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # timm, huggingface_hub and safetensors raise many kinds
        reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        raise UserError(
            f"the teacher {name} cannot be loaded: {reason[:200]}; without a network, give its weights by "
            f"--teacher-checkpoint FILE, or a folder by {LOCAL_DIR}DIR"
        ) from None
    finally:
        hub.setLevel(level)


def _of_timm(model: nn.Module, name: str, digest: str | None) -> Teacher:
    seen: dict[str, Any] = resolve_model_data_config(model)
    return Teacher(model, name, digest, seen["input_size"][-1], tuple(seen["mean"]), tuple(seen["std"]))


def _state_of(path: Path) -> dict[str, Tensor]:
    """Returns the weights in a checkpoint, averaged ones if there are any. Runs no code in it."""
    if path.suffix == ".safetensors":
        with open_regular(path):
            pass
        try:
            return safetensors.torch.load_file(path)
        except Exception as error:  # the library's own kinds, and the system's
            raise UserError(f"{path}: cannot be read: {error}") from None
    with torch.serialization.safe_globals([argparse.Namespace]):  # timm keeps its arguments beside the weights
        content = read_checkpoint(path)
    for key in ("state_dict_ema", "model_ema", "state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{path}: must hold the weights of a model of timm, as `train.py` saves them")
    state: dict[str, Tensor] = clean_state_dict(dict(content))
    return state


def _first_difference(own: tuple[str, ...], data: tuple[str, ...]) -> str:
    """Describes the first of equally many names that differs."""
    index = next(index for index, (ours, theirs) in enumerate(zip(own, data, strict=True)) if ours != theirs)
    return f"its class {index} is {own[index]!r}, not {data[index]!r}"
