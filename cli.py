#!/usr/bin/env python3
"""The command line of sret-nas: words only. Sub-commands import what they run, so `--help` stays light."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sret_nas.errors import UserError

if TYPE_CHECKING:
    from sret_nas.arch import ArchConfig

EXIT_OK, EXIT_FAILURE, EXIT_USER_ERROR, EXIT_INTERRUPTED = 0, 1, 2, 130

DESCRIPTION = """\
Neural architecture search for Sliced Recursive Transformers (SReT, ECCV 2022).

FLOPs are multiply-adds for one image, as fvcore counts them.
"""

SEARCH_EPILOG = """\
examples:
  python cli.py search --flops-budget 1G
  python cli.py search --flops-budget 600M --params-budget 3M --data path/to/images --trials 40
  python cli.py search --resume runs/2026-01-31-120000
"""


SUPERNET_EPILOG = """\
examples:
  python cli.py supernet train --space sret_tiny --data path/to/images --time-budget 2h
  python cli.py supernet train --resume runs/2026-01-31-120000
  python cli.py supernet evaluate runs/2026-01-31-120000/supernet.safetensors smallest largest random:10
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0, 2 for the user's error, 1 for any other, 130 for Ctrl-C."""
    given = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = given.run
    try:
        return run(given)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, e.g. `| head`
        sys.stderr.close()
        return EXIT_FAILURE
    except OSError as error:  # the disk is full, a file cannot be read, ...
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILURE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sret-nas",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_search(commands)
    _add_space(commands)
    _add_profile(commands)
    _add_supernet(commands)
    return parser


def _add_search(commands: Any) -> None:
    parser = commands.add_parser(
        "search",
        help="find the Pareto-optimal architectures of a space within a budget",
        description="Finds the Pareto-optimal architectures of a search space within a budget, by short proxy runs.",
        epilog=SEARCH_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.set_defaults(run=_search)
    _add_space_and_budget(parser)
    latency = parser.add_argument_group(
        "latency (of one pass of the target on --device with --threads; predicted from parts that are timed once)"
    )
    latency.add_argument("--latency-budget", type=_latency, metavar="TIME", help="most latency, such as 20ms or 800us")
    latency.add_argument("--latency-batch", type=int, metavar="N", help="images in the pass; default: 1")
    _add_target(parser)

    search = parser.add_argument_group("search")
    search.add_argument(
        "--strategy",
        choices=("additive", "evolution", "nsga2", "nsga2_design", "tpe", "stratified", "random"),
        help="what proposes the next trial: an additive model and exact fronts; surrogate-assisted evolution; Optuna's "
        "NSGA-II, from a uniform start or one spread over cost; Optuna's TPE; draws spread over cost; uniform draws; "
        "default: additive",
    )
    search.add_argument("--trials", type=int, metavar="N", help="networks to try; default: 200, with --no-supernet 16")
    search.add_argument(
        "--objectives",
        type=_words,
        metavar="A,B,...",
        help="to make small, of error, cross_entropy, flops, params, latency; default: error,flops",
    )
    search.add_argument(
        "--population",
        type=int,
        metavar="N",
        help="NSGA-II's, and the length of the others' start; default: trials / 4, within 4 and 20",
    )
    search.add_argument("--seed", type=int, metavar="N", help="default: 0")

    supernet = parser.add_argument_group(
        "supernet", "one training whose weights all trials inherit; --no-supernet trains every trial from scratch"
    )
    supernet.add_argument("--supernet", metavar="FILE", help="one trained before; default: to train one first")
    supernet.add_argument("--no-supernet", dest="from_scratch", action="store_true", help="do without")
    supernet.add_argument(
        "--supernet-images", type=int, metavar="N", help="images to train it on; default: 20 epochs, at most 200000"
    )
    supernet.add_argument(
        "--score-images", type=int, metavar="N", help="validation images a trial is scored on; default: all"
    )
    supernet.add_argument(
        "--fine-tune-images", type=int, metavar="N", help="images a trial trains on before it is scored; default: 0"
    )
    supernet.add_argument(
        "--finalists", type=int, metavar="N",
        help="networks of the front that are trained on and tested in the end; default: 4",
    )  # fmt: skip
    supernet.add_argument(
        "--rivals", type=int, metavar="N",
        help="of those, how many are also trained from scratch, each beside a random network of equal cost; default: 2",
    )  # fmt: skip

    _add_data(parser)

    proxy = parser.add_argument_group("proxy run (how a trial trains its network)")
    _add_proxy_size(proxy)
    proxy.add_argument(
        "--train-images", type=int, metavar="N", help="images to train on; default: 3 epochs, at most 16000 images"
    )
    proxy.add_argument(
        "--epochs", type=float, metavar="X", help="passes over the training part, instead of --train-images"
    )
    _add_optimisation(proxy)

    engine = parser.add_argument_group("engine")
    engine.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="worker processes; 0 runs in this one; default: one per core, at most 8",
    )
    engine.add_argument("--threads", type=int, metavar="N", help="CPU threads per worker; default: 1")
    engine.add_argument(
        "--lookahead",
        type=int,
        metavar="N",
        help="trials asked for before the oldest is told; default: 4, or the workers if they are more",
    )
    engine.add_argument("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1, ...; default: auto")

    output = parser.add_argument_group("output")
    output.add_argument("--out", type=_path, metavar="DIR", help="run directory to create; default: runs/DATE-TIME")
    output.add_argument("--resume", type=_path, metavar="RUN", help="carry on the search in this run directory")


def _add_supernet(commands: Any) -> None:
    parser = commands.add_parser(
        "supernet",
        help="train one set of weights for all networks of a space, score its networks, take one out",
        description="Trains one set of weights for all networks of a space; scores its networks; takes one out.",
    )
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    _add_supernet_train(actions)
    evaluate = actions.add_parser(
        "evaluate",
        help="score networks with the weights they inherit",
        description="Scores networks, with the weights they inherit, on the validation images.",
        argument_default=argparse.SUPPRESS,
    )
    evaluate.set_defaults(run=_supernet_evaluate)
    evaluate.add_argument("supernet", type=Path, metavar="FILE", help="a trained supernet, supernet.safetensors")
    evaluate.add_argument(
        "networks", nargs="+", metavar="NETWORK", help="a YAML file, a preset, largest, smallest, random or random:N"
    )
    evaluate.add_argument("--seed", type=_seed, metavar="N", help="of random networks; default: 0")
    _add_supernet_data(evaluate)
    extract = actions.add_parser(
        "extract",
        help="write one network with its weights",
        description="Writes the proxy of one network as YAML, and its weights as safetensors beside it.",
        argument_default=argparse.SUPPRESS,
    )
    extract.set_defaults(run=_supernet_extract)
    extract.add_argument("supernet", type=Path, metavar="FILE", help="a trained supernet, supernet.safetensors")
    extract.add_argument("network", metavar="NETWORK", help="a YAML file or a preset")
    extract.add_argument("--out", type=_path, required=True, metavar="NAME.yaml", help="file to write")
    _add_supernet_data(extract)


def _add_supernet_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", metavar="DIR", help="where the images are now; default: where they were in training")
    parser.add_argument("--threads", type=_threads, metavar="N", help="CPU threads; default: 1")
    parser.add_argument("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1, ...; default: auto")


def _add_supernet_train(actions: Any) -> None:
    parser = actions.add_parser(
        "train",
        help="train a supernet",
        description="Trains one set of weights for all networks of a space inside a budget.",
        epilog=SUPERNET_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.set_defaults(run=_supernet_train)
    _add_space_and_budget(parser)
    _add_target(parser)
    _add_data(parser)
    proxy = parser.add_argument_group("proxies (what the space's networks are narrowed to)")
    _add_proxy_size(proxy)
    training = parser.add_argument_group("training")
    training.add_argument(
        "--images", type=int, dest="supernet_images", metavar="N",
        help="images to train on; default: 20 epochs, at most 200000",
    )  # fmt: skip
    training.add_argument(
        "--time-budget", type=_duration, metavar="TIME", help="such as 90s, 5m or 1.5h, instead: plans the images"
    )
    _add_optimisation(training)
    training.add_argument("--accumulate", type=int, metavar="N", help="parts a batch is run in; default: 1")
    training.add_argument("--precision", metavar="NAME", help="auto (bf16 on CUDA), fp32, bf16; default: auto")
    training.add_argument("--seed", type=int, metavar="N", help="default: 0")
    networks = parser.add_argument_group("networks of a step")
    networks.add_argument(
        "--rule", metavar="NAME",
        help="sandwich: the largest, the smallest and random ones; alternate: one of these in turn; single: a random "
        "one; default: single",
    )  # fmt: skip
    networks.add_argument(
        "--random-networks", type=int, metavar="N", help="random ones in a step of the sandwich; default: 2"
    )
    networks.add_argument(
        "--draws", metavar="NAME", help="stratified: spread evenly over log-FLOPs; uniform; default: stratified"
    )
    networks.add_argument(
        "--no-distil", dest="distil", action="store_false", help="the others do not learn from the largest's labels"
    )
    networks.add_argument(
        "--depth-schedule", metavar="NAME",
        help="recursion depths of random networks: full, joint, sandwich, random, growing; default: full",
    )  # fmt: skip
    machine = parser.add_argument_group("machine (several processes: torchrun --nproc_per_node N cli.py supernet ...)")
    machine.add_argument("--threads", type=int, metavar="N", help="CPU threads; default: one per core")
    machine.add_argument("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1, ...; default: auto")
    output = parser.add_argument_group("output")
    output.add_argument("--out", type=_path, metavar="DIR", help="directory to create; default: runs/DATE-TIME")
    output.add_argument("--resume", type=_path, metavar="DIR", help="carry on the training in this directory")


def _add_target(parser: argparse.ArgumentParser) -> None:
    target = parser.add_argument_group("target (what FLOPs and parameters are counted for)")
    target.add_argument("--target-image-size", type=int, metavar="PX", help="input side; default: the space's (224)")
    target.add_argument("--target-classes", type=int, metavar="N", help="classes; default: the space's (1000)")


def _add_data(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data", metavar="DIR|NAME", help="an image folder, or, with --data-root, a torchvision data set's name; "
        "default: digits (scikit-learn's, no download)"
    )  # fmt: skip
    data.add_argument("--data-root", metavar="DIR", help="where the torchvision data set lies on disk")
    for part in ("train", "val", "test"):
        data.add_argument(f"--max-{part}", type=int, metavar="N", help=f"use at most N {part} images; default: all")
    data.add_argument("--split-seed", type=int, metavar="N", help="decides the parts; default: 0")


def _add_proxy_size(group: Any) -> None:
    group.add_argument("--image-size", type=int, metavar="PX", help="input side; default: 40")
    group.add_argument("--width-scale", type=float, metavar="X", help="width over the target's, up to 1; default: 1")


def _add_optimisation(group: Any) -> None:
    group.add_argument("--batch-size", type=int, metavar="N", help="default: 64")
    group.add_argument("--learning-rate", type=float, metavar="X", help="peak of AdamW's; default: 0.002")


def _add_space_and_budget(parser: argparse.ArgumentParser) -> None:
    parser.add_argument_group("search space").add_argument(
        "--space", metavar="NAME|FILE", help="a shipped space or a YAML file; default: sret_tiny"
    )
    _add_budget(parser)


def _add_budget(parser: argparse.ArgumentParser) -> None:
    budget = parser.add_argument_group(
        "budget", "numbers such as 1G, 4.8M, 600K, 1.1e9; no network outside it is ever trained"
    )
    budget.add_argument("--flops-budget", type=_quantity, metavar="N", help="most FLOPs (multiply-adds for one image)")
    budget.add_argument("--params-budget", type=_quantity, metavar="N", help="most parameters")
    budget.add_argument("--flops-min", type=_quantity, metavar="N", help="least FLOPs")
    budget.add_argument("--params-min", type=_quantity, metavar="N", help="least parameters")


def _add_space(commands: Any) -> None:
    parser = commands.add_parser(
        "space",
        help="show a search space: dimensions, number of networks, reach in FLOPs and parameters, samples",
        description="Shows a search space: dimensions, exact number of distinct networks and of those inside the "
        "budget, a picture of where they lie in FLOPs and parameters, cheapest, dearest, samples.",
    )
    parser.set_defaults(run=_space)
    parser.add_argument("space", nargs="?", default="sret_tiny", metavar="NAME|FILE", help="default: sret_tiny")
    parser.add_argument(
        "--samples", type=_small_count, default=5, metavar="N", help="networks to draw, up to 1000; default: 5"
    )
    parser.add_argument("--seed", type=_seed, default=0, metavar="N", help="of the samples; default: 0")
    parser.add_argument(
        "--picture", type=Path, metavar="FILE.png", help="also draw the picture as PNG, with the published networks"
    )
    _add_budget(parser)


def _add_profile(commands: Any) -> None:
    parser = commands.add_parser(
        "profile",
        help="show what an architecture costs, checked against fvcore, and how fast it is here",
        description="Shows an architecture's cost by part and operator, checks it against fvcore, measures its speed.",
    )
    parser.set_defaults(run=_profile)
    parser.add_argument(
        "architecture", metavar="FILE|PRESET", help="a YAML file, e.g. best.yaml, or a preset, e.g. sret_t"
    )
    parser.add_argument("--no-check", action="store_true", help="do not build the network for fvcore's count")
    parser.add_argument("--no-speed", action="store_true", help="do not measure speed")


def _search(given: argparse.Namespace) -> int:
    from trials.interruption import handle_interruptions
    from trials.report.console import SearchConsole
    from trials.report.front import show_front
    from trials.search import new_run_dir, resume_search, start_search

    handle_interruptions()
    console = SearchConsole()
    options = {name: value for name, value in vars(given).items() if name not in ("run", "out", "resume")}
    if "resume" in given:
        if "out" in given and given.out.resolve() != given.resume.resolve():
            raise UserError(
                f"a resumed search stays in its run directory: leave out --out, or give --resume {given.out}"
            )
        run = resume_search(given.resume, options, console)
    else:
        run_dir = given.out if "out" in given else new_run_dir()
        run = start_search(options, run_dir, sys.argv, console)
    show_front(run.trials, run.options, run.run_dir, run.space.image_size, console, run.domain.latency_profile)
    return EXIT_OK if any(trial.result is not None for trial in run.trials) else EXIT_FAILURE


def _space(given: argparse.Namespace) -> int:
    from rich.console import Console

    from sret_nas.budget import Budget
    from sret_nas.space import SearchSpace
    from trials.report.space import show_space

    budget = Budget(
        flops_max=given.flops_budget,
        params_max=given.params_budget,
        flops_min=given.flops_min,
        params_min=given.params_min,
    )
    space = SearchSpace.load(given.space)
    show_space(space, budget, Console(), samples=given.samples, seed=given.seed, picture=given.picture)
    return EXIT_OK


def _profile(given: argparse.Namespace) -> int:
    from rich.console import Console

    from trials.report.profile import show_profile

    arch = _architecture(given.architecture)
    show_profile(arch, Console(), name=given.architecture, check=not given.no_check, speed=not given.no_speed)
    return EXIT_OK


def _supernet_train(given: argparse.Namespace) -> int:
    from trials.interruption import handle_interruptions
    from trials.report.console import SearchConsole
    from trials.supernet.command import resume_training, start_training

    handle_interruptions()
    console = SearchConsole()
    words = ("run", "out", "resume", "time_budget")
    options = {name: value for name, value in vars(given).items() if name not in words}
    seconds = vars(given).get("time_budget")
    if "resume" not in given:
        start_training(options, vars(given).get("out"), seconds, console)
        return EXIT_OK
    if "out" in given or seconds is not None:
        raise UserError(
            "a resumed training stays in its directory and keeps its plan: leave out --out and --time-budget"
        )
    resume_training(given.resume, options, console)
    return EXIT_OK


def _supernet_evaluate(given: argparse.Namespace) -> int:
    from rich.console import Console

    from trials.supernet.subnets import show_subnets

    show_subnets(given.supernet, given.networks, **_scoring(given), seed=vars(given).get("seed", 0), console=Console())
    return EXIT_OK


def _supernet_extract(given: argparse.Namespace) -> int:
    from rich.console import Console

    from trials.supernet.subnets import extract_subnet

    extract_subnet(given.supernet, given.network, given.out, **_scoring(given), console=Console())
    return EXIT_OK


def _scoring(given: argparse.Namespace) -> dict[str, Any]:
    """On what, and where, a supernet's networks are scored."""
    options = vars(given)
    return {
        "data": {"source": options["data"]} if "data" in options else {},
        "device": options.get("device", "auto"),
        "threads": options.get("threads", 1),
    }


def _architecture(name_or_file: str) -> ArchConfig:
    from sret_nas.arch import ArchConfig
    from sret_nas.presets import preset

    path = Path(name_or_file)
    if path.is_dir():
        raise UserError(f"{path} is a folder: give a file, such as {path / 'best.yaml'}")
    if path.is_file() or path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        return ArchConfig.from_yaml(path)
    return preset(name_or_file)


def _quantity(text: str) -> int:
    from sret_nas.budget import parse_quantity

    try:
        return parse_quantity(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _latency(text: str) -> str:
    from sret_nas.latency import parse_latency

    try:
        parse_latency(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _duration(text: str) -> float:
    from trials.supernet.duration import parse_duration

    try:
        return parse_duration(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _threads(text: str) -> int:
    return _whole_number(text, 1, 1024)


def _path(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("must name a folder, got nothing")
    return Path(text)


def _seed(text: str) -> int:
    return _whole_number(text, 0, 2**32 - 1)


def _small_count(text: str) -> int:
    return _whole_number(text, 0, 1000)


def _whole_number(text: str, low: int, high: int) -> int:
    if not (text.isascii() and text.isdigit()) or not low <= int(text) <= high:
        raise argparse.ArgumentTypeError(f"must be a whole number from {low} to {high}, got {text!r}")
    return int(text)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
