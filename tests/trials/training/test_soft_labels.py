"""The file of soft labels: rows are what was written, interrupted files are carried on, damage is noticed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sret_nas.errors import UserError
from trials.training.soft_labels import (
    HEADER_BYTES,
    Floats,
    SoftLabelHeader,
    SoftLabels,
    SoftLabelWriter,
    best_classes,
    fingerprints,
    spread,
)

VIEWS = {"seed": 0, "images (digest)": "abc", "crop scale": [0.5, 1.0]}


def header(**changes: Any) -> SoftLabelHeader:
    fields: dict[str, Any] = {
        "teacher": "a teacher", "teacher_digest": None, "temperature": 1.0, "classes": 6, "top": 3, "images": 5,
        "epochs": 2, "views": VIEWS, "versions": {"timm": "1"},
    }  # fmt: skip
    return SoftLabelHeader(**fields | changes)


def probabilities(rows: int, classes: int = 6, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).dirichlet(np.ones(classes) / 2, rows).astype(np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "labels.soft"


@pytest.fixture
def written(path: Path) -> tuple[Path, Floats]:
    """Returns a whole file, and the teacher's probabilities of all its rows."""
    taught = probabilities(10)
    with SoftLabelWriter(path, header()) as writer:
        writer.append(taught[:4], np.arange(4, dtype=np.float32))
        writer.append(taught[4:], np.arange(4, 10, dtype=np.float32))
        writer.finish()
    return path, taught


class TestFormat:
    def test_ten_classes_take_44_bytes(self, path: Path) -> None:
        assert header(classes=1000, top=10).row.itemsize == 44
        assert header(classes=1000, top=10, images=1_281_167, epochs=300).num_bytes == HEADER_BYTES + 44 * 384_350_100

    def test_every_row_is_what_the_teacher_said(self, written: tuple[Path, Floats]) -> None:
        path, taught = written
        labels = SoftLabels(path)
        epochs, indices = np.divmod(np.arange(10), 5)
        found = labels.targets(epochs, indices)
        assert found.shape == (10, 6)
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=2e-3)
        best = np.argsort(-taught, axis=1)[:, :3]
        np.testing.assert_allclose(
            np.take_along_axis(found, best, 1), np.take_along_axis(taught, best, 1), rtol=1e-3, atol=1e-6
        )
        assert path.stat().st_size == labels.header.num_bytes
        assert not list(path.parent.glob("*.unfinished"))

    def test_rows_are_read_in_any_order(self, written: tuple[Path, Floats]) -> None:
        labels = SoftLabels(written[0])
        epochs, indices = np.array([1, 0, 1]), np.array([4, 2, 0])
        together = labels.targets(epochs, indices)
        alone = [labels.targets(epochs[i : i + 1], indices[i : i + 1])[0] for i in range(3)]
        np.testing.assert_array_equal(together, np.stack(alone))

    def test_all_classes_are_kept_where_there_are_few(self, path: Path) -> None:
        taught = probabilities(10)
        with SoftLabelWriter(path, header(top=6)) as writer:
            writer.append(taught, np.zeros(10, np.float32))
            writer.finish()
        found = SoftLabels(path).targets(np.repeat([0, 1], 5), np.tile(np.arange(5), 2))
        np.testing.assert_allclose(found, taught, atol=1e-3)

    @settings(max_examples=30)
    @given(st.integers(2, 40), st.data())
    def test_dense_labels_sum_to_one_and_keep_the_order(self, classes: int, data: st.DataObject) -> None:
        top = data.draw(st.integers(1, classes))
        taught = probabilities(4, classes, data.draw(st.integers(0, 1000)))
        dense = spread(*best_classes(taught, top), classes)
        np.testing.assert_allclose(dense.sum(axis=1), 1, atol=1e-2)
        assert (dense >= 0).all()
        best = np.argsort(-taught, axis=1)[:, :top]
        kept = np.take_along_axis(dense, best, axis=1)
        np.testing.assert_allclose(kept, np.take_along_axis(taught, best, axis=1), rtol=2e-3, atol=1e-6)
        # Half precision can make neighbours equal. It never swaps them.
        assert (np.diff(kept, axis=1) <= 0).all()
        assert (kept[:, 0] == dense.max(axis=1)).all()


class TestWriter:
    def test_an_interrupted_file_is_carried_on(self, written: tuple[Path, Floats], tmp_path: Path) -> None:
        whole, taught = written
        path = tmp_path / "other.soft"
        with SoftLabelWriter(path, header()) as writer:
            writer.append(taught[:7], np.arange(7, dtype=np.float32))
        unfinished = tmp_path / "other.soft.unfinished"
        with unfinished.open("ab") as file:
            file.write(b"half a row")
        with SoftLabelWriter(path, header(versions={"timm": "2"})) as writer:
            assert writer.done == 7
            writer.append(taught[7:], np.arange(7, 10, dtype=np.float32))
            writer.finish()
        assert path.read_bytes() == whole.read_bytes()

    @pytest.mark.parametrize(("changes", "difference"), [
        ({"teacher": "another"}, "whose teacher is 'a teacher', not 'another'"),
        ({"temperature": 2.0}, "whose temperature is 1.0, not 2.0"),
        ({"views": VIEWS | {"seed": 1}}, "whose seed is 0, not 1"),
    ])  # fmt: skip
    def test_an_unfinished_file_of_other_labels_is_refused(
        self, path: Path, changes: dict[str, Any], difference: str
    ) -> None:
        SoftLabelWriter(path, header()).__exit__(None, None, None)
        with pytest.raises(UserError, match=f"holds other soft labels, {difference}"):
            SoftLabelWriter(path, header(**changes))

    @pytest.mark.parametrize("views", [{}, {"seed": "0"}, {"seed": True}, {"seed": -1}, {"seed": 2**64}])
    def test_views_without_a_seed_are_refused(self, views: dict[str, Any]) -> None:
        with pytest.raises(ValidationError, match="views must hold a seed, a whole number from 0 to"):
            header(views=views)

    def test_two_processes_do_not_write_one_file(self, path: Path) -> None:
        with SoftLabelWriter(path, header()), pytest.raises(UserError, match="another process is writing it"):
            SoftLabelWriter(path, header())

    def test_a_file_that_exists_is_not_written_over(self, written: tuple[Path, Floats]) -> None:
        with pytest.raises(UserError, match="exists already"):
            SoftLabelWriter(written[0], header())


class TestWrongInput:
    @pytest.mark.parametrize(("change", "message"), [
        (lambda content: content[:-1], "is cut short: it must have"),
        (lambda content: content + b"x", "is too long: it must have"),
        (lambda content: content[:100], "is cut short: it ends inside its header"),
        (lambda content: b"PK" + content[2:], "does not hold soft labels"),
        (lambda content: content.replace(b'"top": 3', b'"top": 7'), "top must be at most the number of classes, 6"),
        (lambda content: content.replace(b'"classes": 6', b'"classes": -'), "not valid JSON"),
    ])  # fmt: skip
    def test_damaged_files(self, written: tuple[Path, Floats], change: Any, message: str) -> None:
        path = written[0]
        path.write_bytes(change(path.read_bytes()))
        with pytest.raises(UserError, match=message):
            SoftLabels(path)

    def test_a_damaged_row_is_noticed_where_it_is_read(self, written: tuple[Path, Floats]) -> None:
        path = written[0]
        content = bytearray(path.read_bytes())
        content[HEADER_BYTES : HEADER_BYTES + 2] = (6).to_bytes(2, "little")
        path.write_bytes(content)
        labels = SoftLabels(path)
        labels.targets(np.array([1]), np.array([0]))
        with pytest.raises(UserError, match="is damaged: classes or probabilities are out of range"):
            labels.targets(np.array([0]), np.array([0]))

    def test_labels_of_other_views_are_refused_and_the_difference_named(self, written: tuple[Path, Floats]) -> None:
        labels = SoftLabels(written[0])
        labels.require_views(dict(VIEWS))
        for views, difference in (
            (VIEWS | {"seed": 3}, "whose seed is 0, not 3"),
            (VIEWS | {"crop scale": [0.1, 1.0]}, r"whose crop scale is \[0.5, 1.0\], not \[0.1, 1.0\]"),
            (VIEWS | {"more": 1}, "whose more is None, not 1"),
        ):
            with pytest.raises(UserError, match=f"of other images, {difference}"):
                labels.require_views(views)

    def test_other_images_are_noticed(self, path: Path) -> None:
        images = np.random.default_rng(0).normal(size=(10, 3, 8, 8)).astype(np.float32)
        with SoftLabelWriter(path, header()) as writer:
            writer.append(probabilities(10), fingerprints(images))
            writer.finish()
        labels = SoftLabels(path)
        epochs, indices = np.divmod(np.arange(10), 5)
        labels.require_images(epochs, indices, images + np.float32(1e-5))
        mirrored = images.copy()
        mirrored[7] = mirrored[7, :, :, ::-1]
        with pytest.raises(UserError, match="another image in epoch 1 at position 2"):
            labels.require_images(epochs, indices, mirrored)


class TestFingerprints:
    def test_they_tell_every_change_of_an_image(self) -> None:
        image = np.random.default_rng(0).normal(size=(1, 3, 32, 32)).astype(np.float32)
        plain = fingerprints(image)
        for other in (image[..., ::-1], image[:, :, ::-1], image[:, ::-1], image + 0.05, np.roll(image, 4, 3)):
            assert abs(fingerprints(other) - plain).item() > 2e-3


class TestTeachersThatFail:
    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_probabilities_that_are_not_finite_are_refused(self, path: Path, value: float) -> None:
        taught = probabilities(4)
        with SoftLabelWriter(path, header()) as writer:
            writer.append(taught[:2], np.zeros(2, np.float32))
            taught[3, 2] = value
            with pytest.raises(UserError, match=rf"^the teacher a teacher must give finite .* got {value}: ") as error:
                writer.append(taught[2:], np.zeros(2, np.float32))
            assert writer.done == 2
        assert "\n" not in str(error.value)
        assert not path.exists()
        with SoftLabelWriter(path, header()) as writer:
            assert writer.done == 2
