"""The options that several commands have, each declared once; a command that words one differently gives the words.

`search` and `supernet train` name their options as the fields of `SearchOptions`, which also has the defaults.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from trials.command_line.argument_types import path, quantity


def add_space(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("search space")
    group.add_argument("--space", metavar="NAME|FILE", help="a shipped space or a YAML file; default: sret_tiny")


def add_budget(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "budget", "numbers such as 1G, 4.8M, 600K, 1.1e9; no network outside it is ever trained"
    )
    group.add_argument("--flops-budget", type=quantity, metavar="N", help="most FLOPs (multiply-adds for one image)")
    group.add_argument("--params-budget", type=quantity, metavar="N", help="most parameters")
    group.add_argument("--flops-min", type=quantity, metavar="N", help="least FLOPs")
    group.add_argument("--params-min", type=quantity, metavar="N", help="least parameters")


def add_target(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("target (what FLOPs and parameters are counted for)")
    group.add_argument("--target-image-size", type=int, metavar="PX", help="input side; default: the space's (224)")
    group.add_argument("--target-classes", type=int, metavar="N", help="classes; default: the space's (1000)")


def add_data(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data", metavar="DIR|NAME",
        help="an image folder, or, with --data-root, a torchvision data set's name; default: digits (scikit-learn's, "
        "no download)",
    )  # fmt: skip
    group.add_argument("--data-root", metavar="DIR", help="where the torchvision data set lies on disk")
    for part in ("train", "val", "test"):
        group.add_argument(f"--max-{part}", type=int, metavar="N", help=f"use at most N {part} images; default: all")
    group.add_argument("--split-seed", type=int, metavar="N", help="decides the parts; default: 0")


def add_proxy_size(group: Any) -> None:
    group.add_argument("--image-size", type=int, metavar="PX", help="input side; default: 40")
    group.add_argument("--width-scale", type=float, metavar="X", help="width over the target's, up to 1; default: 1")


def add_supernet_images(group: Any, flag: str, purpose: str) -> None:
    """`flag` is shorter where all is about a supernet; `purpose` is what the images are for, e.g. `train on`."""
    group.add_argument(
        flag, dest="supernet_images", type=int, metavar="N",
        help=f"images to {purpose}; default: 20 epochs, at most 200000",
    )  # fmt: skip


def add_optimisation(group: Any) -> None:
    group.add_argument("--batch-size", type=int, metavar="N", help="default: 64")
    group.add_argument("--learning-rate", type=float, metavar="X", help="peak of AdamW's; default: 0.002")


def add_seed(group: Any) -> None:
    group.add_argument("--seed", type=int, metavar="N", help="default: 0")


def add_threads(group: Any, text: str) -> None:
    """`text` says what a thread serves and how many there are by default, which differs."""
    group.add_argument("--threads", type=int, metavar="N", help=text)


def add_device(group: Any) -> None:
    group.add_argument("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1, ...; default: auto")


def add_ray_address(group: Any) -> None:
    group.add_argument("--ray-address", metavar="ADDRESS", help="the cluster to use: auto or HOST:PORT")


def add_output(
    parser: argparse.ArgumentParser, *, work: str, directory: str, metavar: str,
    resumed: Callable[[str], object] = path,
) -> Any:  # fmt: skip
    """Where results go, and where `work` is carried on; `directory` and `metavar` are what that place is called.

    Returns the group, for a command's own options.
    """
    group = parser.add_argument_group("output")
    group.add_argument("--out", type=path, metavar="DIR", help=f"{directory} to create; default: runs/DATE-TIME")
    group.add_argument("--resume", type=resumed, metavar=metavar, help=f"carry on the {work} in this {directory}")
    return group
