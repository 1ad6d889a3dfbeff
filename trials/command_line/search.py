"""`search`: finds the Pareto-optimal networks of a space within a budget."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from sret_nas.errors import UserError

from ..machine import collector_paused
from ..program_name import program_name
from . import shared_options
from .argument_types import duration, latency, network, path_or_address, words
from .config_file import add_config, with_config
from .exit_codes import EXIT_FAILURE, EXIT_OK
from .renamed import add_renamed

EXAMPLES = """\
examples:
  {program} search --flops-budget 1G
  {program} search --flops-budget 600M --params-budget 3M --data path/to/images --trials 1000
  {program} search --resume runs/2026-01-31-120000
  {program} search --flops-budget 1G --storage s3://bucket/runs
  {program} search --resume s3://bucket/runs/2026-01-31-120000
"""


def add_command(commands: Any) -> None:
    """Declares the command; `--help` shows its options in this order."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "search",
        help="find the Pareto-optimal networks of a search space within a budget",
        usage=shared_options.USAGE,
        description="Find the Pareto-optimal networks of a search space within a budget.",
        epilog=EXAMPLES.format(program=program_name()),
        formatter_class=shared_options.HelpFormatter,
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
    shared_options.add_skip_broken(shared_options.add_data(parser))
    shared_options.add_stored_labels(parser)
    _add_proxy_run(parser)
    _add_engine(parser)
    _add_limits(parser)
    _add_output(parser)


def _add_latency(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "latency",
        "Time of one pass of the target on --device with --threads, predicted from parts that are timed once.",
    )
    group.add_argument("--latency-budget", type=latency, metavar="TIME", help="maximum latency, such as 20ms or 800us")
    group.add_argument("--latency-batch", type=int, metavar="N", help="images per pass (default: 1)")


def _add_strategy(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("search")
    group.add_argument(
        "--strategy",
        metavar="NAME",
        choices=("additive", "evolution", "nsga2", "nsga2_design", "tpe", "gp", "gp_design", "stratified", "random"),
        help="what proposes the next trial: additive (a Bayesian model and dynamic programming), evolution "
        "(surrogate-assisted), Optuna's nsga2, tpe and gp (a Gaussian process, seconds per trial), nsga2_design and "
        "gp_design (from a cost-stratified start), stratified (random, spread evenly over cost) or random "
        "(default: additive)",
    )
    group.add_argument(
        "--trials", type=int, metavar="N",
        help="networks to try (default: 200; 16 with --no-supernet, or 48 if also with --rungs)",
    )  # fmt: skip
    group.add_argument(
        "--rungs", type=int, metavar="N",
        help="early stopping: compare trials at N points of their length and stop most of them (default: 1, which "
        "stops none)",
    )  # fmt: skip
    group.add_argument(
        "--eta", type=int, metavar="N",
        help="keep the best 1/ETA of the trials at each rung; rungs are ETA times further apart (default: 3)",
    )  # fmt: skip
    group.add_argument(
        "--objectives", type=words, metavar="A,B,...",
        help="what to minimise, of error, cross_entropy, depth_error (mean error over the recursion depths of "
        "one file of weights), flops, params, latency (default: error,flops)",
    )  # fmt: skip
    group.add_argument(
        "--balanced-error", action="store_true",
        help="count every class alike in all errors, however many images it has: for classes of unequal size",
    )  # fmt: skip
    group.add_argument(
        "--enqueue", type=network, nargs="+", metavar="FILE.yaml",
        help="try these networks first; the strategy learns from them",
    )  # fmt: skip
    group.add_argument(
        "--best-by", metavar="RULE", choices=("expected", "proxy"),
        help="how best.yaml is chosen: expected (the best structure at the budget; others are recommended at 3/4, 1/2 "
        "and 1/4 of it, and where the front bends) or proxy (the least validation error, whatever the size) "
        "(default: expected)",
    )  # fmt: skip
    group.add_argument(
        "--population", type=int, metavar="N",
        help="population of NSGA-II; for the other strategies, trials before they learn: with additive at least 6 and "
        "at most 12; random and stratified, which never learn, ignore it (default: a quarter of --trials, between 4 "
        "and 20)",
    )  # fmt: skip
    shared_options.add_seed(group)


def _add_supernet(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("supernet", "One set of weights, trained once, that every trial inherits from.")
    group.add_argument(
        "--supernet",
        metavar="FILE|DIR",
        help="use this trained supernet, or that of this run; it brings its space, images and image size "
        "(default: train one first)",
    )
    group.add_argument(
        "--no-supernet", dest="no_supernet", action="store_true", help="train every trial from scratch instead"
    )
    shared_options.add_supernet_images(group, "--supernet-images", "train the supernet on")
    add_renamed(
        group, "--val-images-per-trial", "--score-images", dest="val_images_per_trial", type=int, metavar="N",
        help="validation images that score a trial (default: all)",
    )  # fmt: skip
    group.add_argument(
        "--fine-tune-images", type=int, metavar="N",
        help="training images that fine-tune a trial before it is scored (default: 0)",
    )  # fmt: skip
    group.add_argument(
        "--finalists", type=int, metavar="N",
        help="networks that are fine-tuned and tested at the end: what is recommended, then others of the front "
        "(default: 4)",
    )  # fmt: skip
    add_renamed(
        group, "--controls", "--rivals", dest="controls", type=int, metavar="N",
        help="finalists that are also trained from scratch, each against a random network of equal FLOPs "
        "(default: 2, or all if they are fewer)",
    )  # fmt: skip


def _add_proxy_run(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("proxy", "The smaller network that a trial trains in place of its target.")
    shared_options.add_proxy_size(group)
    group.add_argument(
        "--train-images", type=int, metavar="N",
        help="images to train on, repeats counted (default: 3 epochs, at most 16000)",
    )  # fmt: skip
    group.add_argument("--epochs", type=float, metavar="X", help="the same in passes over the training images")
    shared_options.add_optimisation(group)
    shared_options.add_precision(group)


def _add_engine(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("engine")
    group.add_argument(
        "--engine", choices=("local", "ray", "tune"),
        help="what runs trials: local (processes on this machine), ray (this machine or a cluster) or tune (the same "
        "as trials of Ray Tune, slower, for its callbacks and results) (default: local)",
    )  # fmt: skip
    shared_options.add_ray_address(group)
    group.add_argument(
        "--workers", type=int, metavar="N",
        help="trials at once; 0 runs them in this process (default: one per core, at most 8; on a cluster, as many as "
        "fit)",
    )  # fmt: skip
    group.add_argument(
        "--gpus-per-trial", type=float, metavar="X",
        help="GPUs that Ray reserves for a trial, a fraction of one or a whole number (default: 0)",
    )  # fmt: skip
    shared_options.add_threads(group, "CPU threads per worker (default: 1)")
    group.add_argument(
        "--lookahead", type=int, metavar="N",
        help="trials in flight before the strategy must see the oldest result (default: max(4, workers); 2 x workers "
        "on a cluster)",
    )  # fmt: skip
    shared_options.add_device(group)


def _add_limits(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "limits",
        "A resumed search may change these, as well as --trials, --storage, what runs its trials (--engine, "
        "--ray-address, --workers and --gpus-per-trial) and where the same images, labels and given supernet lie "
        "(--data, --data-root, --soft-labels, --supernet).",
    )
    group.add_argument(
        "--time-budget", type=duration, metavar="TIME",
        help="start no trial that would end later than this, such as 1h30m; includes training the supernet, but "
        "recommended networks and finalists come on top",
    )  # fmt: skip
    group.add_argument(
        "--gpu-hours", type=float, metavar="X",
        help="start no trial that would exceed this many hours of GPU time; recommended networks and finalists come "
        "on top",
    )  # fmt: skip
    group.add_argument(
        "--trial-timeout", type=duration, metavar="TIME",
        help="maximum time of one trial, such as 10m; of a network trained at the end, in proportion "
        "to its planned time; with --workers 0 no limit holds (default: 20 times the planned time, at least 10m)",
    )  # fmt: skip


def _add_output(parser: argparse.ArgumentParser) -> None:
    group = shared_options.add_output(
        parser, work="search", directory="run directory", metavar="RUN", resumed=path_or_address
    )
    add_config(parser, group)
    group.add_argument(
        "--log", type=words, metavar="NAME,...",
        help="experiment trackers that follow the search, of mlflow, wandb (default: none, only TensorBoard's scalars)",
    )  # fmt: skip
    group.add_argument(
        "--storage", metavar="DIR|URI",
        help="keep a copy of the run directory in this folder or bucket (s3://BUCKET/PREFIX, gs://BUCKET/PREFIX); "
        "--resume fetches such a copy to --out (default: runs/NAME)",
    )  # fmt: skip
    group.add_argument(
        "--no-storage", dest="storage", action="store_const", const=None, help="stop copying, when a search is resumed"
    )
    group.add_argument(
        "--dry-run", action="store_true", help="print the plan with its expected times, and begin nothing"
    )
    group.add_argument("--open", action="store_true", help="open the report in the browser at the end")
    group.add_argument("--quiet", action="store_true", help="print errors only")


def _run(given: argparse.Namespace) -> int:
    with collector_paused():
        from ..console import SearchConsole
        from ..interruption import handle_interruptions
        from ..report.browser import open_in_browser
        from ..report.front import show_front
        from ..report.html import REPORT
        from ..runs.directory import new_run_dir
        from ..runs.options import SearchOptions
        from ..search.resumed_directory import resumed_directory
        from ..search.search import plan_search, resume_search, start_search

    given = with_config(given)
    handle_interruptions()
    switches = {name for name in ("dry_run", "open", "quiet") if getattr(given, name, False)}  # a file may say `false`
    console = SearchConsole(quiet="quiet" in switches)
    options = shared_options.options_of(given, "out", "resume", "dry_run", "open", "quiet")
    if "dry_run" in switches:
        for name in ("resume", "open"):
            if getattr(given, name, False):
                raise UserError(
                    f"--dry-run plans a new search and writes nothing, so it cannot be combined with --{name}"
                )
        run_dir = given.out if "out" in given else new_run_dir()
        plan_search(SearchOptions.parse(options, "search"), run_dir, console)
        return EXIT_OK
    if "resume" in given:
        run_dir = resumed_directory(given.resume, vars(given).get("out"), options, console)
        run = resume_search(run_dir, options, console)
    else:
        run_dir = given.out if "out" in given else new_run_dir()
        run = start_search(SearchOptions.parse(options, "search"), run_dir, sys.argv, console)
    show_front(
        run.trials, run.options, run.run_dir, run.space.image_size, console, run.domain.latency_profile,
        run.history.recommended,
    )  # fmt: skip
    if "open" in switches:
        open_in_browser(run.run_dir / REPORT, console)
    return EXIT_OK if any(trial.result is not None for trial in run.trials) else EXIT_FAILURE
