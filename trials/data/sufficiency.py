"""Says before any training when images are too few, or too unevenly spread over classes, to compare networks on."""

from __future__ import annotations

import numpy as np

from sret_nas.plurals import counted

from .prepared import PreparedData

MIN_VAL_IMAGES = 100
"""Validation images below which the standard error of an error rate can exceed five points."""

MIN_CLASS_IMAGES = 5
"""Training images of a class below which hardly anything can be learned of it."""

MAX_IMBALANCE = 10
"""Training images of the largest class over those of the smallest above which errors mostly count the largest."""


def data_warnings(data: PreparedData, *, balanced_error: bool = False) -> list[str]:
    """Returns a line for each reason why a search on these images says little.

    Args:
        balanced_error: Whether errors are means over classes.
    """
    lines = []
    num_val = data.val.balanced().effective_images if balanced_error else float(len(data.val))
    if num_val < MIN_VAL_IMAGES:
        images = counted(len(data.val), "validation image")
        if balanced_error and num_val < len(data.val):
            images += f", of classes that count alike as if they were {num_val:.0f},"
        lines.append(
            f"warning: {images} score a network to within {50 / num_val**0.5:.0f} points of error: "
            f"smaller differences are luck; {MIN_VAL_IMAGES} or more tell more"
        )
    counts = np.bincount(data.train.labels, minlength=data.num_classes)
    least, most = int(counts.argmin()), int(counts.argmax())
    smallest = f"{data.class_names[least]!r} has {counts[least]:,}"
    if counts[most] > MAX_IMBALANCE * counts[least] and not balanced_error:
        lines.append(
            f"warning: class {data.class_names[most]!r} has {counts[most]:,} training images and {smallest}: the error "
            "counts images, so a network may do well without the small class; --balanced-error counts classes alike"
        )
    elif counts[least] < MIN_CLASS_IMAGES:
        images = counted(int(counts[least]), "training image")
        lines.append(
            f"warning: class {data.class_names[least]!r} has {images}, from which hardly anything can be learned"
        )
    return lines
