"""`export`: writes a trained network as ONNX, torch.export or OpenVINO."""

from __future__ import annotations

import argparse
from typing import Any

from .argument_types import path, positive_count, threads
from .exit_codes import EXIT_OK
from .shared_options import USAGE, HelpFormatter, add_force, add_images_of_training, add_recursions

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
    from ..program_name import program_name

    parser: argparse.ArgumentParser = commands.add_parser(
        "export",
        help="write a trained network as ONNX, torch.export or OpenVINO",
        usage=f"{USAGE} FILE|DIR",
        description=DESCRIPTION,
        epilog=EXAMPLES.format(program=program_name()),
        formatter_class=HelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    parser.set_defaults(run=_run)
    parser.add_argument(
        "source", type=path, metavar="FILE|DIR",
        help="a model directory, the run of a training or a search, a result such as best.yaml with its weights, or a "
        "file of weights (.safetensors)",
    )  # fmt: skip
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
    add_recursions(group)
    add_force(group)
    group = parser.add_argument_group("images")
    add_images_of_training(group, "to compare on, and for class names, mean and deviation if the weights lack them")
    group.add_argument(
        "--images", type=positive_count, metavar="N", help="test images on which --int8 is scored (default: 1000)"
    )
    group = parser.add_argument_group("resources")
    group.add_argument("--threads", type=threads, metavar="N", help="CPU threads of all latencies (default: 1)")


def _run(given: argparse.Namespace) -> int:
    from rich.console import Console

    from ..workflows.export_network import ExportRequest, export_network

    options = {name: value for name, value in vars(given).items() if name != "run"}
    export_network(ExportRequest(**options), Console())
    return EXIT_OK
