"""`supernet train`: trains one set of weights for all networks of a space inside a budget."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from sret_nas.errors import UserError
from trials.command_line import shared_options
from trials.command_line.argument_types import duration
from trials.command_line.exit_codes import EXIT_OK

if TYPE_CHECKING:
    from trials.distributed.launcher import RayPlacement

EXAMPLES = """\
examples:
  python cli.py supernet train --space sret_tiny --data path/to/images --time-budget 2h
  python cli.py supernet train --resume runs/2026-01-31-120000
  python cli.py supernet train --time-budget 2h --engine ray --ray-address auto --workers 8
  python cli.py supernet evaluate runs/2026-01-31-120000/supernet.safetensors smallest largest random:10
"""


def add_command(actions: Any) -> None:
    """Declares the command; `--help` shows its options in this order."""
    parser: argparse.ArgumentParser = actions.add_parser(
        "train",
        help="train a supernet",
        description="Trains one set of weights for all networks of a space inside a budget.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,  # the defaults are those of `SearchOptions` and `SupernetConfig`
        allow_abbrev=False,
    )
    parser.set_defaults(run=_run)
    shared_options.add_space(parser)
    shared_options.add_budget(parser)
    shared_options.add_target(parser)
    shared_options.add_data(parser)
    shared_options.add_proxy_size(parser.add_argument_group("proxies (what the space's networks are narrowed to)"))
    _add_training(parser)
    _add_networks_of_a_step(parser)
    _add_machine(parser)
    shared_options.add_output(parser, work="training", directory="directory", metavar="DIR")


def _add_training(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("training")
    shared_options.add_supernet_images(group, "--images", "train on")
    group.add_argument(
        "--time-budget", type=duration, metavar="TIME", help="such as 90s, 5m or 1.5h, instead: plans the images"
    )
    shared_options.add_optimisation(group)
    group.add_argument("--accumulate", type=int, metavar="N", help="parts a batch is run in; default: 1")
    group.add_argument("--precision", metavar="NAME", help="auto (bf16 on CUDA), fp32, bf16; default: auto")
    shared_options.add_seed(group)


def _add_networks_of_a_step(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("networks of a step")
    group.add_argument(
        "--rule", metavar="NAME",
        help="sandwich: the largest, the smallest and random ones; alternate: one of these in turn; single: a random "
        "one; default: single",
    )  # fmt: skip
    group.add_argument(
        "--random-networks", type=int, metavar="N", help="random ones in a step of the sandwich; default: 2"
    )
    group.add_argument(
        "--draws", metavar="NAME",
        help="balanced: spread over cost with all widths alike; stratified: spread evenly over log-FLOPs; uniform; "
        "default: balanced",
    )  # fmt: skip
    group.add_argument(
        "--no-distil", dest="distil", action="store_false", help="the others do not learn from the largest's labels"
    )
    group.add_argument(
        "--depth-schedule", metavar="NAME",
        help="recursion depths of random networks: full, joint, sandwich, random, growing; default: full",
    )  # fmt: skip


def _add_machine(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "machine (several processes: --engine ray, or torchrun --nproc_per_node N cli.py supernet ...)"
    )
    group.add_argument(
        "--engine", choices=("local", "ray"),
        help="what runs the training: this process, or processes that a Ray places, on this machine or a cluster; "
        "default: local",
    )  # fmt: skip
    shared_options.add_ray_address(group)
    group.add_argument(
        "--workers", type=int, metavar="N",
        help="processes of a Ray's, each with its share of every batch; default: as many as there are GPUs, or else "
        "machines",
    )  # fmt: skip
    group.add_argument(
        "--gpus-per-worker", type=int, metavar="G", help="0 or 1; default: 1 where a Ray has GPUs, unless on the CPU"
    )
    shared_options.add_threads(group, "CPU threads of a process; default: one per core, which a Ray's processes share")
    shared_options.add_device(group)


def _run(given: argparse.Namespace) -> int:
    from trials.console import SearchConsole
    from trials.interruption import handle_interruptions
    from trials.workflows.train_supernet import resume_training, start_training

    handle_interruptions()
    console = SearchConsole()
    placement = _placement(given)
    words = ("run", "out", "resume", "time_budget", "engine", *_OF_RAY)
    options = {name: value for name, value in vars(given).items() if name not in words}
    seconds = vars(given).get("time_budget")
    if "resume" not in given:
        start_training(options, vars(given).get("out"), seconds, console, placement)
        return EXIT_OK
    if "out" in given or seconds is not None:
        raise UserError(
            "a resumed training stays in its directory and keeps its plan: leave out --out and --time-budget"
        )
    resume_training(given.resume, options, console, placement)
    return EXIT_OK


_OF_RAY = ("ray_address", "workers", "gpus_per_worker")


def _placement(given: argparse.Namespace) -> RayPlacement | None:
    """What the options say of a Ray; None for a training here. Raises `UserError` if they do not go together."""
    from trials.distributed.launcher import RayPlacement

    address, processes, gpus = (vars(given).get(name) for name in _OF_RAY)
    if vars(given).get("engine", "local") == "local":
        for name in _OF_RAY:
            if name in given:
                raise UserError(f"--{name.replace('_', '-')} goes with --engine ray")
        return None
    if processes is not None and processes < 1:
        raise UserError(f"--workers must be at least 1, got {processes}")
    if gpus not in (None, 0, 1):
        raise UserError(f"--gpus-per-worker must be 0 or 1, since a process trains on one GPU, got {gpus}")
    return RayPlacement(address, processes, gpus)
