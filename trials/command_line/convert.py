"""`convert`: makes model directories of checkpoints of the public code, and such checkpoints of model directories."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from sret_nas.errors import UserError

from ..machine import collector_paused
from ..program_name import program_name
from .argument_types import path
from .exit_codes import EXIT_OK
from .shared_options import HelpFormatter, add_force

EXAMPLES = """\
examples:
  {program} convert SReT_T.pth --to models/sret_t
  {program} convert SReT_T.pth --to models/sret_t --variant sret_t_unsliced
  {program} convert runs/train/best --to-public SReT_mine.pth
"""


def add_command(commands: Any) -> None:
    """Declares the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "convert",
        help="make a model directory of a checkpoint of the public SReT code, or the reverse",
        usage="%(prog)s FILE.pth --to DIR [options]\n       %(prog)s DIR --to-public FILE.pth [--force]",
        description="Make a model directory of a checkpoint of the public SReT code (github.com/szq0214/SReT), or "
        "write a model directory as such a checkpoint. Both are exact. No code in a checkpoint is run.",
        epilog=EXAMPLES.format(program=program_name()),
        formatter_class=HelpFormatter,
    )
    parser.set_defaults(run=_run)
    parser.add_argument("source", metavar="FILE|DIR", type=path, help="a checkpoint, or a model directory")
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--to", metavar="DIR", type=path, help="write a model directory, which must not exist yet")
    target.add_argument("--to-public", metavar="FILE", type=path, help="write a checkpoint for the public code")
    parser.add_argument(
        "--variant", metavar="PRESET|FILE",
        help="the network, as a preset such as sret_t_unsliced or a YAML file (default: recognised by the weights; how "
        "the attention is sliced, which they do not tell, by the file's arguments or as published)",
    )  # fmt: skip
    parser.add_argument(
        "--class-names", metavar="FILE", type=path,
        help="a text file with one class name per line, in the order of the logits (default: those that --to-public "
        "kept in the file, if any)",
    )  # fmt: skip
    add_force(parser)


def _run(given: argparse.Namespace) -> int:
    source: Path = given.source
    if given.to_public is not None:
        for option, value in (("--variant", given.variant), ("--class-names", given.class_names)):
            if value is not None:
                raise UserError(f"{option} belongs to --to; a model directory knows its network and its classes")
    elif source.is_dir():
        raise UserError(f"{source} is a folder: --to takes a checkpoint (.pth); --to-public takes a model directory")
    elif given.force:
        raise UserError("--force belongs to --to-public; a model directory is never written over another")

    with collector_paused():
        from ..console import Console
        from ..workflows.convert_checkpoint import convert_to_directory, convert_to_public

    if given.to_public is not None:
        convert_to_public(source, given.to_public, given.force, Console())
    else:
        convert_to_directory(source, given.to, given.variant, given.class_names, Console())
    return EXIT_OK
