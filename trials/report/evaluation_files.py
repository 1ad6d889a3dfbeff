"""The files of an evaluation: JSON, tables as CSV, and pictures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from sret_nas.files import write_atomically
from sret_nas.output_files import new_folder

from ..console import Console
from ..training.classification_scores import NUM_BINS
from .drawing import warn_if_undrawn
from .evaluation import Evaluation, OperatingPoint
from .evaluation_pictures import calibration_picture, confusion_picture, depths_picture

DEPTHS_CSV, CLASSES_CSV, CONFUSION_CSV, JSON = "depths.csv", "classes.csv", "confusion.csv", "evaluation.json"
DEPTHS_PNG, CALIBRATION_PNG, CONFUSION_PNG = "depths.png", "calibration.png", "confusion.png"


def to_json(evaluation: Evaluation) -> str:
    """Returns everything that was measured as JSON; rates are fractions."""
    data: dict[str, Any] = {
        "network": evaluation.network,
        "arch_id": evaluation.arch_id,
        "part": evaluation.part,
        "origin": evaluation.origin,
        "images": evaluation.deepest.scores.images,
        "image_size": evaluation.image_size,
        "device": evaluation.device,
        "threads": evaluation.threads,
        **evaluation.details,
        "balanced_accuracy": evaluation.balanced_accuracy,
        "balanced_accuracy_interval_95": evaluation.balanced_accuracy_interval,
        "calibration_bins": NUM_BINS,
        "depths": [_point(point) for point in evaluation.points],
        "calibration": [asdict(one) for one in evaluation.deepest.scores.bins],
        "classes": [
            {
                "name": evaluation.class_names[one.label],
                "images": one.images,
                "predicted": one.predicted,
                "recall": one.recall,
                "precision": one.precision,
                "most_often_taken_for": None if one.taken_for is None else evaluation.class_names[one.taken_for],
                "most_often_taken_for_images": one.taken_for_images,
            }
            for one in evaluation.classes
        ],
    }
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def _point(point: OperatingPoint) -> dict[str, Any]:
    scores = point.scores
    return {
        "recursions": list(point.depth),
        "flops": point.flops,
        "params": point.params,
        "latency_ms": point.latency_ms,
        "top1_accuracy": scores.accuracy,
        "top1_interval_95": list(scores.accuracy_interval),
        "top5_accuracy": scores.top5_accuracy,
        "cross_entropy": scores.cross_entropy,
        "expected_calibration_error": scores.calibration_error,
    }


def write_evaluation(directory: Path, evaluation: Evaluation, console: Console) -> None:
    """Writes all files of an evaluation into a new directory, whole or not at all. Warns if pictures are left out.

    Raises `UserError` if the directory holds something.
    """
    with new_folder(directory) as folder:
        write_atomically(folder / JSON, to_json(evaluation))
        write_atomically(folder / DEPTHS_CSV, _depths_csv(evaluation))
        if evaluation.confusion is not None:
            write_atomically(folder / CLASSES_CSV, _classes_csv(evaluation))
            write_atomically(folder / CONFUSION_CSV, _confusion_csv(evaluation))
        with warn_if_undrawn(console, f"pictures in {directory}", "the tables are whole"):
            write_atomically(folder / DEPTHS_PNG, depths_picture(evaluation))
            write_atomically(folder / CALIBRATION_PNG, calibration_picture(evaluation))
            if evaluation.confusion is not None:
                write_atomically(folder / CONFUSION_PNG, confusion_picture(evaluation))


def _depths_csv(evaluation: Evaluation) -> str:
    rows = [_point(point) for point in evaluation.points]
    for row, point in zip(rows, evaluation.points, strict=True):
        row["recursions"] = point.name
    return _csv(list(rows[0]), (list(row.values()) for row in rows))


def _classes_csv(evaluation: Evaluation) -> str:
    names = evaluation.class_names
    return _csv(
        ["class", "images", "predicted", "recall", "precision", "most_often_taken_for", "images_taken_for_it"],
        (
            [
                *(names[one.label], one.images, one.predicted, one.recall, one.precision),
                *("" if one.taken_for is None else names[one.taken_for], one.taken_for_images),
            ]
            for one in evaluation.classes
        ),
    )


def _confusion_csv(evaluation: Evaluation) -> str:
    """Returns the pairs of classes that occurred, with their number of images."""
    assert evaluation.confusion is not None
    names = evaluation.class_names
    pairs = np.argwhere(evaluation.confusion)
    return _csv(
        ["class", "predicted", "images"],
        ([names[true], names[predicted], int(evaluation.confusion[true, predicted])] for true, predicted in pairs),
    )


def _csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
