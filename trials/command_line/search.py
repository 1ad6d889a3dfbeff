"""`search`: finds the Pareto-optimal architectures of a space within a budget."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sret_nas.errors import UserError
from trials.command_line import shared_options
from trials.command_line.argument_types import duration, latency, path_or_address, words
from trials.command_line.exit_codes import EXIT_FAILURE, EXIT_OK

if TYPE_CHECKING:
    from rich.console import Console

EXAMPLES = """\
examples:
  python cli.py search --flops-budget 1G
  python cli.py search --flops-budget 600M --params-budget 3M --data path/to/images --trials 40
  python cli.py search --resume runs/2026-01-31-120000
  python cli.py search --flops-budget 1G --storage s3://bucket/runs
  python cli.py search --resume s3://bucket/runs/2026-01-31-120000
"""


def add_command(commands: Any) -> None:
    """Declares the command; `--help` shows its options in this order."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "search",
        help="find the Pareto-optimal architectures of a space within a budget",
        description="Finds the Pareto-optimal architectures of a search space within a budget, by short proxy runs.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,  # the defaults are those of `SearchOptions`
        allow_abbrev=False,
    )
    parser.set_defaults(run=_run)
    shared_options.add_space(parser)
    shared_options.add_budget(parser)
    _add_latency(parser)
    shared_options.add_target(parser)
    _add_strategy(parser)
    _add_supernet(parser)
    shared_options.add_data(parser)
    _add_proxy_run(parser)
    _add_engine(parser)
    _add_bounds(parser)
    _add_output(parser)


def _add_latency(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "latency (of one pass of the target on --device with --threads; predicted from parts that are timed once)"
    )
    group.add_argument("--latency-budget", type=latency, metavar="TIME", help="most latency, such as 20ms or 800us")
    group.add_argument("--latency-batch", type=int, metavar="N", help="images in the pass; default: 1")


def _add_strategy(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("search")
    group.add_argument(
        "--strategy",
        choices=("additive", "evolution", "nsga2", "nsga2_design", "tpe", "stratified", "random"),
        help="what proposes the next trial: an additive model and exact fronts; surrogate-assisted evolution; Optuna's "
        "NSGA-II, from a uniform start or one spread over cost; Optuna's TPE; draws spread over cost; uniform draws; "
        "default: additive",
    )
    group.add_argument(
        "--trials", type=int, metavar="N",
        help="networks to try; default: 200, with --no-supernet 16 (with --rungs 48)",
    )  # fmt: skip
    group.add_argument(
        "--rungs", type=int, metavar="N",
        help="early stopping: compare trials at N points, the last their end, and stop most; default: 1, none",
    )  # fmt: skip
    group.add_argument(
        "--eta", type=int, metavar="N", help="of so many at a rung one goes on, so many times as far; default: 3"
    )
    group.add_argument(
        "--objectives", type=words, metavar="A,B,...",
        help="to make small, of error, cross_entropy, flops, params, latency; default: error,flops",
    )  # fmt: skip
    group.add_argument(
        "--population", type=int, metavar="N",
        help="NSGA-II's, and the length of the others' start; default: trials / 4, within 4 and 20",
    )  # fmt: skip
    shared_options.add_seed(group)


def _add_supernet(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "supernet", "one training whose weights all trials inherit; --no-supernet trains every trial from scratch"
    )
    group.add_argument("--supernet", metavar="FILE", help="one trained before; default: to train one first")
    group.add_argument("--no-supernet", dest="from_scratch", action="store_true", help="do without")
    shared_options.add_supernet_images(group, "--supernet-images", "train it on")
    group.add_argument(
        "--score-images", type=int, metavar="N", help="validation images a trial is scored on; default: all"
    )
    group.add_argument(
        "--fine-tune-images", type=int, metavar="N", help="images a trial trains on before it is scored; default: 0"
    )
    group.add_argument(
        "--finalists", type=int, metavar="N",
        help="networks of the front that are trained on and tested in the end; default: 4",
    )  # fmt: skip
    group.add_argument(
        "--rivals", type=int, metavar="N",
        help="of those, how many are also trained from scratch, each beside a random network of equal cost; default: 2",
    )  # fmt: skip


def _add_proxy_run(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("proxy run (how a trial trains its network)")
    shared_options.add_proxy_size(group)
    group.add_argument(
        "--train-images", type=int, metavar="N", help="images to train on; default: 3 epochs, at most 16000 images"
    )
    group.add_argument(
        "--epochs", type=float, metavar="X", help="passes over the training part, instead of --train-images"
    )
    shared_options.add_optimisation(group)


def _add_engine(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("engine")
    group.add_argument(
        "--engine", choices=("local", "ray"),
        help="what runs trials: processes on this machine, or a Ray, on this machine or a cluster; default: local",
    )  # fmt: skip
    shared_options.add_ray_address(group)
    group.add_argument(
        "--workers", type=int, metavar="N",
        help="trials at once; 0 runs them in this process; default: one per core, at most 8; what a cluster holds",
    )  # fmt: skip
    group.add_argument(
        "--gpus-per-trial", type=float, metavar="X", help="of a Ray: a share of one or a whole number; default: 0"
    )
    shared_options.add_threads(group, "CPU threads per worker; default: 1")
    group.add_argument(
        "--lookahead", type=int, metavar="N",
        help="trials asked for before the oldest is told; default: 4, or the workers if they are more; twice these on "
        "a cluster",
    )  # fmt: skip
    shared_options.add_device(group)


def _add_bounds(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("bounds (besides --trials; all may change when a search is resumed)")
    group.add_argument(
        "--time-budget", type=duration, metavar="TIME",
        help="start no trial that would end later, such as 2h; the supernet's training counts, the finals come on top",
    )  # fmt: skip
    group.add_argument("--gpu-hours", type=float, metavar="X", help="the same for the hours that GPUs work; GPUs only")
    group.add_argument(
        "--trial-timeout", type=duration, metavar="TIME",
        help="most time for a trial, such as 10m; default: 20 times the expected, at least 10m",
    )  # fmt: skip


def _add_output(parser: argparse.ArgumentParser) -> None:
    group = shared_options.add_output(
        parser, work="search", directory="run directory", metavar="RUN", resumed=path_or_address
    )
    group.add_argument(
        "--storage", metavar="DIR|URI",
        help="keep a copy of the run directory in this folder, or in a bucket, as s3://BUCKET/PREFIX or "
        "gs://BUCKET/PREFIX; with --resume COPY it is fetched to --out, by default runs/NAME, and carried on",
    )  # fmt: skip
    group.add_argument(
        "--no-storage", dest="storage", action="store_const", const=None, help="of a resumed search: keep none any more"
    )


def _run(given: argparse.Namespace) -> int:
    from trials.console import SearchConsole
    from trials.interruption import handle_interruptions
    from trials.report.front import show_front
    from trials.runs.directory import new_run_dir
    from trials.search.search import resume_search, start_search

    handle_interruptions()
    console = SearchConsole()
    options = {name: value for name, value in vars(given).items() if name not in ("run", "out", "resume")}
    if "resume" in given:
        run = resume_search(_resumed_dir(given, options, console), options, console)
    else:
        run_dir = given.out if "out" in given else new_run_dir()
        run = start_search(options, run_dir, sys.argv, console)
    show_front(run.trials, run.options, run.run_dir, run.space.image_size, console, run.domain.latency_profile)
    return EXIT_OK if any(trial.result is not None for trial in run.trials) else EXIT_FAILURE


def _resumed_dir(given: argparse.Namespace, options: dict[str, Any], console: Console) -> Path:
    """The run directory to carry on in. A search whose copy was named goes on being copied, unless told otherwise."""
    from trials.runs.remote_copy import fetch_run, is_copy

    out: Path | None = given.out if "out" in given else None
    if is_copy(given.resume):
        fetched, storage = fetch_run(str(given.resume), out, console)
        options.setdefault("storage", storage)
        return fetched
    run_dir: Path = given.resume
    if out is not None and out.resolve() != run_dir.resolve():
        raise UserError(f"a resumed search stays in its run directory: leave out --out, or give --resume {out}")
    return run_dir
