"""`soft-labels`: lets a teacher label every epoch's augmented images once, for trainings without it."""

from __future__ import annotations

import argparse
from typing import Any

from sret_nas.errors import UserError

from ..machine import collector_paused
from ..program_name import program_name
from . import shared_options
from .argument_types import path
from .exit_codes import EXIT_OK
from .train import RECIPE_OPTIONS, add_teacher

EXAMPLES = """\
examples:
  {program} soft-labels make --teacher runs/teacher --data path/to/images --epochs 100 --out teacher.soft
  {program} train best.yaml --data path/to/images --epochs 100 --soft-labels teacher.soft
  {program} soft-labels make --for search --teacher runs/teacher --data path/to/images --out runs/teacher.soft
  {program} search --flops-budget 1G --data path/to/images --soft-labels runs/teacher.soft
"""

AFTER_THE_LABELS = ("repeated-augmentation", "mixup", "cutmix", "mix-probability", "mix-switch-probability", "mix-mode")
"""Options of a training's augmentation that change no view, so that one file serves all their values."""


def add_command(commands: Any) -> None:
    """Declares the command and its action."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "soft-labels",
        help="store what a teacher says of augmented images",
        description="Store what a teacher says of augmented images, so that trainings need no teacher.",
    )
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    _add_make(actions)


def _add_make(actions: Any) -> None:
    parser: argparse.ArgumentParser = actions.add_parser(
        "make",
        help="let a teacher label every epoch's augmented images",
        usage="%(prog)s [options] --teacher DIR|NAME --data DIR --out FILE",
        description="Let a teacher label the augmented images of every epoch, and keep its most probable classes. An "
        "interrupted command carries on when it is given again.",
        epilog=EXAMPLES.format(program=program_name()),
        formatter_class=shared_options.HelpFormatter,
        argument_default=argparse.SUPPRESS,  # the defaults are those of `SoftLabelOptions` and of the recipe's file
        allow_abbrev=False,
    )
    parser.set_defaults(run=_run)
    add_teacher(parser, stored=False)
    shared_options.add_skip_broken(shared_options.add_data(parser))
    group = parser.add_argument_group(
        "labels", "Images must be those of the training: same size and recipe. Its seed may differ."
    )
    group.add_argument(
        "--for", dest="made_for", metavar="NAME", choices=("train", "search"),
        help="whose images are labelled: train, whose recipe augments them, or search (and supernet train), which "
        "shifts and mirrors them (default: train)",
    )  # fmt: skip
    group.add_argument(
        "--epochs", type=int, metavar="N",
        help="epochs to label; a longer training uses them again (default with --for search: those of a supernet)",
    )  # fmt: skip
    shared_options.add_supernet_images(group, "--supernet-images", "train the supernet on, which say how many epochs")
    group.add_argument("--top", type=int, metavar="K", help="most probable classes to keep of an image (default: 10)")
    group.add_argument(
        "--image-size", type=int, metavar="PX",
        help="side of the input (default: the teacher's, or 40 with --for search)",
    )  # fmt: skip
    group.add_argument("--channels", type=int, metavar="N", help="1 (grey) or 3 (default: those of the data)")
    group.add_argument(
        "--recipe", metavar="NAME|FILE",
        help="imagenet, small, or a YAML file (default: imagenet from 128 px on, else small)",
    )  # fmt: skip
    group = parser.add_argument_group(
        "augmentation", "Values of the recipe that decide what the teacher sees, with --for train."
    )
    for title, options in RECIPE_OPTIONS:
        for name, parse, placeholder, text in options:
            if title == "augmentation" and name not in AFTER_THE_LABELS:
                group.add_argument(f"--{name}", type=parse, metavar=placeholder, help=text)
    group = parser.add_argument_group("machine")
    group.add_argument("--batch-size", type=int, metavar="N", help="images that the teacher sees at once (default: 64)")
    group.add_argument(
        "--data-workers", type=int, metavar="N",
        help="processes that read images, 0 for none (default: half the cores, at most 8)",
    )  # fmt: skip
    shared_options.add_threads(group, "CPU threads (default: one per core)")
    shared_options.add_device(group)
    shared_options.add_seed(group)
    group = parser.add_argument_group("output")
    group.add_argument("--out", type=path, metavar="FILE", help="file to write")
    shared_options.add_force(group)


def _run(given: argparse.Namespace) -> int:
    options = {name: value for name, value in vars(given).items() if name not in ("run", "out", "force")}
    for name in ("teacher",) if options.get("made_for") == "search" else ("teacher", "epochs"):
        if name not in options:
            raise UserError(f"soft-labels make needs --{name}")
    if "out" not in given:
        raise UserError("soft-labels make needs --out, the file to write")

    with collector_paused():
        from ..console import SearchConsole
        from ..interruption import handle_interruptions
        from ..workflows.make_soft_labels import make_soft_labels, parse_soft_labels

    handle_interruptions()
    make_soft_labels(*parse_soft_labels(options), given.out, vars(given).get("force", False), SearchConsole())
    return EXIT_OK
