"""Batches: what is in them, in which order, and that nothing but seed and epoch decides."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sret_nas.errors import UserError
from trials.data import DataConfig, PreparedPart, batches, num_training_batches, prepare, training_batches


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def part_of(number: int, size: int = 16, channels: int = 3, *, flip: bool = True) -> PreparedPart:
    """Returns random images, labelled by their numbers."""
    images = np.random.default_rng(0).integers(0, 256, (number, size, size, channels), dtype=np.uint8)
    images.flags.writeable = False
    mean, std = (0.5, 0.25, 0.125)[:channels], (0.2, 0.3, 0.4)[:channels]
    return PreparedPart(images=images, labels=np.arange(number), mean=mean, std=std, flip=flip)


def as_bytes(part: PreparedPart, images: torch.Tensor) -> np.ndarray:
    """Returns batches undone: (B, H, W, C) pixels from 0 to 255."""
    pixels = images.numpy().astype(np.float64).transpose(0, 2, 3, 1) * part.std + part.mean
    rounded = np.rint(pixels * 255)
    assert abs(pixels * 255 - rounded).max() < 1e-3
    return rounded.astype(np.uint8)


def candidates(image: np.ndarray, reach: int) -> dict[bytes, tuple[int, int, bool]]:
    """Returns every image that shifts and a mirror can make of one, by padding with its border and cropping."""
    size = len(image)
    padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    made = {}
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            crop = padded[reach - down : reach - down + size, reach - right : reach - right + size]
            made[crop.tobytes()] = (down, right, False)
            made[crop[:, ::-1].tobytes()] = (down, right, True)
    return made


@pytest.mark.parametrize("channels", [1, 3])
def test_evaluation_gives_every_image_once_normalised_in_order(channels: int) -> None:
    part = part_of(11, channels=channels)
    given = list(batches(part, batch_size=4))
    assert [len(labels) for _, labels in given] == [4, 4, 3]
    assert torch.cat([labels for _, labels in given]).tolist() == list(range(11))
    images = torch.cat([images for images, _ in given])
    assert images.dtype == torch.float32
    assert images.is_contiguous()
    expected = ((part.images / 255 - part.mean) / part.std).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(images.numpy(), expected, atol=1e-5)
    again = torch.cat([images for images, _ in batches(part, batch_size=5)])
    assert torch.equal(images, again)


@pytest.mark.parametrize("flip", [True, False])
def test_training_images_are_shifted_and_mirrored_originals(flip: bool) -> None:
    part = part_of(400, flip=flip)
    seen = []
    for images, labels in training_batches(part, batch_size=100, seed=0, epoch=0):
        assert images.shape == (100, 3, 16, 16)
        assert images.dtype == torch.float32
        assert images.is_contiguous()
        for image, label in zip(as_bytes(part, images), labels, strict=True):
            seen.append(candidates(part.images[label], reach=2)[image.tobytes()])
    downs, rights, mirrored = zip(*seen, strict=True)
    # 400 draws: each of 5 shifts 80 times and half of all mirrored, give or take five deviations (8 and 10)
    assert set(downs) == set(rights) == {-2, -1, 0, 1, 2}
    assert all(40 <= list(values).count(shift) <= 120 for values in (downs, rights) for shift in range(-2, 3))
    assert 150 <= sum(mirrored) <= 250 if flip else sum(mirrored) == 0
    for draws in (downs, rights) + ((mirrored,) if flip else ()):
        assert len({draws[start : start + 100] for start in range(0, 400, 100)}) == 4
    assert len(set(seen)) > 20  # down, right and mirror are drawn apart from each other


def test_training_shuffles_and_takes_every_image_at_most_once() -> None:
    part = part_of(50)
    epochs = [
        torch.cat([labels for _, labels in training_batches(part, batch_size=16, seed=0, epoch=epoch)]).tolist()
        for epoch in range(3)
    ]
    for labels in epochs:
        assert len(labels) == len(set(labels)) == 48
        assert labels != sorted(labels)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert len({frozenset(range(50)) - frozenset(labels) for labels in epochs}) > 1


def digest(part: PreparedPart, seed: int, epoch: int) -> str:
    made = hashlib.sha256()
    for images, labels in training_batches(part, batch_size=32, seed=seed, epoch=epoch):
        made.update(images.numpy().tobytes() + labels.numpy().tobytes())
    return made.hexdigest()


@pytest.mark.slow
def test_seed_and_epoch_alone_decide(tmp_path: Path) -> None:
    """Bit for bit: again, with another state of the global generator, and in another process."""
    part = prepare(DataConfig(image_size=16, flip=True), tmp_path).train
    torch.manual_seed(1)
    first = digest(part, 0, 0)
    assert torch.rand(1) == torch.rand(1, generator=torch.Generator().manual_seed(1))  # nothing was drawn from it
    assert digest(part, 0, 0) == first
    assert len({first, digest(part, 0, 1), digest(part, 1, 0), digest(part, 1, 1)}) == 4
    script = (
        "import sys; from pathlib import Path; from trials.data import PreparedData\n"
        "from tests.trials.data.test_batching import digest\n"
        "print(digest(PreparedData.open(Path(sys.argv[1])).train, 0, 0))\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == first


@given(st.integers(2, 40), st.integers(2, 45))
@settings(max_examples=60)
def test_training_batches_are_full_unless_there_is_only_one(number: int, batch_size: int) -> None:
    part = part_of(number, size=8, channels=1)
    sizes = [len(labels) for _, labels in training_batches(part, batch_size=batch_size)]
    assert sizes == ([number] if number < batch_size else [batch_size] * (number // batch_size))
    assert len(sizes) == num_training_batches(part, batch_size=batch_size)
    sizes = [len(labels) for _, labels in batches(part, batch_size=batch_size)]
    assert sum(sizes) == number
    assert len(sizes) == -(-number // batch_size)


def test_first_leaves_out_batches_and_changes_no_other() -> None:
    part = part_of(40)
    every = list(training_batches(part, batch_size=12, seed=1, epoch=2))
    for first in range(len(every) + 2):
        rest = list(training_batches(part, batch_size=12, seed=1, epoch=2, first=first))
        assert len(rest) == max(0, len(every) - first)
        for (images, labels), (same_images, same_labels) in zip(rest, every[first:], strict=True):
            assert torch.equal(images, same_images)
            assert torch.equal(labels, same_labels)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_shares_put_together_are_the_batch(number: int) -> None:
    part = part_of(40)
    shares = [
        list(training_batches(part, batch_size=16, seed=1, epoch=2, shard=(at, number)))
        for at in range(number)
    ]  # fmt: skip
    for (images, labels), *parts in zip(training_batches(part, batch_size=16, seed=1, epoch=2), *shares, strict=True):
        assert torch.equal(images, torch.cat([images for images, _ in parts]))
        assert torch.equal(labels, torch.cat([labels for _, labels in parts]))
        sizes = [len(labels) for _, labels in parts]
        assert max(sizes) - min(sizes) <= 1


def test_a_side_below_eight_pixels_is_not_shifted() -> None:
    part = part_of(8, size=7, flip=False)
    ((images, labels),) = training_batches(part, batch_size=8)
    np.testing.assert_array_equal(as_bytes(part, images), part.images[labels])


def test_batches_that_cannot_be() -> None:
    part = part_of(8)
    with pytest.raises(UserError, match=r"at least 2 images, which BatchNorm needs, got batch_size=1 for 8 images"):
        training_batches(part, batch_size=1)
    with pytest.raises(UserError, match="got batch_size=4 for 1 image"):
        training_batches(part_of(1), batch_size=4)
    with pytest.raises(UserError, match="batch_size must be at least 1, got 0"):
        batches(part, batch_size=0)
