"""The images on which an exported network is compared with the network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from rich.console import Console
from torch import Tensor

from sret_nas.errors import UserError
from sret_nas.nn.model_directory import Preprocessing
from sret_nas.nn.network import SReT
from sret_nas.plurals import counted

from ..data.image_files import image_batches, mode_for
from ..data.whole_images import WholeImages, WholePart
from .export_request import ExportRequest
from .generated_images import natural_noise
from .trained_network import TrainedNetwork, match_classes

NUM_CHECKED = 64
"""Images on which an exported network is compared with the network."""

DECODED_BATCH = 16
NUM_CALIBRATION = 256
"""Training images that give the ranges of activations."""


@dataclass(frozen=True)
class ComparedImages:
    """Standardised images (n, channels, side, side) on which networks are compared."""

    images: Tensor
    labels: Tensor | None
    calibration: Tensor | None
    origin: str


def compared_images(
    request: ExportRequest, whole: WholeImages | None, trained: TrainedNetwork, network: SReT, console: Console
) -> ComparedImages:
    """Returns the images on which an exported model is compared with its network: of `--data`, or generated ones.

    With `--int8` they come with images to calibrate on. Raises `UserError` if classes, channels or files do not fit.
    """
    arch, preprocessing = network.arch, trained.preprocessing
    if whole is None:
        origin = f"{NUM_CHECKED} generated images: noise with the spectrum of photographs; --data names real ones"
        return ComparedImages(natural_noise(NUM_CHECKED, arch.channels, arch.image_size), None, None, origin)
    assert preprocessing is not None  # with --data it is always known
    source, test = whole.config.source, whole.test
    mode_for(preprocessing)
    label_of, _ = match_classes(trained, whole.class_names, source)
    number = min(len(test), max(NUM_CHECKED, request.images) if request.int8 else NUM_CHECKED)
    if arch.channels == 1 and any(test.is_in_colour(index) for index in range(number)):
        raise UserError(f"{source}: its images are in colour, but {trained.path} takes 1 channel: name grey ones")
    with console.status("Decoding images"):
        images, labels = _decode(test, number, preprocessing, request.threads)
        calibration = None
        if request.int8:
            calibration, _ = _decode(whole.train, NUM_CALIBRATION, preprocessing, request.threads)
    return ComparedImages(
        images=images,
        labels=torch.from_numpy(label_of[labels.numpy()]),
        calibration=calibration,
        origin=f"{counted(min(number, NUM_CHECKED), 'test image')} of {source}",
    )


def _decode(part: WholePart, number: int, preprocessing: Preprocessing, threads: int) -> tuple[Tensor, Tensor]:
    """Returns the first images of a part, standardised, and their labels."""
    positions = range(min(number, len(part)))
    batches = list(image_batches(part, positions, preprocessing, batch_size=DECODED_BATCH, threads=threads))
    images = torch.cat([torch.from_numpy(images) for images, _ in batches])
    return images, torch.cat([torch.from_numpy(labels) for _, labels in batches])
