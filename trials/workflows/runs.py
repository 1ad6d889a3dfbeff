"""Works with the run directories of searches: lists, shows, compares and reports them, picks from them, cleans up."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sret_nas.arch.budget import Budget
from sret_nas.arch.cost import cost_of
from sret_nas.arch.result_file import write_result
from sret_nas.errors import UserError
from sret_nas.output_files import require_free, require_replaceable
from sret_nas.quantities import format_quantity

from ..console import print_line
from ..data import PreparedData
from ..data.dataset_cache import PREPARED_DATA, config_digest
from ..data.preparation import delete_prepared, is_being_prepared
from ..report.front import show_front
from ..report.html import REPORT, ReportInput, write_report
from ..report.outputs import front_file
from ..report.runs import Comparison, RunSummary, runs_table, size_of
from ..runs.comparability import differences, how_it_was_trained, largest_group, what_is_scored
from ..runs.directory import RECORDS_FILE, is_in_use
from ..runs.objectives import error_of, pareto_front
from ..runs.pick import pick_network
from ..runs.recommendation import Recommendations
from ..runs.recorded_search import RecordedSearch, is_running
from ..runs.uncertainty import images_of_trials, predicted_interval
from ..training.error_intervals import format_interval


def list_runs(folder: Path, console: Console, *, as_json: bool) -> None:
    """Prints the searches in a folder, the latest first. One that is damaged or cannot be read is named and left out.

    Raises `UserError` if the folder holds none.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder of runs; a search writes into runs/ unless --out says else")
    summaries, problems = [], []
    for path in sorted(folder.iterdir()):
        try:
            if _has_records(path):
                summaries.append(RunSummary.of(RecordedSearch.open(path)))
        except UserError as error:
            problems.append(f"warning: left out: {error}")
    if not summaries and not problems:
        raise UserError(f"{folder}: holds no runs of searches; name the folder that holds them")
    summaries.sort(key=lambda run: -run.began)
    if as_json:
        console.print_json(json.dumps([run.to_dict() for run in summaries]))
        console = Console(stderr=True)  # JSON stays JSON
    else:
        console.print(runs_table(summaries, console.width))
    for problem in problems:
        print_line(console, problem)


def _has_records(path: Path) -> bool:
    """Returns whether a folder holds records. Raises `UserError` for one that cannot be looked into."""
    try:
        return stat.S_ISREG((path / RECORDS_FILE).stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def show_run(run_dir: Path, console: Console, *, as_json: bool) -> None:
    """Prints the front of a search and what it recommends."""
    search = RecordedSearch.open(run_dir)
    if as_json:
        summary = RunSummary.of(search).to_dict()
        known = search.history.recommended
        summary["front"] = _front(search)
        summary["recommended"] = None if known is None else _recommended(search, known)
        console.print_json(json.dumps(summary))
        return
    print_line(console, f"{run_dir}: {search.state}; {search.options.describe_budget()}; {search.options.strategy}")
    show_front(
        search.history.in_order, search.options, run_dir, search.domain.space.image_size, console,
        search.domain.latency_profile, search.history.recommended,
    )  # fmt: skip


def _front(search: RecordedSearch) -> list[dict[str, Any]]:
    """Returns the front as plain data, cheapest first, with null for what was not measured and files not written."""
    front = []
    for trial in pareto_front(search.history.in_order, search.options.objectives):
        result, final = trial.result, trial.finals.get("fine-tuned")
        assert result is not None
        test = None if trial.test is None else trial.test.error
        file = search.run_dir / front_file(trial)
        front.append(
            {
                "number": trial.number,
                "arch_id": trial.arch_id,
                "flops": result.target.flops,
                "params": result.target.params,
                "error": error_of(result, search.options.objectives),
                "fine_tuned_error": None if final is None else final.error,
                "test_error": test if final is None else final.test_error,
                "file": str(file) if file.is_file() else None,
            }
        )
    return front


def _recommended(search: RecordedSearch, known: Recommendations) -> dict[str, Any]:
    """Returns what is recommended as plain data, with the network and the observed error of each."""
    plain = known.model_dump(mode="json")
    for network in plain["networks"]:
        trial = search.history.trials[network["number"]]
        result = trial.result
        network["arch_id"] = trial.arch_id
        network["observed_error"] = None if result is None else error_of(result, search.options.objectives)
    return plain


def compare_runs(run_dirs: Sequence[Path], cost: str, console: Console, *, as_json: bool) -> None:
    """Prints how the fronts of several searches compare, and the options in which they differ.

    Searches whose numbers are of something else than those of most are left out, each with the reason.

    Raises `UserError` if fewer than two are left, if one is named twice, or if one has no finished trial.
    """
    if len(run_dirs) < 2:
        raise UserError(f"runs compare needs two runs or more, got {run_dirs[0]} alone; runs show tells of one")
    for position, run_dir in enumerate(run_dirs):
        if run_dir.resolve() in [earlier.resolve() for earlier in run_dirs[:position]]:
            raise UserError(f"{run_dir} is named twice: name every run once")
    searches = [RecordedSearch.open(run_dir) for run_dir in run_dirs]
    for search in searches:
        if not any(trial.result is not None for trial in search.history.in_order):
            raise UserError(f"{search.run_dir}: no trial has finished, so there is nothing to compare")
    comparable = largest_group(searches)
    scored = what_is_scored(comparable[0])
    left_out = {
        str(search.run_dir): differences(what_is_scored(search), scored)
        for search in searches
        if search not in comparable
    }
    reasons = [f"{run_dir}: {reason} as in {comparable[0].run_dir}" for run_dir, reason in left_out.items()]
    if len(comparable) < 2:
        raise UserError(f"no two of these runs compare: {' | '.join(reasons)}")
    comparison = Comparison.of(comparable, cost)
    if as_json:
        console.print_json(json.dumps({**vars(comparison), "left_out": left_out}))
        return
    for table in comparison.tables(console.width):
        console.print(table)
    for reason in reasons:
        print_line(console, f"warning: left out: {reason}: these numbers do not compare")
    trained = how_it_was_trained(comparable[0])
    for search in comparable[1:]:
        if difference := differences(how_it_was_trained(search), trained):
            print_line(
                console,
                f"warning: {search.run_dir} was trained otherwise than {comparable[0].run_dir} ({difference}): errors "
                "differ by that as well",
            )


def pick(run_dir: Path, budget: Budget, out: Path | None, console: Console, *, force: bool = False) -> None:
    """Finds the best structure inside a budget by the model of all trials, and writes it as YAML.

    Args:
        run_dir: The search.
        budget: At least one upper bound.
        out: The YAML file; None only prints the network.

    Raises `UserError` if no network meets the budget, or too few trials have finished.
    """
    search = RecordedSearch.open(run_dir)
    if out is not None:
        require_free([out], reads=[run_dir], force=force)
    picked = pick_network(search, budget)
    arch, cost = picked.candidate.arch, cost_of(picked.candidate.arch)
    images = images_of_trials(search.history.in_order)
    interval = predicted_interval(picked.predicted_error, picked.deviation, images)
    on_new = "" if interval is None else f" (on new images {format_interval(interval)} %, with 95 % probability)"
    tried = "not tried yet" if picked.trial is None else f"tried as trial {picked.trial.number}"
    print_line(
        console,
        f"{arch.arch_id}: {format_quantity(cost.flops)} FLOPs, {format_quantity(cost.params)} params, predicted "
        f"validation error {100 * picked.predicted_error:.2f} %{on_new}, {tried}",
    )
    print_line(console, arch.summary())
    if out is None:
        return
    require_free([out], reads=[run_dir], force=force)
    metrics = {
        "predicted_validation_error": picked.predicted_error,
        "standard_deviation": picked.deviation,
        "predicted_interval_on_new_images": None if interval is None else list(interval),
        "note": "of the proxy, by the model of the search's trials",
    }
    number = None if picked.trial is None else picked.trial.number
    provenance = {"run": str(run_dir), "trials": picked.num_trials, "trial": number}
    write_result(out, arch, metrics=metrics, recipe={}, provenance=provenance)
    print_line(console, f"Written to {out}")


def report_run(run_dir: Path, console: Console) -> Path:
    """Writes the report of a search anew and returns its path. Raises `UserError` if it cannot be written."""
    search = RecordedSearch.open(run_dir)
    require_replaceable(run_dir / REPORT)
    written = write_report(
        ReportInput(
            run_dir, search.history, search.options, search.domain, _images(search), is_running=search.is_running
        )
    )
    print_line(console, f"Report: {written}")
    return written


def _images(search: RecordedSearch) -> PreparedData | None:
    """Returns the prepared images beside the run, or None if they are not there any more."""
    directory = search.run_dir.parent / PREPARED_DATA / config_digest(search.options.data_config)
    try:
        return PreparedData.open(directory)
    except UserError:
        return None


def caches_in(folder: Path) -> tuple[list[tuple[Path, int, str]], list[str]]:
    """Returns what can be deleted without losing a result, each with its bytes and what it costs to make anew.

    Prepared images of a folder in which a search or a training runs, or is planned, are left out, and those that a
    process is preparing. So are all if one may run unseen, in a folder that cannot be looked into: the second list has
    a message for each.
    """
    found, searches, problems = [], [], []
    entries = sorted(folder.iterdir())
    for path in entries:
        try:
            if _has_records(path):
                searches.append(path)
        except UserError as error:
            problems.append(f"warning: prepared images are kept, as a search may need them in {error}")
    images = folder / PREPARED_DATA
    if images.is_dir() and not problems and not any(is_in_use(path) for path in entries):
        for path in sorted(images.iterdir()):
            if path.is_dir() and not is_being_prepared(path):
                found.append((path, size_of(path), "images are decoded again by the next search that needs them"))
    for path in searches:
        checkpoints = path / "checkpoints"
        if checkpoints.is_dir() and not is_running(path) and any(checkpoints.iterdir()):
            found.append((checkpoints, size_of(checkpoints), "trials that stopped halfway begin again"))
    return found, problems


def clean(folder: Path, console: Console, *, is_sure: bool, can_ask: bool) -> None:
    """Shows the caches of a folder of runs and, after a question or if `is_sure`, deletes them. Results stay.

    Raises `UserError` if there is no such folder, or if nobody can answer the question.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder of runs")
    caches, problems = caches_in(folder)
    for problem in problems:
        print_line(console, problem)
    if not caches:
        print_line(
            console, f"{folder} holds no caches that can be deleted." if problems else f"{folder} holds no caches."
        )
        return
    table = Table(caption="Results, records and supernets are kept.", caption_justify="left")
    for title in ("cache", "MB", "afterwards"):
        table.add_column(title, justify="right" if title == "MB" else "left", overflow="fold")
    for path, num_bytes, afterwards in caches:
        table.add_row(str(path), f"{num_bytes / 1e6:,.1f}", afterwards)
    console.print(table)
    total = sum(num_bytes for _, num_bytes, _ in caches) / 1e6
    if not is_sure and not can_ask:
        raise UserError("runs clean asks before it deletes, and there is no terminal to ask on: give --yes")
    if not is_sure and console.input(f"Delete these {total:,.1f} MB? [y/N] ").strip().lower() not in ("y", "yes"):
        print_line(console, "Nothing was deleted.")
        return
    deleted = 0
    for path, num_bytes, _ in caches:
        if path.parent != folder / PREPARED_DATA:
            shutil.rmtree(path)
        elif not delete_prepared(path):  # since the question was asked
            print_line(console, f"note: {path} is kept, because its images are being prepared")
            continue
        deleted += num_bytes
    print_line(console, f"Deleted {deleted / 1e6:,.1f} MB.")
