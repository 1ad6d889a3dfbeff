"""`supernet train`: trains one set of weights for all networks of a space within a budget."""

from __future__ import annotations

import argparse
from typing import Any

from sret_nas.errors import UserError

from ..machine import collector_paused
from ..program_name import program_name
from . import shared_options
from .argument_types import duration
from .exit_codes import EXIT_OK
from .process_options import OF_PROCESSES, add_processes, placement_of
from .renamed import add_renamed

EXAMPLES = """\
examples:
  {program} supernet train --space sret_tiny --data path/to/images --time-budget 2h
  {program} supernet train --resume runs/2026-01-31-120000
  {program} supernet train --time-budget 2h --engine ray --ray-address auto --workers 8
  {program} supernet evaluate runs/2026-01-31-120000/supernet.safetensors smallest largest random:10
"""


def add_command(actions: Any) -> None:
    """Declares the command; `--help` shows its options in this order."""
    parser: argparse.ArgumentParser = actions.add_parser(
        "train",
        help="train a supernet",
        usage=shared_options.USAGE,
        description="Train one set of weights for all networks of a search space within a budget.",
        epilog=EXAMPLES.format(program=program_name()),
        formatter_class=shared_options.HelpFormatter,
        argument_default=argparse.SUPPRESS,  # the defaults are those of `SupernetTrainOptions` and `SupernetConfig`
        allow_abbrev=False,
    )
    parser.set_defaults(run=_run)
    shared_options.add_space(parser)
    shared_options.add_budget(parser)
    shared_options.add_target(parser)
    shared_options.add_skip_broken(shared_options.add_data(parser))
    shared_options.add_stored_labels(parser)
    shared_options.add_proxy_size(
        parser.add_argument_group("proxy", "The smaller networks that are trained in place of their targets.")
    )
    _add_training(parser)
    _add_networks_of_a_step(parser)
    _add_machine(parser)
    shared_options.add_output(parser, work="training", directory="directory", metavar="DIR")


def _add_training(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("training")
    shared_options.add_supernet_images(group, "--images", "train on")
    group.add_argument(
        "--time-budget", type=duration, metavar="TIME",
        help="train on as many images as fit into this time, such as 90s, 5m or 1h30m",
    )  # fmt: skip
    shared_options.add_optimisation(group)
    add_renamed(
        group, "--gradient-accumulation", "--accumulate", dest="gradient_accumulation", type=int, metavar="N",
        help="parts in which a batch is computed, to save memory (default: 1)",
    )  # fmt: skip
    shared_options.add_precision(group)
    shared_options.add_seed(group)


def _add_networks_of_a_step(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("networks of a step")
    add_renamed(
        group, "--step-rule", "--rule", dest="step_rule", metavar="NAME",
        help="which networks a step trains: single (one random network), sandwich (the largest, the smallest and "
        "random ones) or alternate (one of these in turn) (default: single)",
    )  # fmt: skip
    group.add_argument(
        "--random-networks", type=int, metavar="N", help="random networks in a step of the sandwich (default: 2)"
    )
    add_renamed(
        group, "--subnet-sampling", "--draws", dest="subnet_sampling", metavar="NAME",
        help="how random networks are drawn: balanced (spread over cost, all widths and variants equally often), "
        "stratified (spread evenly over log-FLOPs) or uniform (default: balanced)",
    )  # fmt: skip
    group.add_argument(
        "--no-distil", dest="distil", action="store_false",
        help="train the other networks of a sandwich on the true labels, not on the predictions of the largest",
    )  # fmt: skip
    group.add_argument(
        "--depth-schedule", metavar="NAME",
        help="recursion depths of random networks: full, joint, sandwich, random or growing (default: full)",
    )  # fmt: skip
    group.add_argument(
        "--depth-distillation", action="store_true",
        help="train the shallower passes of a random network on the predictions of its deepest one (with "
        "--depth-schedule joint or sandwich)",
    )  # fmt: skip


def _add_machine(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "machine",
        "For several processes use --engine ray, or `torchrun --nproc-per-node N -m sret_nas supernet train ...`.",
    )
    add_processes(group)
    shared_options.add_threads(
        group, "CPU threads per process (default: one per core, shared by the processes of a machine)"
    )
    shared_options.add_device(group)


def _run(given: argparse.Namespace) -> int:
    with collector_paused():
        from ..console import SearchConsole
        from ..interruption import handle_interruptions
        from ..workflows.train_supernet import parse_training, resume_training, start_training

    handle_interruptions()
    console = SearchConsole()
    placement = placement_of(given)
    options = shared_options.options_of(given, "out", "resume", "time_budget", *OF_PROCESSES)
    seconds = vars(given).get("time_budget")
    if "resume" not in given:
        start_training(*parse_training(options), vars(given).get("out"), seconds, console, placement)
        return EXIT_OK
    if "out" in given or seconds is not None:
        raise UserError(
            "a resumed training stays in its directory and keeps its plan: leave out --out and --time-budget"
        )
    resume_training(given.resume, options, console, placement)
    return EXIT_OK
