"""The images on which an exported network is compared: converted as `evaluate` does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from sret_nas.errors import UserError
from sret_nas.nn.model_directory import Preprocessing
from sret_nas.nn.network import SReT
from tests.trials.workflows.shipped_model import ARCH
from trials.data import DataConfig
from trials.data.whole_images import WholeImages
from trials.workflows.export_images import ComparedImages, compared_images
from trials.workflows.export_request import ExportRequest
from trials.workflows.trained_network import TrainedNetwork


def found(channels: int, folder: Path, mode: str) -> ComparedImages:
    """Returns the images that a network of some channels is compared on, from files of a mode."""
    for number in range(12):
        path = folder / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((16, 16), number, np.uint8)).convert(mode).save(path)
    network = SReT(ARCH.model_copy(update={"channels": channels, "classes": 2}))
    preprocessing = Preprocessing(image_size=16, mean=(0.5,) * channels, std=(0.25,) * channels)
    trained = TrainedNetwork(
        network=network, path=Path("model"), preprocessing=preprocessing, class_names=None, reads=()
    )  # fmt: skip
    whole = WholeImages.find(DataConfig(source=str(folder), image_size=16))
    request = ExportRequest(source=Path("model"), data=str(folder))
    return compared_images(request, whole, trained, network, Console(quiet=True))


def test_grey_images_have_three_channels_for_a_network_of_colour(tmp_path: Path) -> None:
    images = found(3, tmp_path, "L").images
    assert images.shape[1:] == (3, 16, 16)
    assert (images == images[:, :1]).all()


def test_images_in_colour_are_refused_for_a_grey_network(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"its images are in colour, but model takes 1 channel: name grey ones"):
        found(1, tmp_path, "RGB")
