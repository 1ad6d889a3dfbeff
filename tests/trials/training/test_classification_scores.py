"""Scores of a classifier, against torch and against values computed by hand."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from trials.training.classification_scores import (
    NUM_BINS,
    ScoreCounts,
    balanced_accuracy,
    balanced_accuracy_interval,
    class_scores,
    count_confusion,
)


def random_batch(images: int = 200, classes: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.normal(scale=2, size=(images, classes)).astype(np.float32), generator.integers(0, classes, images)


class TestScoreCounts:
    def test_accuracies_and_cross_entropy_are_those_of_torch(self) -> None:
        logits, labels = random_batch()
        counts = ScoreCounts(12)
        predicted = counts.add(logits, labels)
        scores = counts.scores()
        tensor, true = torch.from_numpy(logits), torch.from_numpy(labels)
        in_top = (tensor.topk(5).indices == true[:, None]).any(dim=1).double().mean().item()
        assert scores.accuracy == (tensor.argmax(dim=1) == true).double().mean().item()
        assert scores.top5_accuracy == in_top
        assert scores.cross_entropy == pytest.approx(torch.nn.functional.cross_entropy(tensor.double(), true).item())
        assert predicted.tolist() == tensor.argmax(dim=1).tolist()

    def test_batches_add_up(self) -> None:
        logits, labels = random_batch()
        whole, parts = ScoreCounts(12), ScoreCounts(12)
        whole.add(logits, labels)
        for start in range(0, len(labels), 33):
            parts.add(logits[start : start + 33], labels[start : start + 33])
        assert parts.scores().accuracy == whole.scores().accuracy
        assert parts.scores().cross_entropy == pytest.approx(whole.scores().cross_entropy)
        assert parts.scores().calibration_error == pytest.approx(whole.scores().calibration_error)

    def test_sums_of_several_processes_add_up(self) -> None:
        logits, labels = random_batch()
        whole, first, second = ScoreCounts(12), ScoreCounts(12), ScoreCounts(12)
        whole.add(logits, labels)
        first.add(logits[:77], labels[:77])
        second.add(logits[77:], labels[77:])
        first.sums += second.sums
        assert first.scores().error == whole.scores().error == 1 - whole.scores().accuracy
        assert first.scores().calibration_error == pytest.approx(whole.scores().calibration_error)
        assert first.scores().images == 200

    def test_logits_that_are_not_finite_have_a_score_without_a_warning(self) -> None:
        counts = ScoreCounts(2)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            counts.add(np.array([[np.nan, np.nan], [np.inf, 0]]), np.array([0, 1]))
        assert np.isnan(counts.scores().cross_entropy)

    def test_of_classes_as_probable_as_the_true_one_the_earlier_ones_stand_before_it(self) -> None:
        """So a network that tells nothing apart finds the first five, and one that computes no numbers finds none."""
        labels = np.arange(12)
        equal, undefined = ScoreCounts(12), ScoreCounts(12)
        equal.add(np.zeros((12, 12)), labels)
        assert equal.scores().top5_accuracy == 5 / 12
        assert equal.scores().accuracy == 1 / 12
        undefined.add(np.full((12, 12), np.nan), labels)
        assert undefined.scores().top5_accuracy == undefined.scores().accuracy == 0

    def test_calibration_error_by_hand(self) -> None:
        """Two bins: three images of confidence 0.9, two of them right; one of confidence 0.6, wrong."""
        confident, doubtful = np.log([0.9, 0.1]), np.log([0.6, 0.4])
        counts = ScoreCounts(2)
        counts.add(np.stack([confident, confident, confident, doubtful]), np.array([0, 0, 1, 1]))
        scores = counts.scores()
        assert scores.calibration_error == pytest.approx((3 * (0.9 - 2 / 3) + 1 * (0.6 - 0)) / 4)
        filled = {one.images: one for one in scores.bins if one.images}
        assert filled[3].low < 0.9 <= filled[3].high
        assert (filled[3].confidence, filled[3].accuracy) == (pytest.approx(0.9), pytest.approx(2 / 3))
        assert len(scores.bins) == NUM_BINS
        assert scores.top5_accuracy is None, "with two classes it means nothing"

    def test_certainty_is_in_the_last_bin(self) -> None:
        counts = ScoreCounts(2)
        counts.add(np.array([[1000.0, -1000.0]]), np.array([0]))
        assert counts.scores().bins[-1].images == 1
        assert counts.scores().cross_entropy == 0

    def test_the_interval_is_that_of_a_proportion(self) -> None:
        counts = ScoreCounts(2)
        counts.add(np.array([[1.0, 0.0]] * 100), np.array([0] * 90 + [1] * 10))
        low, high = counts.scores().accuracy_interval
        assert (low, high) == pytest.approx((0.9 - 1.96 * 0.03, 0.9 + 1.96 * 0.03), abs=0.015)


class TestClasses:
    def test_confusion_counts_every_pair(self) -> None:
        confusion = count_confusion(3, np.array([0, 0, 0, 1, 2]), np.array([0, 1, 1, 1, 0]))
        assert confusion.tolist() == [[1, 2, 0], [0, 1, 0], [1, 0, 0]]

    def test_balanced_accuracy_is_the_mean_over_classes_with_images(self) -> None:
        assert balanced_accuracy(np.array([[1, 3, 0], [0, 10, 0], [0, 0, 0]])) == (1 / 4 + 1) / 2

    def test_the_balanced_accuracy_is_less_certain_than_its_images_suggest(self) -> None:
        """Of 10 images of one class, 5 are found; of 1,000 of the other, 900: the first alone leave it open."""
        low, high = balanced_accuracy_interval(np.array([[5, 5], [100, 900]]))
        assert (low + high) / 2 == pytest.approx(0.7)
        assert (high - low) / 2 == pytest.approx(1.96 * (0.25 / 10 + 0.09 / 1000) ** 0.5 / 2, rel=0.01)

    def test_scores_of_classes_by_hand(self) -> None:
        first, second, third, fourth = class_scores(np.array([[1, 2, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0] * 4]))
        assert (first.recall, first.precision, first.taken_for, first.taken_for_images) == (1 / 3, 1 / 2, 1, 2)
        assert (second.recall, second.precision, second.taken_for) == (1, 1 / 3, None)
        assert (third.recall, third.precision, third.taken_for) == (0, None, 0)
        assert (fourth.recall, fourth.images) == (None, 0)
