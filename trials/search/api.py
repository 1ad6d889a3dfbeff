"""A whole search as one call: `from sret_nas import search`."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.arrays import holds_numpy, without_numpy
from sret_nas.errors import UserError, describe
from sret_nas.files import as_path
from sret_nas.quantities import parse_duration, parse_quantity

from ..console import Console
from ..runs.best import choose_best
from ..runs.directory import new_run_dir
from ..runs.objective_texts import known_values
from ..runs.objectives import Objective, pareto_front
from ..runs.option_groups import flag
from ..runs.options import SearchOptions
from ..runs.pick import pick_network
from ..runs.recorded_search import RecordedSearch
from ..runs.remote_storage import is_bucket
from ..runs.trial import Trial
from .resumed_directory import resumed_directory
from .search import resume_search, start_search

_QUANTITIES = ("flops_budget", "params_budget", "flops_min", "params_min", "shallowest_flops_budget")
_DURATIONS = ("time_budget", "trial_timeout")
_LISTS = ("objectives", "log")


@dataclass(frozen=True)
class FoundNetwork:
    """A network that a search tried or picked. Errors are the proxy's, from 0 to 1; costs are the network's own."""

    arch: ArchConfig
    flops: int
    params: int
    error: float | None
    """Observed validation error, one score; None if no trial tried it."""
    predicted_error: float | None = None
    """Posterior mean of the model of all trials; None for a network that was not recommended or picked."""
    test_error: float | None = None
    """Error on the test part, if it was tested at the end."""
    depth_error: float | None = None
    """Mean of the observed validation errors over the recursion depths; None unless that was an objective."""

    @classmethod
    def of(
        cls, trial: Trial, predicted_error: float | None = None, objectives: Sequence[Objective] = ("error", "flops")
    ) -> FoundNetwork:
        """Returns the network of a trial of a search with these objectives."""
        final, result = trial.finals.get("fine-tuned"), trial.result
        test = final.test_error if final is not None else None if trial.test is None else trial.test.error
        cost = cost_of(trial.candidate.arch)
        error = None if result is None else result.error
        depth_error = None if result is None else known_values(result, objectives).get("depth_error")
        return cls(trial.candidate.arch, cost.flops, cost.params, error, predicted_error, test, depth_error)


@dataclass(frozen=True)
class SearchResult:
    """The results of a search, read from its run directory."""

    run_dir: Path
    front: tuple[FoundNetwork, ...]
    """The Pareto-optimal networks, cheapest first."""
    recommended: tuple[FoundNetwork, ...]
    """The best structures at the budget and at shares of it, most expensive first; none whose trial failed."""
    best: FoundNetwork
    """The network of `best.yaml`."""
    reason: str
    """Why it is the best."""

    @classmethod
    def open(cls, run_dir: str | Path) -> SearchResult:
        """Returns the results in a run directory. Raises `UserError` if it holds no search with a finished trial."""
        search = RecordedSearch.open(as_path(run_dir, "the run directory"))
        trials, known = search.history.in_order, search.history.recommended
        if not any(trial.result is not None for trial in trials):
            raise UserError(f"{run_dir}: no trial has finished, so there are no results")
        objectives = search.options.objectives
        best, reason = choose_best(trials, objectives, search.options.best_by, known)
        networks = () if known is None else known.networks
        predicted = {network.number: network.predicted_error for network in networks}
        return cls(
            run_dir=search.run_dir.absolute(),  # a notebook may move to another folder before it picks
            front=tuple(FoundNetwork.of(trial, None, objectives) for trial in pareto_front(trials, objectives)),
            recommended=tuple(
                FoundNetwork.of(trial, error, objectives)
                for number, error in predicted.items()
                if (trial := search.history.trials[number]).result is not None
            ),
            best=FoundNetwork.of(best, predicted.get(best.number), objectives),
            reason=reason,
        )

    def pick(self, *, flops: int | str | None = None, params: int | str | None = None) -> FoundNetwork:
        """Returns the best structure at a cost, by the model of all trials; it trains nothing.

        Args:
            flops: Maximum FLOPs, such as `600_000_000` or `"600M"`.
            params: Maximum number of parameters.

        Raises `UserError` if neither is given, if no network is that cheap, or if too few trials have finished.
        """
        budget = Budget(flops_max=_cost("flops", flops), params_max=_cost("params", params))
        search = RecordedSearch.open(self.run_dir)
        picked = pick_network(search, budget)
        if picked.trial is not None:
            return FoundNetwork.of(picked.trial, picked.predicted_error, search.options.objectives)
        cost = cost_of(picked.candidate.arch)
        return FoundNetwork(picked.candidate.arch, cost.flops, cost.params, None, picked.predicted_error)


def search(
    *, out: str | Path | None = None, resume: str | Path | None = None, quiet: bool = False, **options: Any
) -> SearchResult:
    """Runs a search to its end, as `sret-nas search` does, and returns its results.

    Args:
        out: The run directory to create; None names one by date and time in `runs/`. With `resume` it is where a copy
            is fetched to.
        resume: The run directory of a search to carry on instead, or a copy of it.
        quiet: Whether nothing is printed.
        options: The options of the command line, with `_` for `-`: `search(flops_budget="1G", trials=100)`. Values are
            numbers, or as they are typed: `"1G"`, `"1h30m"`, `"error,params"`. `enqueue` is a list of YAML files or of
            `ArchConfig`. `config`, `dry_run` and `open` are of the command line alone.

    Raises `UserError` for options and data that cannot be used, as the command does.
    """
    console = Console(file=io.StringIO()) if quiet else Console()
    given = {name: _parsed(name, value) for name, value in options.items()}
    if resume is not None:
        named = str(resume) if is_bucket(str(resume)) else as_path(resume, "resume")
        run_dir = resumed_directory(named, None if out is None else as_path(out, "out"), given, console)
        run = resume_search(run_dir, given, console)
    else:
        run_dir = new_run_dir() if out is None else as_path(out, "out")
        run = start_search(SearchOptions.parse(given, "search"), run_dir, _command(options), console)
    return SearchResult.open(run.run_dir)


def _parsed(name: str, value: Any) -> Any:
    """Returns the value of an option as the command line parses it. Raises `UserError`, naming the option."""
    try:
        if name in _QUANTITIES:
            return _number(value)
        if name in _DURATIONS and isinstance(value, str):
            return parse_duration(value)
        if name in _LISTS and isinstance(value, str):
            return tuple(word.strip() for word in value.split(","))
        if name == "enqueue" and value is not None:
            return tuple(_network(each) for each in _listed(value))
        if name == "space" and not isinstance(value, str | Path):
            raise UserError(
                f"must be the name of a shipped space or a YAML file, got {describe(value)}: write a space made in "
                "Python to a file, as dump_yaml(space.to_dict()) of sret_nas.yaml_files"
            )
    except UserError as error:
        raise UserError(f"{flag(name)}: {error}") from None
    return _plain(value)


def _cost(name: str, value: float | str | None) -> int | None:
    """Returns a cost as a whole number. Raises `UserError`, naming the argument, if it is none."""
    try:
        return _number(value)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None


def _number(value: float | str | None) -> int | None:
    """Returns a quantity such as `1G` or 1e9 as a whole number. Raises `UserError` if it is none."""
    if isinstance(value, bool) or not isinstance(value, Real | str | None):
        raise UserError(f"must be a number such as 1G, got {value!r}")
    if isinstance(value, Real) and not isinstance(value, Integral) and not float(value).is_integer():
        raise UserError(f"must be a whole number, got {float(value):g}")
    return parse_quantity(value) if isinstance(value, str) else None if value is None else int(value)


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, Sequence) and not isinstance(value, str) else [value]


def _network(value: Any) -> Any:
    """Returns a network, given as a YAML file or as `ArchConfig`, as plain data."""
    if isinstance(value, str | Path):
        value = ArchConfig.from_yaml(value)
    return value.to_dict() if isinstance(value, ArchConfig) else value


def _plain(value: Any) -> Any:
    """Returns a value as the command line gives it: paths as text, lists as tuples, numpy's numbers as Python's."""
    if isinstance(value, Path):
        return str(value)
    if holds_numpy(value):
        value = without_numpy(value)
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _command(options: dict[str, Any]) -> list[str]:
    """Returns the command that runs the same search, for the records. Networks that are in no file have their id."""
    words = ["sret-nas", "search"]
    for name, value in ((name, _plain(value)) for name, value in options.items()):
        if value is True:
            words.append(flag(name))
        elif name == "enqueue" and value is not None:
            networks = (each.arch_id if isinstance(each, ArchConfig) else str(each) for each in _listed(value))
            words += [flag(name), *networks]
        elif value is not None and value is not False:
            is_one = isinstance(value, str | Path | Real)
            words += [flag(name), str(value) if is_one else ",".join(map(str, value))]
    return words
