"""Images, prepared images, and soft labels of images."""

from __future__ import annotations

import functools
import io
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sret_nas.errors import UserError
from tests.foreign_files.small import Kind, beside, files_in, renamed, saved, torch_saved
from trials.data.config import DataConfig
from trials.data.decode import UNREADABLE, open_image, to_pixels, without_warnings
from trials.data.preparation import prepare
from trials.data.prepared import METADATA, PreparedData, array_path
from trials.training.fkd_labels import FKDLabels
from trials.training.soft_labels import SoftLabelHeader, SoftLabels, SoftLabelWriter

PREPARED = {
    "metadata": METADATA,
    "images": array_path(Path(), "train", "images").name,
    "labels": array_path(Path(), "test", "labels").name,
}
"""Files of a prepared data set, by what they are."""
FORMATS = ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "PPM")
CLASSES, NUM_IMAGES = 3, 4


@functools.cache
def _prepared_files() -> dict[str, bytes]:
    """The files of a small prepared data set, by name: two classes of five grey images."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(10):
            path = Path(folder, "images", "ab"[number % 2], f"{number}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.effect_noise((9, 8), 50).save(path)
        prepared = Path(folder, "prepared")
        prepare(DataConfig(source=str(Path(folder, "images")), image_size=8), prepared)
        return files_in(prepared)


def _read_prepared(path: Path, name: str) -> None:
    data = PreparedData.open(beside(path, name, _prepared_files()))
    data.verify()
    assert data.summary()


def _image(name: str) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((24, 20), 50).convert("L" if name == "GIF" else "RGB").save(buffer, name)
    return buffer.getvalue()


def _read_image(path: Path) -> None:
    try:
        with without_warnings(), open_image(path) as image:
            to_pixels(image, 16)
    except UNREADABLE as error:  # the caller gathers these, and names the files
        raise UserError(f"{path}: {error}") from None


def _soft_labels() -> bytes:
    header = SoftLabelHeader(
        teacher="t", teacher_digest=None, temperature=1.0, classes=CLASSES, top=2, images=NUM_IMAGES, epochs=2,
        views={"seed": 0}, versions={"torch": "3"},
    )  # fmt: skip

    def save(path: Path) -> None:
        with SoftLabelWriter(path, header) as writer:
            writer.append(np.full((header.rows, CLASSES), 1 / CLASSES, np.float32), np.zeros(header.rows, np.float32))
            writer.finish()

    return saved(save)


def _read_soft_labels(path: Path) -> None:
    labels = SoftLabels(path)
    labels.require_views({"seed": 0})
    epochs, indices = np.array([0, labels.header.epochs - 1]), np.array([0, labels.header.images - 1])
    labels.targets(epochs, indices)
    labels.require_images(epochs, indices, np.zeros((2, 3, 4, 4), np.float32))


def _fkd_labels() -> bytes:
    crops, flips = torch.tensor([[0.1, 0.1, 0.5, 0.5], [0.0, 0.2, 1.0, 0.5]]), torch.tensor([True, False])
    labels = torch.tensor([[[0.0, 2.0], [0.7, 0.2]], [[1.0, 0.0], [0.5, 0.25]]])
    return torch_saved([crops, flips, labels])


def _read_fkd_labels(path: Path) -> None:
    (path.parent / "cat").mkdir()
    renamed(path, "cat/one.tar")
    labels = FKDLabels(path.parent, CLASSES)
    image = labels.read("cat/one.png")
    labels.targets(image, np.arange(len(image)))


KINDS = {
    **{
        f"prepared {name}": Kind(
            lambda file=file: _prepared_files()[file],  # type: ignore[misc]
            lambda path, file=file: _read_prepared(path, file),  # type: ignore[misc]
        )
        for name, file in PREPARED.items()
    },
    **{f"{name} image": Kind(functools.partial(_image, name), _read_image) for name in FORMATS},
    "soft labels": Kind(_soft_labels, _read_soft_labels),
    "FKD's soft labels": Kind(_fkd_labels, _read_fkd_labels),
}
