"""torchvision's own classes, reading files that the test writes in their formats."""

from __future__ import annotations

import hashlib
import inspect
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets
from PIL import Image

from sret_nas.errors import UserError
from trials.data import DataConfig, PreparedData, prepare
from trials.data.torchvision_sets import TORCHVISION_SETS


def load(name: str, root: Path, size: int = 8) -> PreparedData:
    return prepare(DataConfig(source=name, root=str(root), image_size=size), root.parent / "prepared")


def values(data: PreparedData, part: str) -> dict[int, list[int]]:
    """Returns, for each class, the first pixels of its images in a part, sorted."""
    chosen = getattr(data, part)
    return {label: sorted(chosen.images[chosen.labels == label, 0, 0, 0].tolist()) for label in range(data.num_classes)}


def _write_idx(path: Path, array: np.ndarray) -> None:
    """Writes the format of MNIST's files: magic number (type, dimensions), sizes, big-endian; then the bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.mark.parametrize(
    ("name", "folder", "flip", "first"),
    [("mnist", "MNIST", False, "0 - zero"), ("Fashion-MNIST", "FashionMNIST", True, "T-shirt/top")],
)
def test_mnist_and_its_kin(tmp_path: Path, name: str, folder: str, flip: bool, first: str) -> None:
    root = tmp_path / "root"
    for prefix, per_class, shade in (("train", 5, 0), ("t10k", 2, 100)):
        labels = np.tile(np.arange(10), per_class)
        images = np.broadcast_to((shade + np.arange(len(labels)))[:, None, None], (len(labels), 28, 28))
        _write_idx(root / folder / "raw" / f"{prefix}-images-idx3-ubyte", images)
        _write_idx(root / folder / "raw" / f"{prefix}-labels-idx1-ubyte", labels)
    data = load(name, root)
    assert data.channels == 1
    assert data.flip is flip
    assert data.class_names[0] == first
    assert values(data, "test") == {label: [100 + label, 110 + label] for label in range(10)}
    train, val = values(data, "train"), values(data, "val")
    assert {label: sorted(train[label] + val[label]) for label in train} == {
        label: [label + 10 * number for number in range(5)] for label in range(10)
    }
    assert [len(images) for images in val.values()] == [1] * 10
    assert f"{folder} test" in data.summary()


def test_cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real class on files in its format; its list of digests is replaced by that of these files."""
    folder = tmp_path / "root" / "cifar-10-batches-py"
    folder.mkdir(parents=True)

    def write(name: str, content: object) -> list[str]:
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        return [name, hashlib.md5(data).hexdigest()]

    labels = [number % 10 for number in range(50)]
    pixels = np.repeat(np.arange(50, dtype=np.uint8), 3072).reshape(50, 3072)
    cifar10 = torchvision.datasets.CIFAR10
    monkeypatch.setattr(cifar10, "train_list", [write("data_batch_1", {"data": pixels, "labels": labels})])
    monkeypatch.setattr(cifar10, "test_list", [write("test_batch", {"data": pixels + 100, "labels": labels})])
    names = [f"class {number}" for number in range(10)]
    name, digest = write("batches.meta", {"label_names": names})
    monkeypatch.setattr(cifar10, "meta", {"filename": name, "key": "label_names", "md5": digest})
    data = load("CIFAR-10", tmp_path / "root", 32)
    assert data.train.images.shape == (40, 32, 32, 3)
    assert data.class_names == tuple(names)
    assert data.flip
    assert values(data, "test")[3] == [103, 113, 123, 133, 143]


def _write_image(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (9, 9), (shade, shade, shade)).save(path)


def test_food101(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for split, count, shade in (("train", 5, 0), ("test", 2, 100)):
        files = {name: [f"{name}/{split}{number}" for number in range(count)] for name in ("pie", "soup")}
        (root / "food-101/meta").mkdir(parents=True, exist_ok=True)
        (root / f"food-101/meta/{split}.json").write_text(json.dumps(files))
        for offset, name in enumerate(files):
            for number, file in enumerate(files[name]):
                _write_image(root / f"food-101/images/{file}.jpg", shade + 20 * offset + number)
    data = load("food101", root)
    assert data.class_names == ("pie", "soup")
    assert data.channels == 3
    assert values(data, "test") == {0: [100, 101], 1: [120, 121]}
    assert len(data.val) == 2


def test_pets(tmp_path: Path) -> None:
    base = tmp_path / "root/oxford-iiit-pet"
    (base / "annotations").mkdir(parents=True)
    for split, count, shade in (("trainval", 5, 0), ("test", 2, 100)):
        lines = []
        for label, name in ((1, "Abyssinian"), (2, "great_pyrenees")):
            for number in range(count):
                _write_image(base / f"images/{name}_{split}{number}.jpg", shade + 20 * label + number)
                lines.append(f"{name}_{split}{number} {label} 1 1\n")
        (base / f"annotations/{split}.txt").write_text("".join(lines))
    data = load("oxford_iiit_pet", tmp_path / "root")
    assert data.class_names == ("Abyssinian", "Great Pyrenees")
    assert values(data, "test") == {0: [120, 121], 1: [140, 141]}


def _write_textures(root: Path, splits: dict[str, str]) -> None:
    for shade, (split, classes) in enumerate(splits.items()):
        lines = []
        for label, name in enumerate(classes):
            _write_image(root / f"dtd/dtd/images/{name}/{split}.jpg", 100 * label + 10 * shade)
            lines.append(f"{name}/{split}.jpg\n")
        (root / "dtd/dtd/labels").mkdir(parents=True, exist_ok=True)
        (root / f"dtd/dtd/labels/{split}1.txt").write_text("".join(lines))


def test_a_set_with_three_splits_is_taken_in_them(tmp_path: Path) -> None:
    _write_textures(tmp_path / "root", {"train": "ab", "val": "ab", "test": "ab"})
    data = load("dtd", tmp_path / "root")
    assert [values(data, part) for part in ("train", "val", "test")] == [
        {0: [0], 1: [100]},
        {0: [10], 1: [110]},
        {0: [20], 1: [120]},
    ]


def test_splits_with_other_classes_are_refused(tmp_path: Path) -> None:
    _write_textures(tmp_path / "root", {"train": "ab", "val": "ab", "test": "bc"})
    with pytest.raises(UserError, match=r"the splits of DTD must have the same classes, .*\('b', 'c'\)"):
        load("dtd", tmp_path / "root")


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    _write_textures(tmp_path / "root", {"train": "ab", "val": "ab", "test": "ab"})
    (tmp_path / "root/dtd/dtd/images/b/val.jpg").unlink()
    with pytest.raises(UserError, match=r"1 of 6 images cannot be read.*\n  DTD val/1: .*No such file.*b/val\.jpg"):
        load("dtd", tmp_path / "root")


@pytest.mark.parametrize("name", TORCHVISION_SETS)
def test_sets_that_are_not_there(tmp_path: Path, name: str) -> None:
    """Every known set is asked for through its real constructor, so a wrong argument in our table is found too."""
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(
        UserError, match=rf"looked for its files under {root} and says: .*; this tool downloads nothing"
    ):
        load(name, root)
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("name", TORCHVISION_SETS)
def test_sets_keep_their_labels_where_they_are_looked_for(name: str) -> None:
    constructor = getattr(torchvision.datasets, TORCHVISION_SETS[name].class_name)
    sources = "".join(inspect.getsource(base) for base in constructor.__mro__ if base.__module__ != "builtins")
    assert any(f"self.{attribute}" in sources for attribute in ("targets", "labels", "_labels"))


def test_names_and_roots_that_are_wrong(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown torchvision set 'cifar11'; known are cifar10, cifar100, dtd"):
        load("cifar11", tmp_path)
    with pytest.raises(UserError, match="nowhere: there is no such folder; --data-root must be the folder"):
        load("cifar10", tmp_path / "nowhere")
    with pytest.raises(
        UserError,
        match=r"cifar10: there is no such folder; .* set, with --data-root for its files$",
    ):
        prepare(DataConfig(source="cifar10"), tmp_path / "prepared")
