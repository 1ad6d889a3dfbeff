"""Image folders with classes and usual parts: how they are split, what is passed over, and what cannot be used."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sret_nas.errors import ConfigError, UserError
from tests.trials.data.shaded_images import SIZE, Write, fill, layout, run, shades
from trials.data import DataConfig, prepare


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
