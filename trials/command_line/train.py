"""`train`: trains a network whole, or resumes a training."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from sret_nas.errors import UserError

from ..machine import collector_paused
from ..program_name import program_name
from . import shared_options
from .argument_types import name_or_file, number_or_none, true_or_false, two_numbers, word_or_none
from .config_file import add_config, with_config
from .exit_codes import EXIT_FAILURE, EXIT_OK
from .process_options import OF_PROCESSES, add_processes, placement_of

EXAMPLES = """\
examples:
  {program} train runs/2026-01-31-120000/best.yaml --data path/to/images --out runs/mine
  {program} train best.yaml --data path/to/images --supernet runs/2026-01-31-120000
  {program} train runs/mine --checkpoint runs/mine --image-size 384 --epochs 30 --data path/to/images
  {program} train best.yaml --data path/to/images --teacher runs/teacher
  {program} train --resume runs/mine
"""

RECIPE_OPTIONS: tuple[tuple[str, tuple[tuple[str, Callable[[str], object], str, str], ...]], ...] = (
    (
        "length and optimisation",
        (
            ("epochs", int, "N", "passes over the training images"),
            ("batch-size", int, "N", "images per step, of all processes together"),
            ("learning-rate", float, "X", "peak learning rate"),
            ("learning-rate-batch", number_or_none, "N|none", "batch that the rate is for; others scale it"),
            ("warmup-epochs", float, "X", "epochs over which the rate rises"),
            ("warmup-learning-rate", float, "X", "rate at the start"),
            ("min-learning-rate", float, "X", "rate at the end"),
            ("schedule", str, "NAME", "cosine, poly or constant"),
            ("optimizer", str, "NAME", "adamw, lamb, lion or sgd"),
            ("weight-decay", float, "X", "decay of matrices and filters"),
            ("clip-norm", number_or_none, "X|none", "largest norm of the gradient"),
            ("label-smoothing", float, "X", "share of a label spread over all classes"),
            ("gradient-accumulation", int, "N", "parts in which a batch is computed, to save memory"),
        ),
    ),
    (
        "network",
        (
            ("drop-path", number_or_none, "X|none", "stochastic depth; none takes the architecture's"),
            (
                "depth-schedule", word_or_none, "NAME|none",
                "recursion depths of a step: full, joint, sandwich, random or growing; none takes the search's",
            ),
            (
                "depth-distillation", true_or_false, "true|false",
                "whether the deepest pass of a step teaches the shallower ones (joint and sandwich)",
            ),
            ("ema-decay", number_or_none, "X|none", "decay of the average of weights that is kept"),
            ("ema-warmup", true_or_false, "true|false", "whether the decay rises from 0"),
        ),
    ),
    (
        "augmentation",
        (
            ("crop-scale", two_numbers, "X,X", "smallest and largest area of a crop"),
            ("crop-ratio", two_numbers, "X,X", "smallest and largest width of a crop over its height"),
            ("horizontal-flip", float, "P", "probability of mirroring, where an image keeps its class"),
            ("vertical-flip", float, "P", "probability of turning upside down, likewise"),
            ("color-jitter", float, "X", "strength of random brightness, contrast and saturation"),
            ("auto-augment", word_or_none, "NAME|none", "timm's policy, such as rand-m9-mstd0.5-inc1"),
            ("random-erasing", float, "P", "probability of erasing a rectangle"),
            ("erasing-mode", str, "NAME", "what it is filled with: const, rand or pixel"),
            ("repeated-augmentation", int, "N", "views of an image in an epoch"),
            ("mixup", float, "X", "alpha of mixup; 0 for none"),
            ("cutmix", float, "X", "alpha of CutMix; 0 for none"),
            ("mix-probability", float, "P", "probability of mixing a batch"),
            ("mix-switch-probability", float, "P", "probability of CutMix where both are on"),
            ("mix-mode", str, "NAME", "what shares one draw: batch, pair or elem"),
            ("interpolation", str, "NAME", "bicubic or bilinear"),
            ("normalization", str, "NAME", "mean and deviation of the images: imagenet or data"),
        ),
    ),
    (
        "evaluation and precision",
        (
            ("validate-every", int, "N", "epochs between two validations"),
            ("crop-fraction", float, "X", "side of the evaluated square over the image's shorter side"),
            ("recalibration-images", int, "N", "images for new BatchNorm statistics before an evaluation"),
            ("precision", str, "NAME", "auto (bf16 where there are instructions for it), fp32 or bf16"),
            ("channels-last", true_or_false, "true|false", "memory format of the images"),
            ("compile", true_or_false, "true|false", "whether to compile the passes with torch.compile"),
        ),
    ),
)  # fmt: skip
"""The recipe's values by group: option, parser, placeholder, help. The defaults are the recipe file's."""


def add_command(commands: Any) -> None:
    """Declares the command; `--help` shows its options in this order."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "train",
        help="train a network whole, on your images",
        usage="%(prog)s [options] [--data DIR] FILE|PRESET|DIR",
        description="Train a network whole, and write it as a directory that timm and the Hugging Face hub read.",
        epilog=EXAMPLES.format(program=program_name()),
        formatter_class=shared_options.HelpFormatter,
        argument_default=argparse.SUPPRESS,  # the defaults are those of `TrainOptions` and of the recipe's file
        allow_abbrev=False,
    )
    parser.set_defaults(run=_run)
    parser.add_argument(
        "architecture", type=name_or_file, metavar="FILE|PRESET|DIR", nargs="?",
        help="a YAML file such as best.yaml, a preset such as sret_t, or a trained network's directory",
    )  # fmt: skip
    shared_options.add_data(parser)
    _add_target(parser)
    _add_start(parser)
    add_teacher(parser, stored=True)
    group = parser.add_argument_group("recipe", "Every value of the recipe can be given as an option below.")
    group.add_argument(
        "--recipe", metavar="NAME|FILE",
        help="imagenet, small, or a YAML file (default: imagenet from 128 px on, else small)",
    )  # fmt: skip
    for title, options in RECIPE_OPTIONS:
        group = parser.add_argument_group(f"recipe: {title}")
        for name, parse, placeholder, text in options:
            group.add_argument(f"--{name}", type=parse, metavar=placeholder, help=text)
    _add_machine(parser)
    add_config(parser, shared_options.add_output(parser, work="training", directory="run directory", metavar="RUN"))


def _add_target(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("target", "What differs from the architecture's file.")
    group.add_argument("--image-size", type=int, metavar="PX", help="side of the input (default: the architecture's)")
    group.add_argument("--classes", type=int, metavar="N", help="number of classes (default: those of the data)")
    group.add_argument("--channels", type=int, metavar="N", help="1 (grey) or 3 (default: those of the data)")


def _add_start(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("first weights", "Without these options, new ones.")
    group.add_argument("--supernet", metavar="FILE|RUN", help="weights that a search's supernet has for the network")
    group.add_argument(
        "--checkpoint", metavar="FILE|DIR",
        help="a trained network of another image size, number of channels or classes: a directory that `train` wrote, "
        "or a .safetensors file",
    )  # fmt: skip


def add_teacher(parser: argparse.ArgumentParser, *, stored: bool) -> None:
    """Declares the options of a teacher, and those of stored soft labels where a command reads them."""
    text = "Without these options, labels are the images' classes." if stored else None
    group = parser.add_argument_group("soft labels", text)
    group.add_argument(
        "--teacher", metavar="DIR|NAME",
        help="a model directory, local-dir:DIR for a folder of timm's, or the name of a model of timm",
    )  # fmt: skip
    group.add_argument(
        "--teacher-checkpoint", metavar="FILE", help="weights of a model of timm (default: those on its hub)"
    )
    group.add_argument("--temperature", type=float, metavar="T", help="divides all logits (default: 1)")
    if stored:
        group.add_argument(
            "--soft-labels", metavar="FILE|DIR",
            help="labels that `soft-labels make` wrote, or a folder of FKD's files, in place of a teacher",
        )  # fmt: skip


def _add_machine(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "machine",
        "For several processes use --engine ray, or `torchrun --nproc-per-node N -m sret_nas train ...`. On a "
        "cluster, images and labels must lie at the same path on every machine.",
    )
    add_processes(group)
    group.add_argument(
        "--data-workers", type=int, metavar="N",
        help="processes that read images, 0 for none (default: half the cores, at most 8)",
    )  # fmt: skip
    shared_options.add_threads(group, "CPU threads (default: one per core, shared by the processes of a machine)")
    shared_options.add_device(group)
    shared_options.add_seed(group)


def _run(given: argparse.Namespace) -> int:
    with collector_paused():
        from ..console import SearchConsole
        from ..interruption import handle_interruptions
        from ..training.recipe import DivergedError
        from ..workflows.train_network import parse_train, resume_training, start_training

    of_file = frozenset(vars(given).get("config", ())) - vars(given).keys()
    given = with_config(given)
    handle_interruptions()
    console = SearchConsole()
    placement = placement_of(given)
    options = shared_options.options_of(given, "out", "resume", *OF_PROCESSES)
    try:
        if "resume" in given:
            if "out" in given:
                raise UserError("a resumed training stays in its directory: leave out --out")
            resume_training(given.resume, options, console, placement)
            return EXIT_OK
        if "architecture" not in given:
            raise UserError("name the network to train: a YAML file, a preset such as sret_t, or --resume RUN")
        start_training(*parse_train(options), vars(given).get("out"), console, placement, of_file)
    except DivergedError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILURE
    return EXIT_OK
