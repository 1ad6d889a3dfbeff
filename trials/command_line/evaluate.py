"""`evaluate`: scores a trained network on images, at every recursion depth that it can run."""

from __future__ import annotations

import argparse
from typing import Any

from ..machine import collector_paused
from .argument_types import channel_deviations, channel_values, path, positive_count, recursions
from .exit_codes import EXIT_OK
from .shared_options import (
    add_checked_threads,
    add_data,
    add_device,
    add_force,
    add_parser,
    add_trained_network,
    options_of,
)

DESCRIPTION = """\
Score a trained network on images that it was not trained on: top-1 and top-5 accuracy, cross-entropy, calibration, \
and every class. A network can run with fewer recursions than it has: one file of weights has several operating \
points. The result is a table of depth, FLOPs, latency and accuracy.
"""

EXAMPLES = """\
examples:
  {program} evaluate runs/train --data path/to/images
  {program} evaluate model/ --data path/to/images --part val --json scores.json --out scores/
  {program} evaluate model/ --data path/to/images --recursions 2,1,1 --recursions 1
"""


def add_command(commands: Any) -> None:
    """Declares the command."""
    parser = add_parser(
        commands,
        "evaluate",
        usage="FILE|DIR",
        summary="score a trained network on images, at every recursion depth",
        description=DESCRIPTION,
        examples=EXAMPLES,
        run=_run,
    )
    add_trained_network(parser)
    add_data(parser)
    group = parser.add_argument_group("evaluation")
    group.add_argument(
        "--part", choices=("test", "val", "train", "all"),
        help="the images to evaluate on; all ignores the split (default: test)",
    )  # fmt: skip
    group.add_argument(
        "--depths", choices=("all", "equal", "full"),
        help="recursion depths: all combinations of the stages, equal ones in all stages, or the full depth alone "
        "(default: all, or equal if that makes more than 16)",
    )  # fmt: skip
    group.add_argument(
        "--recursions", type=recursions, action="append", metavar="N[,N...]",
        help="one depth instead: at most so many recursions in all stages, or in each, such as 2,1,1; may be repeated",
    )  # fmt: skip
    group.add_argument(
        "--mean", type=channel_values, metavar="X[,X...]",
        help="mean of each channel, for pixels scaled to [0, 1] (default: that of the training, if it is known, else "
        "of the training images)",
    )  # fmt: skip
    group.add_argument("--std", type=channel_deviations, metavar="X[,X...]", help="standard deviation of each channel")
    group.add_argument("--no-latency", action="store_true", help="do not measure latency")
    group = parser.add_argument_group("output")
    group.add_argument("--json", type=path, metavar="FILE", help="write all numbers as JSON")
    group.add_argument("--out", type=path, metavar="DIR", help="write tables (CSV) and pictures (PNG) to a new folder")
    add_force(group)
    group = parser.add_argument_group("resources")
    group.add_argument("--batch-size", type=positive_count, metavar="N", help="images at a time (default: 64)")
    add_checked_threads(group, "CPU threads (default: one per core)")
    add_device(group)


_DATA = ("data", "data_root", "max_train_images", "max_val_images", "max_test_images", "split_seed")


def _run(given: argparse.Namespace) -> int:
    with collector_paused():
        from rich.console import Console

        from sret_nas.errors import UserError

        from ..runs.option_groups import DataOptions
        from ..workflows.evaluate_network import EvaluationRequest, evaluate_network

    options = options_of(given)
    data = DataOptions.parse({name: options.pop(name) for name in _DATA if name in options}, "evaluate")
    if "recursions" in options:
        if "depths" in options:
            raise UserError("--recursions and --depths exclude each other: give one of them")
        options["recursions"] = tuple(options["recursions"])
    options["latency"] = not options.pop("no_latency", False)
    evaluate_network(EvaluationRequest(data=data, **options), Console())
    return EXIT_OK
