"""Which folders are taken for the parts of a set of images, in all spellings and depths, and which for classes."""

from __future__ import annotations

from pathlib import Path

import pytest

from sret_nas.errors import UserError
from tests.trials.data.shaded_images import Write, layout, run, shades

PARTS_OF = [
    (("Train", "Test"), ("train", "test")),
    (("Training", "Testing"), ("train", "test")),
    (("TRAIN", "VALIDATION", "TEST"), ("train", "val", "test")),
    (("Train", "Validation", "Test"), ("train", "val", "test")),
    (("train_set", "valid_set", "test_set"), ("train", "val", "test")),
    (("trainset", "valset", "testset"), ("train", "val", "test")),
    (("training-data", "dev-data", "eval-data"), ("train", "val", "test")),
    (("images_train", "images_val"), ("train", "test")),
    (("imagesTrain", "imagesTest"), ("train", "test")),
    (("train2017", "val2017"), ("train", "test")),
    (("1. train", "2. test"), ("train", "test")),
    (("seg_train", "seg_test"), ("train", "test")),
    (("ILSVRC2012_img_train", "ILSVRC2012_img_val"), ("train", "test")),
    (("trainval", "test"), ("train", "test")),
    (("tRaIn", "tEsT"), ("train", "test")),
]


@pytest.mark.parametrize(
    "folds", [("fold1", "fold2", "fold3"), ("Fold_0", "Fold_1"), ("kfold-1", "kfold-2"), ("split 1", "split 2")]
)
def test_folds_are_not_taken_for_classes(tmp_path: Path, write: Write, folds: tuple[str, ...]) -> None:
    layout(write, *(f"{fold}/{name}" for fold in folds for name in ("cat", "dog")))
    with pytest.raises(UserError, match=f"{folds[0]}, {folds[1]}.* look like folds of one set, not like classes"):
        run(tmp_path)


def test_classes_with_a_number_are_classes(tmp_path: Path, write: Write) -> None:
    layout(write, "part1", "part2")
    assert run(tmp_path).class_names == ("part1", "part2")


@pytest.mark.parametrize(("folders", "parts"), PARTS_OF)
def test_parts_are_known_in_their_usual_spellings(
    tmp_path: Path, write: Write, folders: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    layout(write, *(f"{folder}/{name}" for folder in folders for name in ("cat", "dog")))
    data = run(tmp_path)
    assert data.class_names == ("cat", "dog")
    for number, part in enumerate(parts[1:], start=1):
        assert sorted(shades(data)[part]) == list(range(10 * number, 10 * number + 10))


@pytest.mark.parametrize(
    "classes",
    [
        ("valid", "invalid"),
        ("positive_test", "negative_test"),
        ("bullet_train", "freight_train", "bus"),
        ("training_shoes", "test_tube"),
        ("valley", "contest", "strain"),
        ("bus", "car", "train"),
        ("apple", "pear", "plum", "fig", "test", "train"),
    ],
)
def test_classes_that_are_called_almost_or_just_as_parts(
    tmp_path: Path, write: Write, classes: tuple[str, ...]
) -> None:
    layout(write, *classes)
    data = run(tmp_path)
    assert data.class_names == tuple(sorted(classes))
    is_doubtful = {"train", "valid"} & set(classes)
    assert ("read as a class like the others, not as a part" in data.summary()) == bool(is_doubtful)


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (
            ("train/cat", "train/dog", "test1"),
            r"images/test1: must have one folder of images per class, got 5 images and no folder in it "
            r"\(understood .*/train as the training part, .*/test1 as the test part\)",
        ),
        (("train", "test"), r"images/train: must have one folder of images per class, got 5 images and no folder"),
        (
            ("train/cat", "train/dog", "unlabelled"),
            "understood train as the training part, but unlabelled beside it is no part: move that away",
        ),
        (("cat", "dog", "test/cat", "test/dog"), "understood test as the test part, but cat, dog beside it is no part"),
        (
            ("apple", "train", "test"),
            "understood test as the test part and train as the training part, but they hold images and no folders",
        ),
        (("train/train", "train/test"), r"train/train: must have one folder of images per class, got 5 images and no"),
        (("Train/train_set", "Train/val"), r"Train/train_set: must have one folder of images per class, got 5 images"),
        (
            ("train/train/cat", "train/test/cat", "test/train/cat", "test/test/cat"),
            r"train: understood as a part, but it holds parts again, test, train: put its classes there",
        ),
        (("train/cat", "train/dog", "Train/cat"), "must have one folder for train, got Train and train"),
        (("train/cat", "train/dog", "test1/cat", "test2/cat"), "one folder for test, got test1 and test2"),
        (
            ("cat/train", "cat/test", "dog/train", "dog/test"),
            r"cat: understood as a class, .* parts test, train",
        ),
        (
            ("train/cat", "train/dog", "val/images"),
            "classes of the training part, got images only in .*/val and cat, dog only in .*/train",
        ),
    ],
)
def test_what_looks_like_parts_and_does_not_fit_is_refused(
    tmp_path: Path, write: Write, folders: tuple[str, ...], message: str
) -> None:
    layout(write, *folders)
    with pytest.raises(UserError, match=message):
        run(tmp_path)
    assert not (tmp_path / "prepared" / "data.json").exists()


def test_parts_inside_a_lone_training_part_are_the_parts(tmp_path: Path, write: Write) -> None:
    layout(write, "train/train/cat", "train/train/dog", "train/val/cat", "train/val/dog")
    data = run(tmp_path)
    assert data.class_names == ("cat", "dog")
    assert len(data.test) == 10
    assert any("images/train, the only folder in" in note for note in data.notes)


@pytest.mark.parametrize("outer", ["photos", "archive/photos", "photos/photos", "__MACOSX/../photos"])
def test_a_folder_that_holds_nothing_but_another_is_read_as_that(tmp_path: Path, write: Write, outer: str) -> None:
    layout(write, f"{outer}/cat", f"{outer}/dog")
    (tmp_path / "images" / "README.txt").write_text("")
    (tmp_path / "images" / "licences").mkdir()
    (tmp_path / "images" / "licences" / "mit.txt").write_text("")
    data = run(tmp_path)
    assert data.class_names == ("cat", "dog")
    assert f"photos, the only folder in {tmp_path / 'images'}" in data.summary()


def test_parts_inside_one_folder_each_holding_its_name_again(tmp_path: Path, write: Write) -> None:
    layout(write, *(f"data/seg_{part}/seg_{part}/{name}" for part in ("train", "test") for name in ("cat", "dog")))
    layout(write, "data/seg_pred/seg_pred")
    data = run(tmp_path)
    assert sorted(shades(data)["test"]) == list(range(10, 20))
    assert "passed over beside the parts: seg_pred" in data.summary()


def test_folders_of_labels_are_no_second_parts(tmp_path: Path, write: Write) -> None:
    layout(write, "train/cat", "train/dog", "val/cat", "val/dog")
    for part in ("train", "val"):
        (tmp_path / f"images/{part}_labels").mkdir()
        (tmp_path / f"images/{part}_labels/1.txt").write_text("")
    assert sorted(shades(run(tmp_path))["test"]) == list(range(10, 20))


def test_an_empty_folder_beside_another_is_no_reason_to_read_that_alone(tmp_path: Path, write: Write) -> None:
    layout(write, "a/red", "a/green")
    (tmp_path / "images" / "b").mkdir()
    with pytest.raises(UserError, match="images/b: the folder of a class must have images"):
        run(tmp_path)


def test_parts_in_another_language_are_warned_of(tmp_path: Path, write: Write) -> None:
    layout(write, "Prueba/cat", "Prueba/dog", "Entrenamiento/cat", "Entrenamiento/dog")
    (note,) = run(tmp_path).notes
    assert note.startswith("warning: the classes Entrenamiento, Prueba hold the same folders (cat, dog), as parts of")
