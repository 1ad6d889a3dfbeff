"""`space`: shows a search space, its networks inside a budget, and the proven front of a score."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .argument_types import name_or_file, path, seed, small_count
from .exit_codes import EXIT_OK
from .shared_options import add_budget, add_force


def add_command(commands: Any) -> None:
    """Declares the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "space",
        help="show a search space: its dimensions, number of networks, and range of FLOPs and parameters",
        usage="%(prog)s [options] [NAME|FILE]",
        description="Show a search space: its dimensions, the exact number of networks in it and within the budget, "
        "where they lie in FLOPs and parameters, the cheapest, the most expensive, and samples; and, for a score that "
        "adds over choices, the proven Pareto front.",
    )
    parser.set_defaults(run=_run)
    parser.add_argument(
        "space",
        nargs="?",
        type=name_or_file,
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
        type=path,
        metavar="FILE.png",
        help="also write the picture to this file, with the published networks marked",
    )
    add_force(parser)
    add_budget(parser, "Counts, both ends and samples are those of the networks within it.")
    group = parser.add_argument_group(
        "proven front", "The non-dominated networks of a score of yours and a cost, inside the budget."
    )
    group.add_argument(
        "--front", type=path, metavar="SCORE.yaml",
        help="what each choice adds to the score, which is minimised (see docs/search-spaces.md)",
    )  # fmt: skip
    group.add_argument("--front-cost", choices=("flops", "params"), help="the cost to minimise too (default: flops)")
    group.add_argument("--front-out", type=path, metavar="FILE.yaml", help="also write the whole front as YAML")


def _run(given: argparse.Namespace) -> int:
    from rich.console import Console

    from sret_nas.arch.budget import Budget
    from sret_nas.errors import UserError
    from sret_nas.optimize.score_config import ScoreConfig
    from sret_nas.output_files import require_free
    from sret_nas.space.search_space import SearchSpace

    from ..report.proven_front import ProvenFront, check_front_path
    from ..report.space import show_space

    budget = Budget(
        flops_max=given.flops_budget,
        params_max=given.params_budget,
        flops_min=given.flops_min,
        params_min=given.params_min,
        shallowest_flops_max=given.shallowest_flops_budget,
    )
    space = SearchSpace.load(given.space)
    front, console = None, Console()
    for option, out in (("--picture", given.picture), ("--front-out", given.front_out)):
        if out is not None:
            reads = [Path(given.space), *([given.front] if given.front is not None else [])]
            require_free([out], reads=reads, force=given.force, option=option)
    if given.front is not None:
        if given.front_out is not None:
            check_front_path(given.front_out)
        score = ScoreConfig.load(given.front)
        front = ProvenFront(space, budget, score, str(given.front), given.front_cost or "flops")
    elif given.front_out is not None or given.front_cost is not None:
        option = "--front-cost" if given.front_out is None else "--front-out"
        raise UserError(f"{option} goes with --front SCORE.yaml, which says what each choice adds to a score")
    show_space(space, budget, console, samples=given.samples, seed=given.seed, picture=given.picture)
    if front is not None:
        front.show(console)
        if given.front_out is not None:
            front.write(given.front_out, console)
    return EXIT_OK
