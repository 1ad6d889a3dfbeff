"""Declares the options that several commands share, each once; some functions take the words that differ.

Options are named as the fields of the groups in `trials.runs.option_groups`, which define the defaults.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable
from typing import Any

from ..program_name import program_name
from .argument_types import channel_deviations, channel_values, new_run, path, quantity, recursions, seed, threads
from .renamed import add_renamed

USAGE = "%(prog)s [options]"
"""One line of usage instead of dozens of options in brackets."""


class HelpFormatter(argparse.HelpFormatter):
    """Wraps text as argparse does, but never inside a word such as `--out`, and never in examples."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith("examples:"):
            return text
        lines = self._split_lines(text, width - len(indent))
        return "\n".join(indent + line for line in lines)


def add_space(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("search space")
    group.add_argument(
        "--space", metavar="NAME|FILE", help="name of a shipped space, or a YAML file (default: sret_tiny)"
    )


def add_budget(parser: argparse.ArgumentParser, effect: str = "A network outside the budget is never trained.") -> None:
    """Declares the bounds of costs; `effect` is a sentence that says what they do."""
    group = parser.add_argument_group("budget", f"Numbers such as 1G, 4.8M, 600K or 1.1e9. {effect}")
    group.add_argument("--flops-budget", type=quantity, metavar="N", help="maximum FLOPs (multiply-adds for one image)")
    group.add_argument("--params-budget", type=quantity, metavar="N", help="maximum number of parameters")
    group.add_argument("--flops-min", type=quantity, metavar="N", help="minimum FLOPs")
    group.add_argument("--params-min", type=quantity, metavar="N", help="minimum number of parameters")
    group.add_argument(
        "--shallowest-flops-budget", type=quantity, metavar="N",
        help="maximum FLOPs at the shallowest recursion depth, at which one file of weights runs with every block "
        "applied once",
    )  # fmt: skip


def add_target(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("target", "The network whose FLOPs and parameters are counted.")
    group.add_argument(
        "--target-image-size", type=int, metavar="PX", help="side of the input (default: the space's, usually 224)"
    )
    group.add_argument(
        "--target-classes", type=int, metavar="N",
        help="number of classes (default: as the space's file says, else as many as the images have)",
    )  # fmt: skip
    group.add_argument(
        "--target-channels", type=int, metavar="N",
        help="channels of the input, 1 for grey and 3 for colour (default: as the space's file says, else as the "
        "images have)",
    )  # fmt: skip


def add_data(parser: argparse.ArgumentParser) -> Any:
    """Declares which images are used, and returns the group for further options."""
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data", metavar="DIR|NAME",
        help="an image folder, or a torchvision dataset by name, together with --data-root (default: digits, which "
        "scikit-learn ships)",
    )  # fmt: skip
    group.add_argument("--data-root", metavar="DIR", help="folder that holds the torchvision dataset")
    for part, name in (("train", "training"), ("val", "validation"), ("test", "test")):
        add_renamed(
            group, f"--max-{part}-images", f"--max-{part}", dest=f"max_{part}_images", type=int, metavar="N",
            help=f"use at most N {name} images (default: all)",
        )  # fmt: skip
    group.add_argument(
        "--split-seed", type=int, metavar="N", help="seed of the split into training, validation and test (default: 0)"
    )
    return group


def add_skip_broken(group: Any) -> None:
    """Declares `--skip-broken`, for commands that decode all images before they use any."""
    group.add_argument(
        "--skip-broken", action="store_true", help="leave out images that cannot be read (default: they are an error)"
    )


def add_stored_labels(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("soft labels")
    group.add_argument(
        "--soft-labels", metavar="FILE",
        help="a teacher's labels, which `soft-labels make` wrote with --for search: all trainings learn them in place "
        "of the images' classes",
    )  # fmt: skip


def add_proxy_size(group: Any) -> None:
    group.add_argument("--image-size", type=int, metavar="PX", help="side of the input (default: 40)")
    group.add_argument(
        "--width-scale", type=float, metavar="X", help="width of a proxy over that of its target, up to 1 (default: 1)"
    )


def add_supernet_images(group: Any, flag: str, purpose: str) -> None:
    """Declares the number of a supernet's training images.

    Args:
        flag: The option's name, which is shorter in the `supernet` commands.
        purpose: The use of the images in the help, e.g. `train on`.
    """
    group.add_argument(
        flag, dest="supernet_images", type=int, metavar="N",
        help=f"images to {purpose} (default: 20 epochs, at most 200000)",
    )  # fmt: skip


def add_optimisation(group: Any) -> None:
    group.add_argument("--batch-size", type=int, metavar="N", help="images per step (default: 64)")
    group.add_argument("--learning-rate", type=float, metavar="X", help="peak learning rate of AdamW (default: 0.002)")


def add_seed(group: Any) -> None:
    group.add_argument("--seed", type=int, metavar="N", help="seed of everything random (default: 0)")


def add_threads(group: Any, text: str) -> None:
    """Declares the number of threads; `text` is the help, since purpose and default differ between commands."""
    group.add_argument("--threads", type=int, metavar="N", help=text)


def add_device(group: Any) -> None:
    group.add_argument("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1, ... (default: auto)")


def add_precision(group: Any) -> None:
    group.add_argument(
        "--precision", metavar="NAME",
        help="of training and scoring: auto (bf16 where the GPU or CPU has instructions for it, else fp32), fp32 or "
        "bf16 (default: auto)",
    )  # fmt: skip


def add_ray_address(group: Any) -> None:
    group.add_argument(
        "--ray-address", metavar="ADDRESS",
        help="Ray cluster to use: auto or HOST:PORT (default: start one on this machine)",
    )  # fmt: skip


def add_recursions(group: Any) -> None:
    group.add_argument(
        "--recursions", type=recursions, metavar="N[,N...]",
        help="at most so many recursions: one number for all stages, or one for each, such as 2,1,1 (default: all)",
    )  # fmt: skip


def add_images_of_training(group: Any, purpose: str) -> None:
    """Declares the images that a trained network was made for, and the constants that they are standardised by.

    Args:
        purpose: The use of the images in the help, e.g. `to compare on`.
    """
    group.add_argument(
        "--data", metavar="DIR|NAME",
        help=f"images of the training, {purpose}: digits, a folder, or a torchvision dataset by name with --data-root",
    )  # fmt: skip
    group.add_argument("--data-root", metavar="DIR", help="folder that holds the torchvision dataset")
    group.add_argument(
        "--split-seed", type=seed, metavar="N", help="seed of the split into training, validation and test (default: 0)"
    )
    group.add_argument(
        "--mean", type=channel_values, metavar="X[,X...]", help="mean of each channel, for pixels scaled to [0, 1]"
    )
    group.add_argument("--std", type=channel_deviations, metavar="X[,X...]", help="standard deviation of each channel")


def add_parser(commands: Any, name: str, *, usage: str, summary: str, description: str, examples: str, run: Any) -> Any:
    """Declares a command and returns its parser. Options that are not given are not in what it parses.

    Args:
        commands: The commands to which it is added.
        name: What users type.
        usage: Its arguments in the line of usage.
        summary: Its line in the list of commands.
        description: The text above its options.
        examples: The text below them, in which `{program}` is how the user started this one.
        run: Runs it.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        usage=f"{USAGE} {usage}",
        description=description,
        epilog=examples.format(program=program_name()),
        formatter_class=HelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    parser.set_defaults(run=run)
    return parser


def options_of(given: argparse.Namespace, *without: str) -> dict[str, Any]:
    """Returns the options that were given, by name, without some."""
    return {name: value for name, value in vars(given).items() if name not in ("run", *without)}


def add_trained_network(parser: argparse.ArgumentParser) -> None:
    """Declares the trained network that a command takes."""
    parser.add_argument(
        "source", type=path, metavar="FILE|DIR",
        help="a model directory, the run of a training or a search, a result such as best.yaml with its weights, or a "
        "file of weights (.safetensors)",
    )  # fmt: skip


def add_checked_threads(group: Any, text: str) -> None:
    """Declares the number of threads, of at least one; `text` is the help."""
    group.add_argument("--threads", type=threads, metavar="N", help=text)


def add_force(group: Any) -> None:
    """Declares `--force`, for commands that write single files; a run directory is never replaced."""
    group.add_argument("--force", action="store_true", help="write over files that exist, but never over what is read")


def add_output(
    parser: argparse.ArgumentParser, *, work: str, directory: str, metavar: str,
    resumed: Callable[[str], object] = path,
) -> Any:  # fmt: skip
    """Declares `--out` and `--resume`, and returns their group for further options.

    Args:
        work: The thing that is resumed, in the help.
        directory: The name of the directory in the help, `metavar` that in the usage.
        resumed: Parses the value of `--resume`.
    """
    group = parser.add_argument_group("output")
    group.add_argument("--out", type=new_run, metavar="DIR", help=f"{directory} to create (default: runs/DATE-TIME)")
    group.add_argument("--resume", type=resumed, metavar=metavar, help=f"resume the {work} in this {directory}")
    return group
