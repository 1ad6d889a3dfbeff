"""Preparing images: the embedded digits end to end, a real folder of JPEGs, and a process that is killed meanwhile."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from sret_nas.errors import ConfigError, UserError
from trials.data import DataConfig, PreparedData, prepare
from trials.data.preparation import mean_and_std, require_space
from trials.data.source import Samples
from trials.data.splitting import Selection


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return prepare(DataConfig(image_size=8), tmp_path_factory.mktemp("digits"))


def test_digits_are_scikit_learns_in_disjoint_parts(digits: PreparedData) -> None:
    """At their own 8 px nothing is resized, so each part's images can be looked up among the originals."""
    originals = load_digits()
    pixels = np.rint(originals.images * 255 / 16).astype(np.uint8)
    expected = sorted((label, image.tobytes()) for label, image in zip(originals.target, pixels, strict=True))
    found = sorted(
        (label, image.tobytes())
        for part in (digits.train, digits.val, digits.test)
        for label, image in zip(part.labels, part.images, strict=True)
    )
    assert len(set(expected)) == 1797
    assert found == expected


def test_digits_are_asked_of_scikit_learn_if_their_file_lies_elsewhere(
    digits: PreparedData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trials.data.digits.find_spec", lambda name: None)
    assert prepare(DataConfig(image_size=8), tmp_path).digest == digits.digest


def test_digits_are_split_sixty_twenty_twenty_within_every_class(digits: PreparedData) -> None:
    counts = np.bincount(load_digits().target)
    for part in (digits.val, digits.test):
        assert np.bincount(part.labels).tolist() == [round(count / 5) for count in counts]
    assert len(digits.train) + len(digits.val) + len(digits.test) == 1797


def test_what_prepared_digits_are(digits: PreparedData) -> None:
    assert digits.class_names == tuple("0123456789")
    assert digits.num_classes == 10
    assert digits.channels == 1
    assert digits.flip is False
    assert digits.train.images.shape == (len(digits.train), 8, 8, 1)
    assert digits.train.images.dtype == np.uint8
    assert digits.train.labels.dtype == np.int64
    assert isinstance(digits.train.images, np.memmap)
    assert not digits.train.images.flags.writeable
    scaled = digits.train.images / 255
    assert digits.mean == digits.train.mean == digits.test.mean == pytest.approx([scaled.mean()])
    assert digits.std == digits.train.std == digits.test.std == pytest.approx([scaled.std()])
    assert digits.summary().splitlines() == [
        "digits: 10 classes, grey images of 8 x 8 px, never mirrored",
        "  classes    0 (178), 1 (182), 2 (177), 3 (183), 4 (181), 5 (182), 6 (181), 7 (179), 8 (174), 9 (180)",
        "  training       1,079 images: the rest of digits",
        "  validation       359 images: 20% of each class of digits",
        "  test             359 images: 20% of each class of digits",
    ]


def test_digits_are_resized(tmp_path: Path) -> None:
    data = prepare(DataConfig(image_size=20, max_train=10, max_val=10, max_test=10), tmp_path)
    assert data.train.images.shape == (10, 20, 20, 1)


def test_every_beginning_of_a_part_is_stratified(digits: PreparedData) -> None:
    labels = digits.train.labels
    shares = np.bincount(labels) / len(labels)
    assert sorted(labels[:10]) == list(range(10))
    for count in range(10, len(labels), 7):
        assert abs(np.bincount(labels[:count], minlength=10) - count * shares).max() <= 1


def test_a_limit_takes_the_beginning_and_leaves_the_other_parts(tmp_path: Path, digits: PreparedData) -> None:
    small = prepare(DataConfig(image_size=8, max_train=100, max_val=30), tmp_path)
    np.testing.assert_array_equal(small.train.images, digits.train.images[:100])
    np.testing.assert_array_equal(small.val.labels, digits.val.labels[:30])
    np.testing.assert_array_equal(small.test.images, digits.test.images)


def test_the_split_seed_decides_and_the_validation_fraction_leaves_the_test_part(
    tmp_path: Path, digits: PreparedData
) -> None:
    other_seed = prepare(DataConfig(image_size=8, split_seed=1), tmp_path / "seed")
    assert other_seed.digest != digits.digest
    assert not np.array_equal(other_seed.test.images, digits.test.images)
    other_share = prepare(DataConfig(image_size=8, val_fraction=0.1), tmp_path / "share")
    np.testing.assert_array_equal(other_share.test.images, digits.test.images)
    assert len(other_share.val) < len(digits.val)


def test_the_flip_can_be_told(tmp_path: Path) -> None:
    data = prepare(DataConfig(image_size=8, flip=True), tmp_path)
    assert data.flip is data.train.flip is True


def test_equal_data_is_kept_and_other_data_replaced(tmp_path: Path, digits: PreparedData) -> None:
    config = DataConfig(image_size=8)
    first = prepare(config, tmp_path)
    written = (tmp_path / "train_images.npy").stat().st_mtime_ns
    calls: list[tuple[int, int]] = []
    kept = prepare(config, tmp_path, lambda done, total: calls.append((done, total)))
    assert calls == []
    assert (tmp_path / "train_images.npy").stat().st_mtime_ns == written
    assert kept.digest == first.digest == digits.digest
    other = prepare(DataConfig(image_size=8, split_seed=1), tmp_path)
    assert other.digest != first.digest
    np.testing.assert_array_equal(first.train.images, digits.train.images)  # what was open stays what it was
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".lock",
        "data.json",
        "test_images.npy",
        "test_labels.npy",
        "train_images.npy",
        "train_labels.npy",
        "val_images.npy",
        "val_labels.npy",
    ]


def test_the_arrays_are_on_the_disk_before_the_metadata_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def remembered(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", remembered)
    prepare(DataConfig(image_size=8), tmp_path)
    arrays = [f"{part}_{what}.npy" for part in ("train", "val", "test") for what in ("images", "labels")]
    assert sorted(synced[:6]) == sorted(arrays)
    assert synced[6] == tmp_path.name
    assert synced[7].startswith(".data.json.")


KILLED_WHILE_DECODING = "prepare(config, directory, lambda done, total: done > 1000 and os._exit(9))"
KILLED_WHILE_MOVING = """
replace, count = os.replace, iter(range(3))
os.replace = lambda *paths: replace(*paths) if next(count, None) is not None else os._exit(9)
prepare(config, directory)
"""


@pytest.mark.slow
@pytest.mark.parametrize("killed", [KILLED_WHILE_DECODING, KILLED_WHILE_MOVING])
def test_a_killed_preparation_leaves_nothing_that_is_taken_for_whole(
    tmp_path: Path, digits: PreparedData, killed: str
) -> None:
    """The process ends, as by kill -9, while it replaces other data."""
    before = prepare(DataConfig(image_size=8, split_seed=1), tmp_path)
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom trials.data import DataConfig, prepare\n"
        f"config, directory = DataConfig(image_size=8), Path(sys.argv[1])\n{killed}"
    )
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False).returncode == 9
    assert (tmp_path / ".unfinished").exists()
    if killed == KILLED_WHILE_DECODING:
        left = PreparedData.open(tmp_path)
        assert left.digest == before.digest
        np.testing.assert_array_equal(left.train.images, before.train.images)
    else:
        with pytest.raises(UserError, match="holds no prepared data"):
            PreparedData.open(tmp_path)
    assert prepare(DataConfig(image_size=8), tmp_path).digest == digits.digest
    assert not (tmp_path / ".unfinished").exists()


def test_progress_ends_at_the_number_of_images(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    prepare(DataConfig(image_size=8), tmp_path, lambda done, total: calls.append((done, total)))
    assert calls[-1] == (1797, 1797)
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})
    assert {total for _, total in calls} == {1797}


def test_a_worker_gets_the_directory_and_not_the_pixels(digits: PreparedData) -> None:
    sent = pickle.dumps(digits)
    assert len(sent) < 1000
    received = pickle.loads(sent)  # noqa: S301 - what was just written
    assert received.digest == digits.digest
    np.testing.assert_array_equal(received.val.images, digits.val.images)


def test_the_configuration_goes_through_json(digits: PreparedData) -> None:
    stored = json.loads((digits.directory / "data.json").read_text())["config"]
    assert stored == dataclasses.asdict(digits.config)
    assert DataConfig(**stored) == digits.config


@pytest.mark.slow
def test_preparing_digits_imports_neither_torch_nor_scikit_learn(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from trials.data import DataConfig, prepare\n"
        "prepare(DataConfig(image_size=8), Path(sys.argv[1]))\n"
        "print([name for name in ('torch', 'sklearn') if name in sys.modules])\n"
    )
    answer = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, capture_output=True, text=True)
    assert answer.stdout == "[]\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": ""}, "source: must be a name or a folder, got ''"),
        ({"root": 3}, "root: must be a folder, got 3"),
        ({"image_size": 7}, "image_size: must be a whole number from 8 to 4096, got 7"),
        ({"image_size": True}, "image_size: must be .*, got True"),
        ({"val_fraction": 0.0}, "val_fraction: must be a number between 0 and 1, got 0.0"),
        ({"test_fraction": float("nan")}, "test_fraction: must be a number between 0 and 1, got nan"),
        ({"val_fraction": 0.5, "test_fraction": 0.5}, r"val_fraction \+ test_fraction: must be less than 1.*, got 1.0"),
        ({"split_seed": -1}, "split_seed: must be a whole number of at least 0, got -1"),
        ({"max_train": 1}, "max_train: must be a whole number of at least 2, or null, got 1"),
        ({"flip": 1}, "flip: must be true, false or null, got 1"),
        ({"flip": "yes"}, "flip: must be true, false or null, got 'yes'"),
    ],
)
def test_wrong_configurations(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^data: {message}"):
        DataConfig(**changes)  # type: ignore[arg-type]


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot hold prepared data"):
        prepare(DataConfig(), tmp_path / "file" / "data")


def test_images_that_do_not_fit_on_the_disk_are_refused(tmp_path: Path) -> None:
    samples = _samples([0], ["one"])
    for number, fits in ((1, True), (10**15, False)):
        selection = Selection(samples=samples, indices=np.broadcast_to(np.int64(0), number), origin="")
        if fits:
            require_space(tmp_path, {"train": selection}, 10)
        else:
            with pytest.raises(UserError, match=r"take up to 400,000,000,000 MB, got .* of free disk space"):
                require_space(tmp_path, {"train": selection}, 10)


def _samples(labels: list[int], names: list[str]) -> Samples:
    return Samples(where="here", names=names, labels=np.array(labels), load=lambda _: Image.new("L", (1, 1)))


@given(st.integers(1, 3), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_mean_and_std(channels: int, number: int, seed: int) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (number, 8, 8, channels), dtype=np.uint8)
    mean, std = mean_and_std(images)
    assert mean == pytest.approx((images / 255).mean((0, 1, 2)))
    assert std == pytest.approx((images / 255).std((0, 1, 2)))


def test_a_blank_channel_can_be_divided_by() -> None:
    assert mean_and_std(np.full((2, 8, 8, 1), 51, np.uint8)) == ((0.2,), (1 / 255,))


@pytest.mark.slow
def test_a_folder_of_real_jpegs(tmp_path: Path, shared_dir: Path) -> None:
    """CIFAR-10's first 40 images of every class and part."""
    wanted = tuple(f"{number:04d}.jpg" for number in range(40))
    with tarfile.open(shared_dir / "data/cifar10.tar.xz") as archive:
        chosen = [member for member in archive if member.name.endswith(wanted)]
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # Python 3.11.4 brought it
        archive.extractall(tmp_path, chosen, **safely)
    folder = tmp_path / "cifar10"
    data = prepare(DataConfig(source=str(folder), image_size=32), tmp_path / "prepared")
    assert data.class_names == (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    )
    assert [np.bincount(part.labels).tolist() for part in (data.train, data.val, data.test)] == [
        [32] * 10,
        [8] * 10,
        [40] * 10,
    ]
    for origin, parts in (("train", (data.train, data.val)), ("val", (data.test,))):
        expected = sorted(
            (data.class_names.index(path.parent.name), np.asarray(Image.open(path).convert("RGB")).tobytes())
            for path in folder.glob(f"{origin}/*/*")
        )
        found = [
            (label, image.tobytes()) for part in parts for label, image in zip(part.labels, part.images, strict=True)
        ]
        assert sorted(found) == expected
    assert data.flip
    os.utime(folder / "train/cat/0003.jpg", ns=(1, 1))
    calls: list[int] = []
    again = prepare(data.config, tmp_path / "prepared", lambda done, _: calls.append(done))
    assert calls[-1] == 800  # a changed file: decoded again
    assert again.digest == data.digest
