"""`profile`: shows the cost of an architecture and its speed on this machine."""

from __future__ import annotations

import argparse
from typing import Any

from .argument_types import name_or_file
from .exit_codes import EXIT_OK


def add_command(commands: Any) -> None:
    """Declares the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "profile",
        help="show the cost of a network, checked against fvcore, and its speed on this machine",
        usage="%(prog)s [options] FILE|PRESET",
        description="Show the cost of a network by part and operator, check it against fvcore, and measure its speed.",
    )
    parser.set_defaults(run=_run)
    parser.add_argument(
        "architecture",
        type=name_or_file,
        metavar="FILE|PRESET",
        help="a YAML file such as best.yaml, or a preset such as sret_t",
    )
    parser.add_argument("--no-check", action="store_true", help="do not build the network to compare with fvcore")
    parser.add_argument("--no-speed", action="store_true", help="do not measure speed")


def _run(given: argparse.Namespace) -> int:
    from rich.console import Console

    from ..report.profile import show_profile
    from ..workflows.named_network import named_architecture

    arch = named_architecture(given.architecture)
    show_profile(arch, Console(), name=given.architecture, check=not given.no_check, speed=not given.no_speed)
    return EXIT_OK
