"""`export`: writes a trained network as ONNX, torch.export or OpenVINO."""

from __future__ import annotations

import argparse
from typing import Any

from ..machine import collector_paused
from .argument_types import path, positive_count
from .exit_codes import EXIT_OK
from .shared_options import (
    add_checked_threads,
    add_force,
    add_images_of_training,
    add_parser,
    add_recursions,
    add_trained_network,
    options_of,
)

DESCRIPTION = """\
Write a trained network in the formats that programs in production run. Each file is compared with the network before \
it is kept, and says how images are prepared and what the classes are called. A table shows latencies side by side."""

EXAMPLES = """\
examples:
  {program} export runs/2026-01-31-120000 --onnx model.onnx
  {program} export model/ --onnx model.onnx --torch-export model.pt2 --recursions 1
  {program} export model/ --onnx model-int8.onnx --int8 --data path/to/images
"""


def add_command(commands: Any) -> None:
    """Declares the command."""
    parser = add_parser(
        commands,
        "export",
        usage="FILE|DIR",
        summary="write a trained network as ONNX, torch.export or OpenVINO",
        description=DESCRIPTION,
        examples=EXAMPLES,
        run=_run,
    )
    add_trained_network(parser)
    group = parser.add_argument_group("what to write")
    group.add_argument("--onnx", type=path, metavar="FILE", help="an ONNX file (.onnx), with a free batch size")
    group.add_argument("--torch-export", type=path, metavar="FILE", help="a file of torch.export (.pt2)")
    group.add_argument("--openvino", type=path, metavar="DIR", help="a folder for an OpenVINO model")
    group.add_argument(
        "--int8", action="store_true",
        help="quantise the ONNX file to 8 bits on training images of --data, and say what it costs on its test images",
    )  # fmt: skip
    group.add_argument(
        "--opset", type=positive_count, metavar="N",
        help="version of ONNX's operators, from 18 to 25; from 23 on attention is one operator (default: 20)",
    )  # fmt: skip
    group.add_argument(
        "--with-preprocessing", action="store_true",
        help="let the files take images with 8 bits per channel (uint8) of the network's size, and standardise them; "
        "resizing and cropping stay outside",
    )  # fmt: skip
    add_recursions(group)
    add_force(group)
    group = parser.add_argument_group("images")
    add_images_of_training(group, "to compare on, and for class names, mean and deviation if the weights lack them")
    group.add_argument(
        "--images", type=positive_count, metavar="N", help="test images on which --int8 is scored (default: 1000)"
    )
    group = parser.add_argument_group("resources")
    add_checked_threads(group, "CPU threads of all latencies (default: 1)")


def _run(given: argparse.Namespace) -> int:
    with collector_paused():
        from rich.console import Console

        from ..workflows.export_network import export_network
        from ..workflows.export_request import ExportRequest

    options = options_of(given)
    export_network(ExportRequest(**options), Console())
    return EXIT_OK
