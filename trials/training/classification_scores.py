"""Scores of a classifier, counted over batches: accuracy, cross-entropy, calibration, confusion. NumPy alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sret_nas.arrays import FloatArray, IntArray

from .error_intervals import balanced_deviation, error_interval

TOP = 5
"""Classes among which the true one counts as found, in the second accuracy."""

NUM_BINS = 15
"""Bins of equal width over the confidence, from 0 to 1 (Guo et al., On Calibration of Modern Neural Networks, 2017)."""

MAX_CONFUSION_CLASSES = 5_000
"""Classes up to which every pair is counted: 200 MB."""


@dataclass(frozen=True)
class CalibrationBin:
    """The images whose most probable class has a probability in a range."""

    low: float
    high: float
    images: int
    confidence: float | None
    """Mean probability of the most probable class; None without images."""
    accuracy: float | None


@dataclass(frozen=True)
class ClassificationScores:
    """Scores over some images."""

    images: int
    accuracy: float
    """Fraction of images whose most probable class is theirs (top-1)."""
    top5_accuracy: float | None
    """Fraction of images whose class is among the five most probable ones; None for five classes or fewer."""
    cross_entropy: float
    """Mean, in nats."""
    calibration_error: float
    """Expected calibration error: mean distance of confidence and accuracy in the bins, weighted by images."""
    bins: tuple[CalibrationBin, ...]

    @property
    def error(self) -> float:
        """Fraction of images whose most probable class is another one."""
        return round(self.images * (1 - self.accuracy)) / self.images

    @property
    def accuracy_interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy on new images."""
        low, high = error_interval(1 - self.accuracy, self.images)
        return 1 - high, 1 - low


class ScoreCounts:
    """Sums over images from which scores follow. Those of several processes add up."""

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self.sums: FloatArray = np.zeros(4 + 3 * NUM_BINS)
        """Images, those found, those found among the first five, cross-entropy; then of each bin: images, those found,
        and confidence."""

    @property
    def _bins(self) -> FloatArray:
        """A view of the sums of each bin: (3, bins)."""
        return self.sums[4:].reshape(3, NUM_BINS)

    def add(self, logits: npt.NDArray[np.floating], labels: IntArray) -> IntArray:
        """Counts a batch and returns the most probable classes (B,).

        Args:
            logits: (B, classes).
            labels: the true classes (B,).
        """
        with np.errstate(invalid="ignore"):  # a training that diverged has a score as well
            scores = logits.astype(np.float64)
            scores -= scores.max(axis=1, keepdims=True)
            log_probabilities = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
            confidence = np.exp(log_probabilities.max(axis=1))
            bins = np.clip(np.ceil(confidence * NUM_BINS).astype(np.int64) - 1, 0, NUM_BINS - 1)
        predicted: IntArray = log_probabilities.argmax(axis=1)
        of_label = log_probabilities[np.arange(len(labels)), labels]
        is_number = ~np.isnan(of_label)
        found = (predicted == labels) & is_number
        is_earlier = np.arange(self._classes) < labels[:, None]
        # Of equal ones the first is the most probable, as in `argmax`.
        before = (log_probabilities > of_label[:, None]) | ((log_probabilities == of_label[:, None]) & is_earlier)
        found_in_top = (before.sum(axis=1) < TOP) & is_number
        self.sums[:4] += len(labels), found.sum(), found_in_top.sum(), -of_label.sum()
        for sums, weights in zip(self._bins, (None, found, confidence), strict=True):
            sums += np.bincount(bins, weights=weights, minlength=NUM_BINS)
        return predicted

    def scores(self) -> ClassificationScores:
        """Returns the scores of all images so far, of which there is at least one."""
        images, found, found_in_top, cross_entropy = self.sums[:4].tolist()
        _, bin_found, bin_confidence = self._bins
        return ClassificationScores(
            images=round(images),
            accuracy=found / images,
            top5_accuracy=found_in_top / images if self._classes > TOP else None,
            cross_entropy=cross_entropy / images,
            calibration_error=float(np.abs(bin_confidence - bin_found).sum()) / images,
            bins=tuple(self._bin(index) for index in range(NUM_BINS)),
        )

    def _bin(self, index: int) -> CalibrationBin:
        images, found, confidence = self._bins[:, index].tolist()
        return CalibrationBin(
            low=index / NUM_BINS,
            high=(index + 1) / NUM_BINS,
            images=round(images),
            confidence=confidence / images if images else None,
            accuracy=found / images if images else None,
        )


@dataclass(frozen=True)
class ClassScore:
    """How well a class is recognised."""

    label: int
    images: int
    """Images of the class."""
    predicted: int
    """Images that were taken for the class."""
    found: int
    """Images of the class that were recognised."""
    taken_for: int | None
    """The other class that its images are most often taken for; None if they never are."""
    taken_for_images: int

    @property
    def recall(self) -> float | None:
        """Fraction of the class's images that were recognised; None if there are none."""
        return self.found / self.images if self.images else None

    @property
    def precision(self) -> float | None:
        """Fraction of the images taken for the class that are of it; None if there are none."""
        return self.found / self.predicted if self.predicted else None


def count_confusion(classes: int, labels: IntArray, predicted: IntArray) -> IntArray:
    """Returns the images of each true class (row) by the class that they were taken for: (classes, classes)."""
    counts: IntArray = np.bincount(labels * classes + predicted, minlength=classes * classes)
    return counts.reshape(classes, classes)


def balanced_accuracy(confusion: IntArray) -> float:
    """Returns the mean over classes that have images of the share that is recognised, from `count_confusion`."""
    images = confusion.sum(axis=1)
    return float((confusion.diagonal()[images > 0] / images[images > 0]).mean())


def balanced_accuracy_interval(confusion: IntArray) -> tuple[float, float]:
    """Returns the 95 % interval of the balanced accuracy on new images, by the normal approximation."""
    images, accuracy = confusion.sum(axis=1), balanced_accuracy(confusion)
    margin = 1.96 * balanced_deviation(images - confusion.diagonal(), images)
    return max(0.0, accuracy - margin), min(1.0, accuracy + margin)


def class_scores(confusion: IntArray) -> list[ClassScore]:
    """Returns the scores of all classes from the images of each true class (row) by predicted class."""
    found = confusion.diagonal()
    images, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    others = confusion - np.diag(found)
    worst = others.argmax(axis=1)
    scores = []
    for label, other in enumerate(worst):
        count = int(others[label, other])
        scores.append(
            ClassScore(
                label=label,
                images=int(images[label]),
                predicted=int(predicted[label]),
                found=int(found[label]),
                taken_for=int(other) if count else None,
                taken_for_images=count,
            )
        )
    return scores
