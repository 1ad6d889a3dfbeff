"""`study`: runs a question about networks as a table of paired trainings, and lists and shows such studies."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from sret_nas.errors import UserError

from ..program_name import program_name
from . import shared_options
from .argument_types import duration, name_or_file
from .exit_codes import EXIT_FAILURE, EXIT_OK

EXAMPLES = """\
examples:
  {program} study list
  {program} study show loops
  {program} study run loops --data path/to/images --seeds 5 --out runs/loops
  {program} study run mine.yaml --data path/to/images --engine ray
  {program} study run --resume runs/loops
"""


def add_command(commands: Any) -> None:
    """Declares the command and its actions."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "study",
        help="ask one question of several variants of a network, on several seeds",
        description="Train several variants on equal seeds, and compare them with what is claimed of them.",
    )
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    _add_run(actions)
    text = "list the shipped studies"
    listed = actions.add_parser("list", help=text, description=f"{text[0].upper()}{text[1:]}.")
    listed.set_defaults(run=_list)
    text = "show what a study asks, or what a run of one found"
    shown = actions.add_parser(
        "show", usage=f"{shared_options.USAGE} NAME|FILE|RUN", help=text, description=f"{text[0].upper()}{text[1:]}."
    )
    shown.add_argument(
        "study", type=name_or_file, metavar="NAME|FILE|RUN", help="a shipped study, a YAML file, or a run directory"
    )
    shown.add_argument("--json", action="store_true", help="print JSON for programs instead of tables")
    shown.set_defaults(run=_show)


def _add_run(actions: Any) -> None:
    parser: argparse.ArgumentParser = actions.add_parser(
        "run",
        usage=f"{shared_options.USAGE} [--data DIR] NAME|FILE",
        help="run a study, or carry one on",
        description="Train every variant of a study on every seed, and write a table, a picture and a page.",
        epilog=EXAMPLES.format(program=program_name()),
        formatter_class=shared_options.HelpFormatter,
        argument_default=argparse.SUPPRESS,  # the defaults are those of `StudyOptions` and of the study's file
        allow_abbrev=False,
    )
    parser.set_defaults(run=_run)
    parser.add_argument(
        "study", type=name_or_file, metavar="NAME|FILE", nargs="?", help="a shipped study, or a YAML file"
    )
    shared_options.add_data(parser)
    group = parser.add_argument_group("length", "What differs from the study's file.")
    group.add_argument("--seeds", type=int, metavar="N", help="trainings of each variant (default: the study's)")
    group.add_argument("--epochs", type=int, metavar="N", help="length of every training (default: the study's)")
    shared_options.add_seed(group)
    group = parser.add_argument_group("machine")
    group.add_argument(
        "--engine", choices=("local", "ray"), help="local (processes on this machine) or ray (default: local)"
    )
    group.add_argument(
        "--workers", type=int, metavar="N",
        help="trainings at once; 0 trains in this process (default: one per core, at most 8)",
    )  # fmt: skip
    shared_options.add_threads(group, "CPU threads of a worker (default: 1)")
    shared_options.add_device(group)
    shared_options.add_ray_address(group)
    group.add_argument("--gpus-per-trial", type=float, metavar="X", help="GPUs that Ray reserves for each training")
    group.add_argument(
        "--trial-timeout", type=duration, metavar="TIME",
        help="maximum time of a training, such as 2h; with --workers 0 no limit holds (default: 20 times the expected "
        "time, at least 10m)",
    )  # fmt: skip
    shared_options.add_output(parser, work="study", directory="run directory", metavar="RUN")


def _run(given: argparse.Namespace) -> int:
    from ..console import SearchConsole
    from ..interruption import handle_interruptions
    from ..runs.directory import new_run_dir
    from ..runs.study_options import StudyOptions
    from ..studies.run import resume_study, start_study

    handle_interruptions()
    console = SearchConsole()
    options = {name: value for name, value in vars(given).items() if name not in ("run", "out", "resume")}
    if "resume" in given:
        if "out" in given:
            raise UserError("a resumed study stays in its directory: leave out --out")
        outcome = resume_study(Path(given.resume), options, console)
    else:
        if "study" not in given:
            raise UserError("name the study: a YAML file, one that `study list` shows, or --resume RUN")
        parsed = StudyOptions.parse(options, "study run")
        outcome = start_study(parsed, vars(given).get("out") or new_run_dir(), sys.argv, console)
    return EXIT_OK if outcome.num_finished == outcome.num_planned else EXIT_FAILURE


def _list(given: argparse.Namespace) -> int:
    from rich.console import Console

    from ..studies.show import list_studies

    list_studies(Console())
    return EXIT_OK


def _show(given: argparse.Namespace) -> int:
    from rich.console import Console

    from ..studies.show import show_study

    show_study(given.study, Console(), as_json=given.json)
    return EXIT_OK
