"""`space`: shows a search space, and what of it lies inside a budget."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from trials.command_line.argument_types import seed, small_count
from trials.command_line.exit_codes import EXIT_OK
from trials.command_line.shared_options import add_budget


def add_command(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "space",
        help="show a search space: its dimensions, number of networks, and range of FLOPs and parameters",
        usage="%(prog)s [options] [NAME|FILE]",
        description="Show a search space: its dimensions, the exact number of networks in it and within the budget, "
        "where they lie in FLOPs and parameters, the cheapest, the most expensive, and samples.",
    )
    parser.set_defaults(run=_run)
    parser.add_argument(
        "space",
        nargs="?",
        default="sret_tiny",
        metavar="NAME|FILE",
        help="name of a shipped space, or a YAML file (default: sret_tiny)",
    )
    parser.add_argument(
        "--samples", type=small_count, default=5, metavar="N", help="networks to draw, up to 1000 (default: 5)"
    )
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="seed of the samples (default: 0)")
    parser.add_argument(
        "--picture",
        type=Path,
        metavar="FILE.png",
        help="also write the picture to this file, with the published networks marked",
    )
    add_budget(parser)


def _run(given: argparse.Namespace) -> int:
    from rich.console import Console

    from sret_nas.arch.budget import Budget
    from sret_nas.space.search_space import SearchSpace
    from trials.report.space import show_space

    budget = Budget(
        flops_max=given.flops_budget,
        params_max=given.params_budget,
        flops_min=given.flops_min,
        params_min=given.params_min,
    )
    space = SearchSpace.load(given.space)
    show_space(space, budget, Console(), samples=given.samples, seed=given.seed, picture=given.picture)
    return EXIT_OK
