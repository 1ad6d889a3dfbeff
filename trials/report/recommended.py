"""Prints the recommended networks as a table, and why one of them is `best.yaml`."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from sret_nas.quantities import format_quantity

from ..console import print_line
from ..runs.best import size_after_tuning
from ..runs.objectives import Objective, error_named, error_of
from ..runs.recommendation import Recommendation, Recommendations
from ..runs.size_prior import size_in_long_trainings
from ..runs.trial import Trial
from ..runs.uncertainty import format_prediction, images_of_trials

WIDE, ONE_LINE, MEDIUM = 100, 80, 66
"""Columns of a terminal from which the table has all columns, predictions on one line, and all columns but costs.
Below, it has only the predictions."""


def show_recommended(
    trials: Sequence[Trial], recommended: Recommendations | None, best: Trial, reason: str, console: Console,
    objectives: Sequence[Objective] = ("error",),
) -> None:  # fmt: skip
    """Prints what is recommended, the most expensive first, and the reason for `best.yaml`.

    The model's prediction stands beside what was observed. The observed error of the best of many trials is too good;
    the prediction is not, because it does not depend on one score.
    """
    if recommended is not None and recommended.networks:
        console.print(_table(trials, recommended.networks, console.width, objectives))
    print_line(console, f"best.yaml is trial {best.number}: {reason}.")
    for sentence in (size_after_tuning(trials, objectives, recommended), size_in_long_trainings(trials, recommended)):
        if sentence is not None:
            print_line(console, f"{sentence}.")


def _table(
    trials: Sequence[Trial], networks: Sequence[Recommendation], width: int, objectives: Sequence[Objective]
) -> Table:
    images = images_of_trials(trials)
    caption = f"{describe_prediction(images)}; observed: one score"
    if any(network.is_bend for network in networks):
        caption += "; bend: beyond this cost, more of it saves less error by that model"
    if error_named(objectives) == "depth_error":
        caption += "; errors before tuning are means over the recursion depths"
    table = Table(
        title="Recommended: the best structure at each cost", title_justify="left", caption_justify="left",
        caption=caption,
    )  # fmt: skip
    has_finals = any("fine-tuned" in trial.finals for trial in trials)
    by_number = {trial.number: trial for trial in trials}
    for name in _columns(networks[0], width, has_finals=has_finals):
        table.add_column(name, justify="right", no_wrap=True)
    for network in networks:
        cells = _cells(network, by_number[network.number], objectives, images, is_narrow=width < ONE_LINE)
        table.add_row(*(cells[column] for column in _columns(networks[0], width, has_finals=has_finals).values()))
    return table


def _columns(network: Recommendation, width: int, *, has_finals: bool) -> dict[str, str]:
    """Returns the titles of the columns that fit, each with its key in `_cells`."""
    unit = "ms" if network.cost == "latency" else "FLOPs" if network.cost == "flops" else "params"
    columns = {f"at most\n{unit}": "limit", "trial": "trial", "predicted\nval error": "predicted"}
    if width >= MEDIUM:
        columns["observed\nval error"] = "observed"
    if width >= WIDE:
        columns |= {"FLOPs": "flops", "params": "params"}
    if has_finals and width >= MEDIUM:
        columns["tuned\nval error"] = "tuned"
    return columns | {"test\nerror": "test"}


def describe_prediction(images: float | None) -> str:
    """Returns what a predicted error is, and its interval, given the validation images of equal weight."""
    if images is None:
        return "predicted: by the model of all trials, for the validation images"
    return (
        "predicted: by the model of all trials, with the 95 % interval of the error on new images, as that model and "
        f"the luck of {images:,.0f} validation images leave it"
    )


def _cells(
    network: Recommendation, trial: Trial, objectives: Sequence[Objective], images: float | None, *, is_narrow: bool
) -> dict[str, str]:
    result, final = trial.result, trial.finals.get("fine-tuned")
    test = final.test_error if final is not None else None if trial.test is None else trial.test.error
    predicted = format_prediction(network.predicted_error, network.deviation, images)
    limit = f"{network.limit / 1000:.4g}" if network.cost == "latency" else format_quantity(network.limit)
    return {
        "limit": f"{limit}\nbend" if network.is_bend else limit,
        "trial": str(trial.number),
        "predicted": predicted.replace(" (", "\n(") if is_narrow else predicted,
        "observed": not_scored(trial) if result is None else f"{error_of(result, objectives):.2%}",
        "flops": "-" if result is None else format_quantity(result.target.flops),
        "params": "-" if result is None else format_quantity(result.target.params),
        "tuned": "-" if final is None else f"{final.error:.2%}",
        "test": "-" if test is None else f"{test:.2%}",
    }


def not_scored(trial: Trial) -> str:
    """Returns what stands in the place of the error of a trial without a result."""
    return "-" if trial.failure is None else "failed"
