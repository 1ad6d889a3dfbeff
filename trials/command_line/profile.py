"""`profile`: shows what an architecture costs, and how fast it is here."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sret_nas.errors import UserError

from .exit_codes import EXIT_OK

if TYPE_CHECKING:
    from sret_nas.arch.config import ArchConfig


def add_command(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "profile",
        help="show the cost of a network, checked against fvcore, and its speed on this machine",
        usage="%(prog)s [options] FILE|PRESET",
        description="Show the cost of a network by part and operator, check it against fvcore, and measure its speed.",
    )
    parser.set_defaults(run=_run)
    parser.add_argument(
        "architecture", metavar="FILE|PRESET", help="a YAML file such as best.yaml, or a preset such as sret_t"
    )
    parser.add_argument("--no-check", action="store_true", help="do not build the network to compare with fvcore")
    parser.add_argument("--no-speed", action="store_true", help="do not measure speed")


def _run(given: argparse.Namespace) -> int:
    from rich.console import Console

    from ..report.profile import show_profile

    arch = _architecture(given.architecture)
    show_profile(arch, Console(), name=given.architecture, check=not given.no_check, speed=not given.no_speed)
    return EXIT_OK


def _architecture(name_or_file: str) -> ArchConfig:
    from sret_nas.arch.config import ArchConfig
    from sret_nas.arch.presets import preset

    path = Path(name_or_file)
    if path.is_dir():
        raise UserError(f"{path} is a folder: give a file, such as {path / 'best.yaml'}")
    if path.is_file() or path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        return ArchConfig.from_yaml(path)
    return preset(name_or_file)
