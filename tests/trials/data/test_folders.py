"""Image folders in every layout, image files of every kind, and what is said where they cannot be used."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sret_nas.errors import ConfigError, UserError
from trials.data import DataConfig, PreparedData, prepare
from trials.data.decode import to_pixels

SIZE = 8

Write = Callable[[str, int], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a flat image of a shade of its own under `images/`; the shade tells later which image it was."""

    def write_one(name: str, shade: int) -> Path:
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 10), (shade, 0, 0)).save(path, "png")
        return path

    return write_one


def fill(write: Write, folder: str, classes: str, count: int, first_shade: int = 0) -> None:
    for number, name in enumerate(classes):
        for image in range(count):
            write(f"{folder}{name}/{image}.png", first_shade + number * count + image)


def run(tmp_path: Path, **changes: object) -> PreparedData:
    config = DataConfig(source=str(tmp_path / "images"), image_size=SIZE, **changes)  # type: ignore[arg-type]
    return prepare(config, tmp_path / "prepared")


def shades(data: PreparedData) -> dict[str, list[int]]:
    """Returns the shade of every image of each part, after a check that the image is flat."""
    found = {}
    for name in ("train", "val", "test"):
        images = getattr(data, name).images
        assert (images == images[:, :1, :1]).all()
        found[name] = images[:, 0, 0, 0].tolist()
    return found


def test_class_folders_are_split_three_ways(tmp_path: Path, write: Write) -> None:
    fill(write, "", "ab", 20)
    data = run(tmp_path, val_fraction=0.1, test_fraction=0.25)
    found = shades(data)
    assert sorted(found["train"] + found["val"] + found["test"]) == list(range(40))
    assert [len(part) for part in found.values()] == [26, 4, 10]
    for name, part in found.items():
        assert getattr(data, name).labels.tolist() == [shade // 20 for shade in part]
    assert data.class_names == ("a", "b")


@pytest.mark.parametrize("val", ["val", "valid", "validation"])
def test_train_and_val_leave_val_untouched_as_the_test_part(tmp_path: Path, write: Write, val: str) -> None:
    fill(write, "train/", "ab", 10)
    fill(write, f"{val}/", "ab", 3, first_shade=100)
    found = shades(run(tmp_path))
    assert sorted(found["test"]) == list(range(100, 106))
    assert sorted(found["train"] + found["val"]) == list(range(20))
    assert len(found["val"]) == 4


def test_other_folders_beside_the_parts_are_not_looked_at(tmp_path: Path, write: Write) -> None:
    fill(write, "train/", "ab", 5)
    fill(write, "val/", "ab", 3, first_shade=100)
    fill(write, "annotations/", "xyz", 1, first_shade=200)
    data = run(tmp_path)
    assert data.class_names == ("a", "b")
    assert sorted(shades(data)["test"]) == list(range(100, 106))


def test_train_and_test_leave_test_untouched(tmp_path: Path, write: Write) -> None:
    fill(write, "train/", "ab", 10)
    fill(write, "test/", "ab", 3, first_shade=100)
    found = shades(run(tmp_path))
    assert sorted(found["test"]) == list(range(100, 106))
    assert len(found["val"]) == 4


def test_three_parts_are_taken_as_they_are(tmp_path: Path, write: Write) -> None:
    fill(write, "train/", "ab", 3)
    fill(write, "val/", "ab", 2, first_shade=100)
    fill(write, "test/", "ab", 1, first_shade=200)
    found = {name: sorted(part) for name, part in shades(run(tmp_path)).items()}
    assert found == {"train": [0, 1, 2, 3, 4, 5], "val": [100, 101, 102, 103], "test": [200, 201]}


def test_train_alone_is_split_three_ways(tmp_path: Path, write: Write) -> None:
    fill(write, "train/", "ab", 5)
    found = shades(run(tmp_path))
    assert [len(part) for part in found.values()] == [6, 2, 2]


def test_a_class_called_train_is_a_class(tmp_path: Path, write: Write) -> None:
    fill(write, "", ["car", "train"], 5)  # type: ignore[arg-type]
    assert run(tmp_path).class_names == ("car", "train")


def test_nested_files_upper_case_links_hidden_and_other_files(tmp_path: Path, write: Write) -> None:
    fill(write, "", "ab", 3)
    write("a/deep/er/one.PNG", 50)
    outside = write("../elsewhere.png", 60)
    (tmp_path / "images/b/linked.png").symlink_to(outside)
    write("a/.hidden.png", 70)
    write("a/.thumbnails/x.png", 71)
    write(".cache/x.png", 72)
    (tmp_path / "images/a/notes.txt").write_text("not an image")
    (tmp_path / "images/README.md").write_text("not in a class")
    data = run(tmp_path)
    found = shades(data)
    assert sorted(found["train"] + found["val"] + found["test"]) == [0, 1, 2, 3, 4, 5, 50, 60]
    assert data.metadata.passed_over == (str(tmp_path / "images/a/notes.txt"),)
    assert "passed over 1 file that is no image by its extension" in data.summary()
    assert "notes.txt" in data.summary()


def test_the_split_does_not_depend_on_the_order_of_creation(tmp_path: Path, write: Write) -> None:
    fill(write, "", "ab", 20)
    first = run(tmp_path)
    os.rename(tmp_path / "images", tmp_path / "old")
    for path in sorted(tmp_path.glob("old/*/*"), reverse=True):
        target = tmp_path / "images" / path.relative_to(tmp_path / "old")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    assert prepare(first.config, tmp_path / "again").digest == first.digest


def test_a_changed_or_further_file_is_seen(tmp_path: Path, write: Write) -> None:
    fill(write, "", "ab", 5)
    first = run(tmp_path)
    assert run(tmp_path).metadata == first.metadata
    length = (tmp_path / "images/a/1.png").stat().st_size
    path = write("a/1.png", 99)
    assert path.stat().st_size == length  # the time of change alone tells
    os.utime(path, ns=(1, 1))
    assert any(99 in part for part in shades(run(tmp_path)).values())
    os.rename(path, tmp_path / "images/a/9.png")
    renamed = run(tmp_path)
    assert renamed.metadata.fingerprint not in (first.metadata.fingerprint, "")
    write("b/5.png", 77)
    assert any(77 in part for part in shades(run(tmp_path)).values())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path, write: None, "images: there is no such folder; give 'digits'"),
        (lambda path, write: path.write_text(""), "must be a folder with one folder of images per class, got a file"),
        (lambda path, write: path.mkdir(), "images: must have one folder of images per class, got no folder in it"),
        (
            lambda path, write: (write("a/1.png", 1), (path / "b").mkdir()),
            r"images/b: the folder of a class must have images \(.*\.webp\), got none",
        ),
        (lambda path, write: fill(write, "", "a", 5), r"images: there must be at least two classes .*, got \['a'\]"),
        (
            lambda path, write: (fill(write, "", "ab", 5), fill(write, "", "c", 2)),
            "images: class 'c' has too few images to take 20% for test and 20% for val .*, got 2; add images",
        ),
        (
            lambda path, write: (fill(write, "train/", "abc", 5), fill(write, "val/", "bcde", 5)),
            "the classes of the training part, got d, e only in .*images/val and a only in .*images/train",
        ),
        (
            lambda path, write: (fill(write, "train/", "ab", 5), write("test/unlabelled.png", 0)),
            r"images/test: must have one folder of images per class, got 1 image and no folder in it \(understood "
            r".*images/train as the training part, .*images/test as the test part\)",
        ),
        (
            lambda path, write: (fill(write, "test/", "ab", 5), fill(write, "val/", "ab", 5)),
            "images: must have a folder 'train' beside test and val, got none",
        ),
        (
            lambda path, write: [fill(write, f"{part}/", "ab", 5) for part in ("train", "val", "valid")],
            "images: must have one folder for val, got val and valid",
        ),
        (
            lambda path, write: (fill(write, "", "ab", 5), (path / "a/x.png").symlink_to(path / "nowhere")),
            "images/a/x.png: cannot be read: No such file",
        ),
    ],
)
def test_folders_that_cannot_be_used(
    tmp_path: Path, write: Write, make: Callable[[Path, Write], object], message: str
) -> None:
    make(tmp_path / "images", write)
    with pytest.raises(UserError, match=message):
        run(tmp_path)


def layout(write: Write, *folders: str, count: int = 5) -> None:
    """Writes images into each folder."""
    for number, folder in enumerate(folders):
        for image in range(count):
            write(f"{folder}/{image}.png", number * count + image)


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


@pytest.mark.parametrize(
    "junk",
    ["__MACOSX", "lost+found", "annotations", "Annotations", "@eaDir", "$RECYCLE.BIN", ".git", "thumbnails"],
)
def test_what_systems_and_tools_leave_is_passed_over_with_a_line(tmp_path: Path, write: Write, junk: str) -> None:
    layout(write, "cat", "dog")
    first = run(tmp_path)
    layout(write, junk, f"cat/{junk}/deep")
    again = run(tmp_path)
    assert (again.class_names, again.digest) == (("cat", "dog"), first.digest)
    (note,) = again.notes
    assert note.startswith("passed over 2 folders that hold nothing of a class")
    assert str(tmp_path / "images" / "cat" / junk) in note


def test_a_folder_of_texts_alone_is_no_class(tmp_path: Path, write: Write) -> None:
    layout(write, "cat", "dog")
    for name in ("labels/1.xml", "labels/deep/2.txt"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_text("")
    data = run(tmp_path)
    assert data.class_names == ("cat", "dog")
    assert str(tmp_path / "images" / "labels") in "".join(data.notes)


def test_images_without_their_ending_are_counted_and_named(tmp_path: Path, write: Write) -> None:
    layout(write, "cat", "dog")
    content = (tmp_path / "images/cat/0.png").read_bytes()
    for name in ("a", "b.jfif"):
        (tmp_path / "images/cat" / name).write_bytes(content)
    (tmp_path / "images/cat/notes").write_text("none")
    os.mkfifo(tmp_path / "images/cat/pipe")
    (note,) = run(tmp_path).notes
    cat = tmp_path / "images/cat"
    assert note == f"passed over 2 files that are images, but not by their ending: {cat / 'a'}, {cat / 'b.jfif'}"
    for path in cat.glob("*.png"):
        path.rename(path.with_suffix(""))
    with pytest.raises(UserError, match=r"got none; 7 files are images, but not by their ending, e\.g\. .*cat/0;"):
        run(tmp_path)


def test_images_beside_the_classes_are_counted_and_named(tmp_path: Path, write: Write) -> None:
    layout(write, "cat", "dog")
    path = write("stray.png", 0)
    assert run(tmp_path).notes == (f"passed over 1 image that lies beside the folders of the classes: {path}",)


def test_a_class_that_val_or_test_lacks_is_a_warning_and_the_numbers_are_train_s(tmp_path: Path, write: Write) -> None:
    layout(write, "train/a", "train/b", "train/c", "val/c", "test/b", "test/c")
    (tmp_path / "images/val/a").mkdir()
    data = run(tmp_path)
    assert set(data.val.labels.tolist()) == {2}
    assert set(data.test.labels.tolist()) == {1, 2}
    assert [note.partition("images/")[2] for note in data.notes] == [
        f"val has no images of a, b, which {tmp_path}/images/train has",
        f"test has no images of a, which {tmp_path}/images/train has",
    ]


def test_names_are_compared_in_one_unicode_form(tmp_path: Path, write: Write) -> None:
    """As a Mac and Linux write them; the split of a copy is the same."""
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    layout(write, f"train/{composed}", "train/tea", f"test/{decomposed}", "test/tea")
    data = run(tmp_path)
    assert data.class_names == (composed, "tea")
    assert set(data.test.labels.tolist()) == {0, 1}
    os.rename(tmp_path / "images/train" / composed, tmp_path / "images/train" / decomposed)
    assert run(tmp_path).digest == data.digest
    (tmp_path / "images/train" / composed).mkdir()
    write(f"train/{composed}/1.png", 0)
    with pytest.raises(UserError, match="two folders are called 'caf\u00e9', in two Unicode forms"):
        run(tmp_path)


def test_the_first_lines_name_the_first_ten_classes_with_counts(tmp_path: Path, write: Write) -> None:
    layout(write, *(f"c{number:02}" for number in range(12)))
    write("c03/more.png", 9)
    line = run(tmp_path).summary().splitlines()[1]
    names = ", ".join(f"c{number:02} ({6 if number == 3 else 5})" for number in range(10))
    assert line == f"  classes    {names} and 2 more"


def test_folders_inside_classes_are_shown(tmp_path: Path, write: Write) -> None:
    layout(write, "cat/black", "cat/white", "dog")
    assert run(tmp_path).notes == (
        f"in classes of {tmp_path}/images, images lie in folders; they are the class's: cat/black (5), cat/white (5)",
    )
    layout(write, "dog/black", "dog/white")
    assert run(tmp_path).notes == (
        f"in every class of {tmp_path}/images, images lie in the folders black, white: they are the class's",
    )


def test_parts_in_another_language_are_warned_of(tmp_path: Path, write: Write) -> None:
    layout(write, "Prueba/cat", "Prueba/dog", "Entrenamiento/cat", "Entrenamiento/dog")
    (note,) = run(tmp_path).notes
    assert note.startswith("warning: the classes Entrenamiento, Prueba hold the same folders (cat, dog), as parts of")


def test_unreadable_images_are_counted_and_named(tmp_path: Path, write: Write) -> None:
    fill(write, "", "ab", 10)
    (tmp_path / "images/a/text.jpg").write_text("not an image")
    whole = write("b/cut.png", 0).read_bytes()
    (tmp_path / "images/b/cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "images/b/empty.gif").touch()
    with pytest.raises(UserError, match=r"^3 of 23 images cannot be read") as caught:
        run(tmp_path)
    for name in ("a/text.jpg: cannot identify", "b/cut.png: ", "b/empty.gif: cannot identify"):
        assert str(tmp_path / "images" / name) in str(caught.value)
    assert [path.name for path in (tmp_path / "prepared").iterdir()] == [".lock"]


def test_a_folder_of_grey_images_has_one_channel_and_a_mixed_one_three(tmp_path: Path, write: Write) -> None:
    for shade in range(10):
        path = write(f"{'ab'[shade % 2]}/{shade}.png", 0)
        Image.new("L", (5, 7), shade).save(path)
    grey = run(tmp_path)
    assert grey.train.images.shape == (6, SIZE, SIZE, 1)
    write("a/red.png", 200)
    mixed = run(tmp_path)
    assert mixed.channels == 3
    parts = np.concatenate([part.images[:, 0, 0] for part in (mixed.train, mixed.val, mixed.test)])
    assert sorted(parts.tolist()) == sorted([[n, n, n] for n in range(10)] + [[200, 0, 0]])


def test_prepared_data_must_not_lie_inside_the_folder(tmp_path: Path, write: Write) -> None:
    fill(write, "", "ab", 5)
    config = DataConfig(source=str(tmp_path / "images"))
    with pytest.raises(UserError, match="must not lie inside the image folder"):
        prepare(config, tmp_path / "images" / "c" / "prepared")


def test_limits_below_the_number_of_classes(tmp_path: Path, write: Write) -> None:
    fill(write, "", "abc", 5)
    with pytest.raises(ConfigError, match=r"data: max_val: must be at least the number of classes \(3\).*, got 2"):
        run(tmp_path, max_val=2)


def _corner_image(mode: str) -> Image.Image:
    """Returns an image of 16 x 16 with the upper left quarter bright and the rest dark."""
    values = np.full((16, 16), 40, np.uint8)
    values[:8, :8] = 200
    return Image.fromarray(values).convert(mode)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_every_mode_gives_the_same_picture(mode: str) -> None:
    pixels = to_pixels(_corner_image("L").convert(mode, dither=Image.Dither.NONE), 16)
    assert pixels.dtype == np.uint8
    assert pixels.shape == ((16, 16) if mode in ("1", "L", "LA") else (16, 16, 3))
    bright, dark = (255, 0) if mode == "1" else (200, 40)
    assert abs(pixels[:8, :8].astype(int) - bright).max() <= 1
    assert abs(pixels[8:].astype(int) - dark).max() <= 1


@pytest.mark.parametrize(("suffix", "dtype"), [("png", np.uint16), ("tif", np.uint16), ("tif", np.int32)])
def test_sixteen_bits_become_eight(tmp_path: Path, suffix: str, dtype: type) -> None:
    values = np.array([[0, 257], [25700, 65535]]).repeat(8, 0).repeat(8, 1)
    Image.fromarray(values.astype(dtype)).save(tmp_path / f"deep.{suffix}")
    with Image.open(tmp_path / f"deep.{suffix}") as image:
        pixels = to_pixels(image, 16)
    assert (pixels[::8, ::8] == [[0, 1], [100, 255]]).all()  # 65535 / 257 = 255


def test_pixels_without_a_known_range_are_refused() -> None:
    with pytest.raises(ValueError, match="floating-point"):
        to_pixels(Image.fromarray(np.ones((8, 8), np.float32)), 8)
    with pytest.raises(ValueError, match="more than 16 bits"):
        to_pixels(Image.fromarray(np.full((8, 8), 70000, np.int32)), 8)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_become_white(mode: str) -> None:
    image = Image.new("RGBA", (16, 16), (10, 10, 10, 0))
    image.paste((10, 10, 10, 255), (0, 0, 8, 16))
    pixels = to_pixels(image.convert(mode), 16)
    assert (pixels[:, :8] == 10).all()
    assert (pixels[:, 8:] == 255).all()


def test_a_transparent_palette_colour_becomes_white(tmp_path: Path) -> None:
    _corner_image("L").convert("P").save(tmp_path / "palette.png", transparency=40)
    with Image.open(tmp_path / "palette.png") as image:
        assert image.mode == "P"
        pixels = to_pixels(image, 16)
    assert (pixels[:8, :8] == 200).all()
    assert (pixels[8:] == 255).all()


@pytest.mark.parametrize(
    ("orientation", "row", "column"), [(1, 0, 0), (2, 0, 1), (3, 1, 1), (4, 1, 0), (6, 0, 1), (8, 1, 0)]
)
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, row: int, column: int) -> None:
    """Where the bright upper left corner goes, by the EXIF 2.3 table of orientations."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    _corner_image("RGB").save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as image:
        pixels = to_pixels(image, 16)
    quarters = pixels[4::8, 4::8, 0]
    assert quarters[row, column] == 200
    assert quarters.sum() == 200 + 3 * 40


@pytest.mark.parametrize("size", [(40, 20), (20, 40), (41, 20), (1, 300), (30, 20)])
def test_the_largest_centred_square_is_kept(size: tuple[int, int]) -> None:
    """Shades rise linearly along the longer side, so the mean shade of a centred crop is that of the middle."""
    width, height = size
    ramp = np.linspace(0, 255, max(size))
    values = np.broadcast_to(ramp if width > height else ramp[:, None], (height, width))
    pixels = to_pixels(Image.fromarray(np.rint(values).astype(np.uint8)), 8).astype(float)
    assert pixels.mean() == pytest.approx(127.5, abs=1.5)
    side = min(size)
    spread = 255 * (side - 1) / (max(size) - 1)
    assert np.ptp(pixels) <= spread + 2


def test_shrinking_is_antialiased() -> None:
    checkerboard = (np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8)
    pixels = to_pixels(Image.fromarray(checkerboard), 8).astype(int)
    assert abs(pixels - 127.5).max() <= 2


def test_a_large_jpeg_decoded_at_a_fraction_looks_as_one_decoded_whole(tmp_path: Path) -> None:
    rows, columns = np.indices((640, 800))
    values = np.stack([rows * 255 // 640, columns * 255 // 800, (rows // 80 + columns // 80) % 2 * 255], -1)
    Image.fromarray(values.astype(np.uint8)).save(tmp_path / "large.jpg", quality=95)
    with Image.open(tmp_path / "large.jpg") as image:
        pixels = to_pixels(image, 32)
        assert image.size == (100, 80)  # 1/8: the smallest fraction that is no smaller than 2 x 32
    with Image.open(tmp_path / "large.jpg") as image:
        whole = image.convert("RGB").resize((32, 32), Image.Resampling.BICUBIC, box=(80, 0, 720, 640))
    assert abs(pixels.astype(int) - np.asarray(whole)).mean() < 3
