"""`supernet`: the three things to do with one, each a command of its own."""

from __future__ import annotations

import argparse
from typing import Any

from . import supernet_train
from .supernet_subnets import add_evaluate_command, add_extract_command


def add_command(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "supernet",
        help="train a supernet, score its networks, or extract one",
        description="Train one set of weights for all networks of a space, score networks with it, or extract one.",
    )
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    supernet_train.add_command(actions)
    add_evaluate_command(actions)
    add_extract_command(actions)
