"""`runs`: lists, shows and compares searches, picks networks from them, and cleans up."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from .argument_types import path, quantity
from .exit_codes import EXIT_OK
from .shared_options import USAGE, add_force


def add_command(commands: Any) -> None:
    """Declares the command and its actions."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "runs",
        help="list, show and compare searches, pick networks from them, and clean up",
        description="Work with the run directories that searches wrote.",
    )
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    _add_list(actions)
    _add_show(actions)
    _add_compare(actions)
    _add_pick(actions)
    _add_report(actions)
    _add_rerun(actions)
    _add_clean(actions)


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON for programs instead of tables")


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", nargs="?", type=path, default=Path("runs"), metavar="DIR",
        help="folder of run directories (default: runs)",
    )  # fmt: skip


def _add_list(actions: Any) -> None:
    text = "list the searches in a folder, the latest first"
    parser = actions.add_parser("list", usage=f"{USAGE} [DIR]", help=text, description=f"{text[0].upper()}{text[1:]}.")
    _add_folder(parser)
    _add_json(parser)
    parser.set_defaults(run=_list)


def _add_show(actions: Any) -> None:
    text = "show the front of a search and what it recommends"
    parser = actions.add_parser("show", usage=f"{USAGE} RUN", help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.add_argument("directory", type=path, metavar="RUN", help="run directory")
    _add_json(parser)
    parser.set_defaults(run=_show)


def _add_compare(actions: Any) -> None:
    text = "compare the fronts of several searches, and their options"
    parser = actions.add_parser(
        "compare", usage=f"{USAGE} RUN RUN...", help=text, description=f"{text[0].upper()}{text[1:]}."
    )
    parser.add_argument("directories", nargs="+", type=path, metavar="RUN", help="run directories")
    parser.add_argument(
        "--cost", choices=("flops", "params"), default="flops", help="cost of the fronts (default: flops)"
    )
    _add_json(parser)
    parser.set_defaults(run=_compare)


def _add_pick(actions: Any) -> None:
    parser = actions.add_parser(
        "pick", usage=f"{USAGE} RUN",
        help="find the best structure at a cost, by the model of a search's trials",
        description="Find the network of the space whose structure is the best at a cost, by the model that is fitted "
        "to all trials of a search, and write it as YAML. It takes seconds and trains nothing.",
    )  # fmt: skip
    parser.add_argument("directory", type=path, metavar="RUN", help="run directory")
    parser.add_argument("--flops", type=quantity, metavar="N", help="maximum FLOPs, such as 600M")
    parser.add_argument("--params", type=quantity, metavar="N", help="maximum number of parameters")
    parser.add_argument("--out", type=path, metavar="FILE.yaml", help="file to write (default: only print)")
    add_force(parser)
    parser.set_defaults(run=_pick)


def _add_report(actions: Any) -> None:
    text = "write report.html of a search anew"
    parser = actions.add_parser("report", usage=f"{USAGE} RUN", help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.add_argument("directory", type=path, metavar="RUN", help="run directory")
    parser.add_argument("--open", action="store_true", help="open it in the browser")
    parser.set_defaults(run=_report)


def _add_rerun(actions: Any) -> None:
    parser = actions.add_parser(
        "rerun", usage=f"{USAGE} RUN --trial N",
        help="run one trial of a search again and compare its result",
        description="Run one trial of a search again, as it was run, and compare its result with the recorded one.",
    )  # fmt: skip
    parser.add_argument("directory", type=path, metavar="RUN", help="run directory")
    parser.add_argument("--trial", type=int, required=True, metavar="N", help="number of the trial")
    parser.set_defaults(run=_rerun)


def _add_clean(actions: Any) -> None:
    text = "show caches that no result depends on, and delete them after a question"
    parser = actions.add_parser("clean", usage=f"{USAGE} [DIR]", help=text, description=f"{text[0].upper()}{text[1:]}.")
    _add_folder(parser)
    parser.add_argument("--yes", action="store_true", help="delete without a question")
    parser.set_defaults(run=_clean)


def _list(given: argparse.Namespace) -> int:
    from rich.console import Console

    from ..workflows.runs import list_runs

    list_runs(given.folder, Console(), as_json=given.json)
    return EXIT_OK


def _show(given: argparse.Namespace) -> int:
    from rich.console import Console

    from ..workflows.runs import show_run

    show_run(given.directory, Console(), as_json=given.json)
    return EXIT_OK


def _compare(given: argparse.Namespace) -> int:
    from rich.console import Console

    from ..workflows.runs import compare_runs

    compare_runs(given.directories, given.cost, Console(), as_json=given.json)
    return EXIT_OK


def _pick(given: argparse.Namespace) -> int:
    from rich.console import Console

    from sret_nas.arch.budget import Budget
    from sret_nas.errors import UserError

    from ..workflows.runs import pick

    if given.flops is None and given.params is None:
        raise UserError("runs pick needs the cost that the network may have: give --flops, --params or both")
    pick(
        given.directory, Budget(flops_max=given.flops, params_max=given.params), given.out, Console(), force=given.force
    )
    return EXIT_OK


def _report(given: argparse.Namespace) -> int:
    from rich.console import Console

    from ..workflows.runs import report_run

    console = Console()
    path = report_run(given.directory, console)
    if given.open:
        from ..report.browser import open_in_browser

        open_in_browser(path, console)
    return EXIT_OK


def _rerun(given: argparse.Namespace) -> int:
    from rich.console import Console

    from ..search.rerun import rerun_trial

    rerun_trial(given.directory, given.trial, Console())
    return EXIT_OK


def _clean(given: argparse.Namespace) -> int:
    from rich.console import Console

    from ..workflows.runs import clean

    clean(given.folder, Console(), is_sure=given.yes, can_ask=sys.stdin.isatty())
    return EXIT_OK
