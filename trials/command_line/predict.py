"""`predict`: prints classes and probabilities of images."""

from __future__ import annotations

import argparse
from typing import Any

from ..machine import collector_paused
from .argument_types import path, positive_count
from .exit_codes import EXIT_OK
from .shared_options import (
    add_checked_threads,
    add_device,
    add_images_of_training,
    add_parser,
    add_recursions,
    options_of,
)

DESCRIPTION = """\
Print the most probable classes of images, by a trained network or by a file that `export` wrote. Images are resized, \
cropped and standardised as the network was trained."""

EXAMPLES = """\
examples:
  {program} predict runs/2026-01-31-120000 photo.jpg
  {program} predict model.onnx path/to/images --top 1 --json
"""


def add_command(commands: Any) -> None:
    """Declares the command."""
    parser = add_parser(
        commands,
        "predict",
        usage="MODEL IMAGE [IMAGE ...]",
        summary="print the classes of images",
        description=DESCRIPTION,
        examples=EXAMPLES,
        run=_run,
    )
    parser.add_argument(
        "model", type=path, metavar="MODEL",
        help="a model directory, the run of a training or a search, a result with its weights, or an exported model "
        "(.onnx, .pt2, a folder of --openvino)",
    )  # fmt: skip
    parser.add_argument("images", type=path, nargs="+", metavar="IMAGE", help="an image, or a folder of images")
    parser.add_argument("--top", type=positive_count, metavar="N", help="classes to print per image (default: 5)")
    parser.add_argument("--json", action="store_true", help="print a JSON object per image, one a line")
    add_recursions(parser)
    group = parser.add_argument_group("preparation of images", "Only for models that do not say it themselves.")
    add_images_of_training(group, "for class names, mean and deviation if the weights lack them")
    group = parser.add_argument_group("resources")
    add_device(group)
    add_checked_threads(group, "CPU threads (default: 1)")


def _run(given: argparse.Namespace) -> int:
    with collector_paused():
        from rich.console import Console

        from ..workflows.predict import PredictRequest, predict

    options = options_of(given)
    options["images"] = tuple(options["images"])
    predict(PredictRequest(**options), Console())
    return EXIT_OK
