"""What a search says before it begins: what is searched, how long that will take, and where it stops."""

from __future__ import annotations

from sret_nas.plurals import counted
from sret_nas.quantities import format_seconds

from ..console import Console, print_line
from ..runs.options import SearchOptions
from .plan import Plan

MIN_GAIN_OF_THREADS = 0.25
"""A supernet's threads that train at less than this share of the speed of a worker's threads are warned of. The latter
is that of one network with as many FLOPs, which is faster than a supernet's first steps, of which each trains another
network: on two quiet cores, the first command measured 453 images/s with two threads, and 1,180 alone. Beside other
work, two threads train a supernet at a quarter of the speed of one (benchmarks/threads.py)."""


def announce(plan: Plan, console: Console, num_trials: int, spent: float) -> None:
    """Prints the search, its expected time and its limits.

    Args:
        spent: Wall seconds since the search was asked for, which are part of the whole time.
    """
    space, options = plan.space, plan.options
    lines = (
        f"Search: {options.strategy} in {space.name} for {space.image_size} px, {space.classes} classes; "
        f"{options.describe_budget()}; {'balanced error; ' if options.balanced_error else ''}seed {options.seed}; "
        f"{plan.precision}",
        f"Plan: {_describe(plan, num_trials, spent)}",
        *_warnings(plan),
        *_bounds(options),
    )
    for line in lines:
        print_line(console, line)


def _describe(plan: Plan, num_trials: int, spent: float) -> str:
    options, images, size = plan.options, plan.proxy.training.images, f"{plan.proxy.image_size} px"
    recommended = f" and up to {plan.max_recommended} recommended ones" * (plan.max_recommended > 0)
    whole = (
        f"start-up {format_seconds(spent)}, results {format_seconds(plan.results_seconds)}: about "
        f"{format_seconds(plan.whole_seconds(num_trials, spent))} in all"
    )
    if plan.supernet is None:
        return (
            f"{counted(num_trials, 'trial')}{recommended} of {images:,} training images at {size}{_compared(options)}; "
            f"about {format_seconds(plan.trial_seconds)} each, {plan.at_once} at once; {whole}"
        )
    if plan.supernet.config is None:
        supernet = f"the supernet {options.supernet}"
    elif plan.to_train is None:
        supernet = "the supernet, which is trained"
    else:
        images, seconds = plan.to_train.training.images, plan.supernet_seconds
        supernet = f"a supernet trained on {images:,} images at {size} ({format_seconds(seconds)})"
    seconds = plan.all_trials_seconds(num_trials)
    steps = [
        supernet,
        f"{num_trials} of its networks{recommended} scored{_compared(options)} ({format_seconds(seconds)})",
    ]
    if options.finalists > 0:
        pairs = f", {options.controls} trained from scratch against as many random ones" * (options.controls > 0)
        steps.append(f"{options.finalists} fine-tuned{pairs} ({format_seconds(plan.finals_seconds)})")
    return f"{', '.join(steps)}; {whole}"


def _compared(options: SearchOptions) -> str:
    """Returns the words that say at which fractions of a trial most trials are stopped."""
    fractions = options.make_rungs().fractions[:-1]
    return f", most stopped after {' or '.join(f'{fraction:.0%}' for fraction in fractions)}" if fractions else ""


def _warnings(plan: Plan) -> list[str]:
    """Returns the line that says that more threads train more slowly than few, as beside other work, if they do."""
    speeds = plan.images_per_second
    if speeds is None or speeds[0] >= MIN_GAIN_OF_THREADS * speeds[1] or plan.supernet is None:
        return []
    return [
        f"warning: {counted(plan.supernet.threads, 'thread')} train at {speeds[0]:.0f} images/s, and {plan.threads} at "
        f"{speeds[1]:.0f}: other work uses this machine; --workers 1 trains the supernet with fewer"
    ]


def _bounds(options: SearchOptions) -> list[str]:
    """Returns the line that names the limits after which no trial starts, if there are any."""
    bounds = [] if options.time_budget is None else [f"{format_seconds(options.time_budget)} have passed"]
    if options.gpu_hours is not None:
        bounds.append(f"{options.gpu_hours:g} GPU-hours are spent")
    if not bounds:
        return []
    return [f"No trial starts that would end after {' or '.join(bounds)}; recommended networks and finals follow"]
