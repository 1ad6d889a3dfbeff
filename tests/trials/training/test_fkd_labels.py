"""FKD's files of soft labels: what they hold is read, and damage is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sret_nas.errors import UserError
from trials.training.fkd_labels import FKDLabels, view_of

CROPS, FLIPS = torch.tensor([[0.0, 0.25, 0.5, 0.75], [0.5, 0.5, 0.5, 0.5]]), torch.tensor([True, False])
BEST = torch.tensor([[[2.0, 0.0], [0.7, 0.2]], [[1.0, 3.0], [0.5, 0.25]]])
"""The two best classes of two views, and their probabilities: (M, 2, k)."""


def write(folder: Path, content: Any, name: str = "cat/one.tar") -> FKDLabels:
    path = folder / "train" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return FKDLabels(folder, classes=4)


def test_the_best_classes_of_each_view(tmp_path: Path) -> None:
    labels = write(tmp_path, [CROPS, FLIPS, BEST])
    image = labels.read("cat/one.JPEG")
    assert len(image) == 2
    np.testing.assert_array_equal(image.crops, CROPS)
    np.testing.assert_array_equal(image.flips, FLIPS)
    expected = [[0.2, 0.05, 0.7, 0.05], [0.125, 0.5, 0.125, 0.25]]
    np.testing.assert_allclose(labels.targets(image, np.array([0, 1])), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (torch.tensor([3, 0]), [[0, 0, 0, 1], [1, 0, 0, 0]]),
        (torch.tensor([[3.0, 0.7], [0.0, 1.0]]), [[0.1, 0.1, 0.1, 0.7], [1, 0, 0, 0]]),
        (np.array([[3.0, 0.7], [0.0, 1.0]]), [[0.1, 0.1, 0.1, 0.7], [1, 0, 0, 0]]),
    ],
    ids=["hard", "smoothed", "an array of NumPy"],
)
def test_other_kinds_of_labels(tmp_path: Path, stored: Any, expected: list[list[float]]) -> None:
    labels = write(tmp_path, [CROPS, FLIPS, stored])
    image = labels.read("cat/one.png")
    np.testing.assert_allclose(labels.targets(image, np.array([0, 1])), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([CROPS, FLIPS], "must hold crops, flips and labels"),
        ([CROPS, FLIPS, "x"], "must hold arrays of finite numbers"),
        ([CROPS, FLIPS, torch.tensor([float("nan"), 0.0])], "must hold arrays of finite numbers"),
        ([CROPS[:1], FLIPS, BEST], "must hold as many crops as flips and labels"),
        ([CROPS * 3, FLIPS, BEST], "crops and probabilities must lie between 0 and 1"),
        ([CROPS, FLIPS, torch.tensor([4, 0])], "of other classes: the data have 4"),
        ([CROPS, FLIPS, torch.tensor(1)], "must hold as many crops as flips and labels"),
        ([CROPS, FLIPS, torch.zeros(2, dtype=torch.bfloat16)], "must hold arrays of finite numbers"),
        ([CROPS, FLIPS, torch.zeros(2, 3)], "must hold hard, smoothed or marginal labels, got the shape (2, 3)"),
    ],
)
def test_damage_is_named(tmp_path: Path, content: Any, message: str) -> None:
    labels = write(tmp_path, content)
    with pytest.raises(UserError) as error:
        labels.read("cat/one.png")
    assert message in str(error.value)
    assert str(error.value).startswith(f"{tmp_path}/train/cat/one.tar: ")


def test_an_image_without_labels(tmp_path: Path) -> None:
    labels = write(tmp_path, [CROPS, FLIPS, BEST])
    with pytest.raises(UserError, match=r"two\.tar: there is no such file"):
        labels.read("cat/two.png")
    with pytest.raises(UserError, match="must be a folder of FKD's soft labels"):
        FKDLabels(tmp_path / "nothing", classes=4)


def test_every_view_is_used_evenly_and_repeatably() -> None:
    drawn = [view_of(0, epoch, 7, 4) for epoch in range(400)]
    assert drawn == [view_of(0, epoch, 7, 4) for epoch in range(400)]
    assert np.bincount(drawn).min() > 60  # 100 are expected
    assert drawn != [view_of(1, epoch, 7, 4) for epoch in range(400)]


def test_other_labels_of_the_same_size_have_another_digest(tmp_path: Path) -> None:
    names = [f"cat/{number}.JPEG" for number in range(3)]
    for name in names:
        write(tmp_path / "then", [CROPS, FLIPS, BEST], name.replace("JPEG", "tar"))
    moved = FKDLabels((tmp_path / "then").rename(tmp_path / "now"), classes=4)
    before = moved.digest(names)
    write(tmp_path / "now", [CROPS, FLIPS, BEST.flip(0)], "cat/1.tar")
    assert moved.digest(names) != before
    write(tmp_path / "now", [CROPS, FLIPS, BEST], "cat/1.tar")
    assert moved.digest(names) == before
    labels = FKDLabels(tmp_path / "now", classes=4)
    labels.file_of(names[2]).unlink()
    with pytest.raises(UserError, match=r"cat/2\.tar: there is no such file"):
        labels.digest(names)


def test_files_whose_content_is_not_read_count_by_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a thousand times as many files as in this test, most are such."""
    monkeypatch.setattr("trials.training.fkd_labels.DIGESTED", 1)
    names = [f"cat/{number}.JPEG" for number in range(3)]
    for name in names:
        write(tmp_path, [CROPS, FLIPS, BEST], name.replace("JPEG", "tar"))
    labels = FKDLabels(tmp_path, classes=4)
    before = labels.digest(names)
    with labels.file_of(names[1]).open("ab") as file:
        file.write(b"more")
    assert labels.digest(names) != before
    labels.file_of(names[1]).unlink()
    with pytest.raises(UserError, match=r"cat/1\.tar: there is no such file"):
        labels.digest(names)
