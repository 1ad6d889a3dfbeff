"""`landscape`: draws the losses around trained networks."""

from __future__ import annotations

import argparse
from typing import Any

from sret_nas.errors import UserError

from ..program_name import program_name
from . import shared_options
from .argument_types import path
from .exit_codes import EXIT_OK

DESCRIPTION = """\
Draw the loss around trained networks, along filter-normalised random directions (Li et al., 2018), and measure how \
wide and how sharp the basins are. Networks that are named together are drawn with one scale.
"""

EXAMPLES = """\
examples:
  {program} landscape runs/train --data path/to/images
  {program} landscape runs/plain runs/recursive --data path/to/images --points 31 --pairs 5 --out runs/landscape
  {program} landscape runs/train --data path/to/images --surfaces 0 --loss plain
  {program} landscape --resume runs/landscape
"""


def add_command(commands: Any) -> None:
    """Declares the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "landscape",
        help="draw the losses around trained networks",
        usage=f"{shared_options.USAGE} [--data DIR] FILE|DIR ...",
        description=DESCRIPTION,
        epilog=EXAMPLES.format(program=program_name()),
        formatter_class=shared_options.HelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.set_defaults(run=_run)
    parser.add_argument(
        "sources", type=path, nargs="*", metavar="FILE|DIR",
        help="networks, as `evaluate` takes them: model directories, runs, results with their weights, or files of "
        "weights",
    )  # fmt: skip
    data = shared_options.add_data(parser)
    data.add_argument("--images", type=int, metavar="N", help="images of each loss (default: 1000)")
    data.add_argument(
        "--part", choices=("train", "val", "test"), help="the images of the plain loss (default: train)"
    )  # fmt: skip
    _add_points(parser)
    _add_engine(parser)
    shared_options.add_output(parser, work="landscape", directory="folder", metavar="DIR")


def _add_points(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("landscape")
    group.add_argument("--points", type=int, metavar="N", help="points of a line, an odd number (default: 21)")
    group.add_argument(
        "--span", type=float, metavar="X",
        help="distance of the outermost points from the network; 1 is the length of its weights (default: 1)",
    )  # fmt: skip
    group.add_argument(
        "--pairs", type=int, metavar="N",
        help="pairs of directions; their variation is stated, and each has two lines of points (default: 3)",
    )  # fmt: skip
    group.add_argument(
        "--surfaces", type=int, metavar="N",
        help="pairs of which the whole grid is computed; 0 computes lines alone (default: 1)",
    )  # fmt: skip
    group.add_argument(
        "--loss", choices=("plain", "training", "both"),
        help="plain (cross-entropy), training (on augmented images, with weight decay) or both (default: both)",
    )  # fmt: skip
    group.add_argument(
        "--recipe", metavar="NAME|FILE", help="recipe of the training's loss (default: that of each network)"
    )
    group.add_argument(
        "--stem-statistics", choices=("kept", "renewed"),
        help="BatchNorm statistics of the stem: those of the network, or computed anew at every point (default: kept)",
    )  # fmt: skip
    shared_options.add_recursions(group)
    shared_options.add_seed(group)


def _add_engine(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "engine", "A resumed landscape may change --engine, --ray-address, --workers and --gpus-per-trial."
    )
    group.add_argument(
        "--engine", choices=("local", "ray"),
        help="what computes points: local (processes on this machine) or ray (this machine or a cluster) "
        "(default: local)",
    )  # fmt: skip
    shared_options.add_ray_address(group)
    group.add_argument(
        "--workers", type=int, metavar="N",
        help="points at once; 0 computes them in this process (default: one per core, at most 8; on a cluster, as many "
        "as fit)",
    )  # fmt: skip
    group.add_argument(
        "--gpus-per-trial", type=float, metavar="X", help="GPUs that Ray reserves for a point (default: 0)"
    )
    group.add_argument("--batch-size", type=int, metavar="N", help="images at a time (default: 64)")
    shared_options.add_threads(group, "CPU threads per worker (default: 1)")
    shared_options.add_device(group)


def _run(given: argparse.Namespace) -> int:
    from ..console import SearchConsole
    from ..interruption import handle_interruptions
    from ..runs.directory import new_run_dir
    from ..runs.landscape_options import LandscapeOptions
    from ..worker.entry import JobRunner
    from ..workflows.landscape import resume_landscape, start_landscape

    handle_interruptions()
    console = SearchConsole()
    sources = vars(given).get("sources", [])
    options = shared_options.options_of(given, "out", "resume", "sources")
    if "resume" in given:
        if sources or "out" in given:
            raise UserError("a resumed landscape keeps its networks and its folder: give --resume and the engine alone")
        resume_landscape(given.resume, options, JobRunner(), console)
        return EXIT_OK
    if not sources:
        raise UserError("name the networks: model directories, runs, or files of weights; or --resume DIR")
    out = given.out if "out" in given else new_run_dir()
    start_landscape(LandscapeOptions.parse(options, "landscape"), sources, out, JobRunner(), console)
    return EXIT_OK
