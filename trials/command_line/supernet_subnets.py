"""`supernet evaluate` and `supernet extract`: score networks of a trained supernet, or write one of them."""

from __future__ import annotations

import argparse
from typing import Any

from ..machine import collector_paused
from .argument_types import name_or_file, path, seed, threads
from .exit_codes import EXIT_OK
from .shared_options import add_device, add_force


def add_evaluate_command(actions: Any) -> None:
    """Declares `supernet evaluate`."""
    parser: argparse.ArgumentParser = actions.add_parser(
        "evaluate",
        help="score networks with the weights they inherit",
        usage="%(prog)s [options] FILE NETWORK [NETWORK ...]",
        description="Score networks on the validation images with the weights they inherit from a supernet.",
        argument_default=argparse.SUPPRESS,
    )
    parser.set_defaults(run=_evaluate)
    _add_file(parser)
    parser.add_argument(
        "networks",
        type=name_or_file,
        nargs="+",
        metavar="NETWORK",
        help="a YAML file, a preset, smallest, largest, random or random:N",
    )
    parser.add_argument("--seed", type=seed, metavar="N", help="seed of random networks (default: 0)")
    _add_scoring(parser)


def add_extract_command(actions: Any) -> None:
    """Declares `supernet extract`."""
    parser: argparse.ArgumentParser = actions.add_parser(
        "extract",
        help="write one network and the weights it inherits",
        usage="%(prog)s [options] --out NAME.yaml FILE NETWORK",
        description="Write the proxy of one network as YAML, and the weights it inherits as safetensors beside it.",
        argument_default=argparse.SUPPRESS,
    )
    parser.set_defaults(run=_extract)
    _add_file(parser)
    parser.add_argument(
        "network", type=name_or_file, metavar="NETWORK", help="a YAML file, a preset, smallest or largest"
    )
    parser.add_argument(
        "--out",
        type=path,
        required=True,
        metavar="NAME.yaml",
        help="YAML file to write; the weights go to NAME.safetensors",
    )
    add_force(parser)
    _add_scoring(parser)


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "supernet",
        type=path,
        metavar="FILE",
        help="a trained supernet: supernet.safetensors, or the directory it is in",
    )


def _add_scoring(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", metavar="DIR", help="where the images are now (default: where they were in training)")
    parser.add_argument("--threads", type=threads, metavar="N", help="CPU threads (default: 1)")
    add_device(parser)


def _evaluate(given: argparse.Namespace) -> int:
    with collector_paused():
        from rich.console import Console

        from ..runs.directory import supernet_file
        from ..workflows.subnets import show_subnets

    show_subnets(
        supernet_file(given.supernet),
        given.networks,
        **_scoring(given),
        seed=vars(given).get("seed", 0),
        console=Console(),
    )
    return EXIT_OK


def _extract(given: argparse.Namespace) -> int:
    with collector_paused():
        from rich.console import Console

        from ..runs.directory import supernet_file
        from ..workflows.subnets import extract_subnet

    force = vars(given).get("force", False)
    extract_subnet(
        supernet_file(given.supernet), given.network, given.out, **_scoring(given), console=Console(), force=force
    )
    return EXIT_OK


def _scoring(given: argparse.Namespace) -> dict[str, Any]:
    """Returns the arguments that say on which images and which device networks are scored."""
    options = vars(given)
    return {
        "data": {"source": options["data"]} if "data" in options else {},
        "device": options.get("device", "auto"),
        "threads": options.get("threads", 1),
    }
