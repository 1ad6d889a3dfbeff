"""Runs a search from its options to its run directory, or resumes one from its records.

The core, where a strategy proposes trials and an engine runs them, is `trials.search.trial_loop`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sret_nas.errors import UserError
from sret_nas.feasible.feasible_set import FeasibleSet
from sret_nas.files import validate
from sret_nas.latency.profile import LatencyProfile
from sret_nas.latency.table import check_is_predicted
from sret_nas.plurals import counted
from sret_nas.space.search_space import SearchSpace

from ..console import Console, Working, print_line
from ..data import PreparedData
from ..data.dataset_cache import cached_dataset, require_apart, same_dataset
from ..data.sufficiency import data_warnings
from ..engines.engine import Engine
from ..integrations.trackers import require_trackers
from ..interruption import ignore_signals_after_interrupt, unwrapped_interrupts
from ..lost_directory import LostDirectoryError
from ..program_name import resume_command
from ..runs.create_engine import create_engine
from ..runs.directory import versions
from ..runs.events import check_header
from ..runs.full_disk import full_disk_explained, recorded_in, writing
from ..runs.history import read_history
from ..runs.options import SearchOptions
from ..runs.optuna_journal import JOURNAL_FILE, OptunaJournal
from ..runs.recorded_search import domain_of, num_possible, recorded_profile, require_candidates
from ..runs.records import Records
from ..runs.remote_copy import copied, store_for_new_search, store_for_resumed_search
from ..runs.target import require_possible, target_for
from ..runs.trial import Trial
from ..strategies.create import create_strategy
from ..strategies.sret import SReTDomain
from ..training.prepared_labels import SoftLabelSource
from ..training.recipe import ProxyConfig
from ..worker.entry import JobRunner
from .announce import announce
from .enqueue import enqueued_candidates
from .finalists import train_finalists
from .front_latency import measure_front
from .front_tests import run_front_tests
from .given_supernet import GivenSupernet
from .latency_profile import PROFILES, latency_profile
from .plan import Plan, require_device, require_gpu, require_rungs
from .recommend import recommend
from .results import journal_of, write_results
from .run import Run, job_context_of
from .supernet import SupernetProvision, provide_supernet, recorded_provision, requested_provision, require_given
from .tracking import Tracking
from .trial_loop import restored_front, run_trials

_MEASURING = "Measuring how fast a typical network trains on this machine"


@ignore_signals_after_interrupt()
def start_search(options: SearchOptions, run_dir: Path, command: list[str], console: Console) -> Run:
    """Runs a new search to its end and returns it.

    Raises `UserError`, before anything is written, if the search is impossible, and `StorageError` if the disk is full.
    """
    require_device(options)
    options, space = _options_and_space(options, console)
    require_possible(space, options.budget)
    require_apart(run_dir, options.data_config)
    require_trackers(options.log)
    store = store_for_new_search(options.storage, run_dir)
    with Records(run_dir) as records:
        try:
            with full_disk_explained(None, "the search has not begun"), _lost_directory_explained(records):
                run, engine = _begin(options, space, records, command, console)
        except BaseException:
            records.withdraw()
            raise
        with copied(store, run_dir, console), engine, _full_disk_explained(run_dir):
            _run_to_the_end(run, engine)
    return run


@ignore_signals_after_interrupt()
def plan_search(options: SearchOptions, run_dir: Path, console: Console) -> None:
    """Prints the plan of a search that would run in `run_dir`, and begins nothing. Raises as `start_search` does.

    Decoded images and latency profiles are kept beside `run_dir`, where the search will find them.
    """
    began = time.monotonic()
    require_device(options)
    options, space = _options_and_space(options, console)
    require_possible(space, options.budget)
    require_apart(run_dir, options.data_config)
    _prepared(options, space, run_dir, lambda: time.monotonic() - began, console).engine.close()
    print_line(console, "Dry run: that is the plan, and nothing was begun")


def _options_and_space(options: SearchOptions, console: Console) -> tuple[SearchOptions, SearchSpace]:
    """Returns the options, completed by a given supernet's, and the space. Raises `UserError` if they contradict."""
    options, space = _completed(options, console)
    if options.uses_latency:
        check_is_predicted(space)
    return options, space


def _completed(options: SearchOptions, console: Console) -> tuple[SearchOptions, SearchSpace]:
    if options.supernet is None:
        return options, options.load_space()
    supernet = GivenSupernet.read(Path(options.supernet))
    options = supernet.completed(options)
    space = supernet.space(options)
    print_line(console, supernet.describe(space, options))
    return options, space


@contextmanager
def _lost_directory_explained(records: Records) -> Iterator[None]:
    """Turns errors into a `LostDirectoryError`, with all records rescued, if the run directory was lost."""
    try:
        yield
    except LostDirectoryError:
        raise
    except (OSError, UserError) as error:
        if records.is_lost:
            raise records.lost() from error
        raise


@dataclass(frozen=True)
class _PlannedSearch:
    """A search that has been planned, but has not begun; its engine runs."""

    options: SearchOptions
    domain: SReTDomain
    data_dir: Path
    data: PreparedData
    proxy: ProxyConfig
    provision: SupernetProvision | None
    soft_labels: SoftLabelSource | None
    profile: LatencyProfile | None
    plan: Plan
    engine: Engine


def _prepared(
    options: SearchOptions, space: SearchSpace, run_dir: Path, spent: Callable[[], float], console: Console
) -> _PlannedSearch:
    """Prepares the images, measures the plan and announces it.

    Args:
        spent: Returns the seconds since the search was asked for.
    """
    data_dir, data = cached_dataset(run_dir, options.data_config, console)
    space, line = target_for(space, data)
    for note in (*data_warnings(data, balanced_error=options.balanced_error), *([] if line is None else [line])):
        print_line(console, note)
    FeasibleSet(space, options.budget).check()
    proxy = options.proxy(len(data.train))
    require_rungs(options, proxy, data)
    labels = None if options.soft_labels is None else SoftLabelSource.of(options.soft_labels, data)
    engine = create_engine(options, JobRunner(), options.max_jobs, run_dir, console)
    try:
        if options.uses_whole_cluster:
            options = options.with_workers(engine.capacity, "search")
        profile = None
        if options.uses_latency:
            profile = latency_profile(engine, space, options, run_dir.parent / PROFILES, console)
        domain = domain_of(space, options, profile)
        enqueued_candidates(domain, options)  # what cannot be tried is told before anything is trained
        provision = None if options.no_supernet else requested_provision(options, data)
        context = job_context_of(options, proxy, data_dir, data.digest, "fp32", labels)
        with Working(console, _MEASURING):
            plan = Plan(engine, domain, options, context, provision, options.precision)
        require_gpu(options, plan.device)
        plan.require_time(spent=spent())
        plan.require_timeout()
        num_trials = num_possible(domain, options.trials)
        if num_trials < options.trials:
            candidates = counted(num_trials, "candidate lies", "candidates lie")
            print_line(console, f"note: {candidates} inside the budget, fewer than --trials {options.trials}")
        announce(plan, console, num_trials, spent())
        if labels is not None:
            training = proxy.training if provision is None or provision.config is None else provision.config.training
            print_line(console, f"Labels: {labels.describe(data, training.num_epochs(len(data.train)))}")
        return _PlannedSearch(options, domain, data_dir, data, proxy, provision, labels, profile, plan, engine)
    except BaseException:
        engine.close()
        raise


def _begin(
    options: SearchOptions,
    space: SearchSpace,
    records: Records,
    command: list[str],
    console: Console,
) -> tuple[Run, Engine]:
    """Prepares and plans a search, and only then writes the first record."""
    search = _prepared(options, space, records.run_dir, lambda: records.now() - records.began, console)
    try:
        print_line(console, f"Results: {records.run_dir}")
        history = records.start(_header(search, command))
        search.engine.keep_files()
    except BaseException:
        search.engine.close()
        raise
    run = Run(
        records.run_dir, search.options, search.domain, search.data_dir, search.proxy, records, history, console
    )  # fmt: skip
    return run, search.engine


def _header(search: _PlannedSearch, command: list[str]) -> dict[str, Any]:
    """Returns the first record: all that decides the search."""
    space, data, plan, provision = search.domain.space, search.data, search.plan, search.provision
    return {
        "command": [word.encode(errors="backslashreplace").decode() for word in command],  # one may not be UTF-8
        "options": search.options.model_dump(mode="json"),
        "space": space.to_dict(),
        "space_digest": space.digest,
        "proxy": search.proxy.model_dump(mode="json"),
        "data": {"summary": data.summary(), "digest": data.digest, "classes": data.num_classes},
        "device": plan.device,
        "precision": plan.precision,
        "expected": {
            "trial_seconds": round(plan.trial_seconds, 3),
            "final_seconds": round(plan.control_seconds, 3),
        },
        "versions": versions(),
        "latency": None if search.profile is None else recorded(search.profile),
        "supernet": None if provision is None else provision.in_precision(plan.precision).model_dump(mode="json"),
        "soft_labels": None if search.soft_labels is None else search.soft_labels.model_dump(mode="json"),
        **({"limits_cluster": True} if search.options.limits_cluster else {}),
    }


def recorded(profile: LatencyProfile) -> dict[str, Any]:
    """Returns a latency profile for the header.

    The header keeps the whole profile, so that later measurements on this machine do not change the search.
    """
    return {"digest": profile.digest, "profile": profile.model_dump(mode="json")}


def _recorded_options(header: dict[str, Any], run_dir: Path) -> SearchOptions:
    """Returns the options that a search was begun with. Raises `UserError` for options that are refused by now."""
    try:
        limits_cluster = header.get("limits_cluster", False)
        return SearchOptions.recorded(header["options"], str(run_dir), limits_cluster=limits_cluster)
    except UserError as error:
        raise UserError(f"{error}; an earlier version began this search with such options: start a new one") from None


@ignore_signals_after_interrupt()
def resume_search(run_dir: Path, given: Mapping[str, Any], console: Console) -> Run:
    """Resumes a recorded search, runs it to its end and returns it.

    Args:
        given: Options on the command line, plain data by field name of `SearchOptions`. Those that may not change must
            equal the recorded ones.

    Raises `UserError` if the search cannot be resumed, and `StorageError` if the disk is full.
    """
    began = time.monotonic()
    with Records(run_dir, must_exist=True) as records, _full_disk_explained(run_dir):
        history = records.reopen()
        header = history.header
        check_header(header, f"{run_dir}: header of the records")
        options = _recorded_options(header, run_dir).resumed_with(given)
        require_trackers(options.log)
        store = store_for_resumed_search(options.storage, run_dir)
        space = SearchSpace.from_dict(header["space"], str(run_dir))
        domain = domain_of(space, options, recorded_profile(header, run_dir))
        require_candidates(history, domain, run_dir)
        data_dir, data = same_dataset(run_dir, options.data_config, header["data"]["digest"], console, "search")
        proxy = validate(ProxyConfig, header["proxy"], str(run_dir))
        run = Run(run_dir, options, domain, data_dir, proxy, records, history, console)
        require_given(run)
        if run.soft_labels is not None:
            run.soft_labels.open(data)
        num_ended = history.num_ended
        print_line(console, describe_progress(run_dir, num_ended, options.trials))
        with create_engine(options, JobRunner(), options.max_jobs, run_dir, console) as engine:
            engine.keep_files()
            device = header["device"]
            num_left = num_possible(domain, options.trials - num_ended, history)
            if num_left > 0:
                with Working(console, _MEASURING):
                    provision = recorded_provision(header, run_dir)
                    is_trained = history.supernet is not None
                    plan = Plan(engine, domain, options, run.job_context, provision, is_trained=is_trained)
                announce(plan, console, num_left, time.monotonic() - began)
                print_line(console, f"Results: {run_dir}")
                _warn_of_changes(header, plan.device, console)
                device = plan.device
            require_gpu(options, device)
            records.resumed(options.model_dump(mode="json"), versions(), limits_cluster=options.limits_cluster)
            header["options"] = options.model_dump(mode="json")
            with copied(store, run_dir, console):
                _run_to_the_end(run, engine)
    return run


def describe_progress(run_dir: Path, num_ended: int, trials: int) -> str:
    """Returns the line that says how many trials of a resumed search have ended."""
    if num_ended > trials:
        ended = counted(num_ended, "trial has", "trials have")
        return f"Resuming {run_dir}: {ended} ended already, more than --trials {trials}: none is added"
    return f"Resuming {run_dir}: {num_ended} of {counted(trials, 'trial has', 'trials have')} ended."


def _full_disk_explained(run_dir: Path) -> AbstractContextManager[None]:
    return full_disk_explained(resume_command("search", run_dir), recorded_in(run_dir))


def _warn_of_changes(header: dict[str, Any], device: str, console: Console) -> None:
    """Warns if the package versions or the device changed, because the next trials may then differ."""
    then = {**header["versions"], "device": header["device"]}
    now = {**versions(), "device": device}
    for name, before in then.items():
        if before != now[name]:
            text = f"warning: begun with {name} {before}, carried on with {now[name]}: results may differ"
            print_line(console, text)


def _run_to_the_end(run: Run, engine: Engine) -> None:
    """Runs the trials, tests the best and writes the outputs, also those of an interrupted search."""
    with _lost_directory_explained(run.records):
        run.tracking = Tracking(run.run_dir, run.options, run.domain.chain, run.console)
        for trial in run.trials:
            if trial.has_ended:
                run.track(trial)
        _run_all(run, engine)


def _run_all(run: Run, engine: Engine) -> None:
    try:
        with unwrapped_interrupts():
            _run_phases(run, engine)
    except KeyboardInterrupt:
        try:
            run.records.interrupted()
            # The signal may have come between an event's line and the history's change by it.
            run.history = read_history(run.run_dir)
            write_results(run, is_complete=False)
        finally:  # also if Ctrl-C is pressed again while outputs are written
            if not run.records.is_lost:
                print_line(run.console, f"Interrupted; carry on with: {resume_command('search', run.run_dir)}")
        raise
    run.records.require_in_place()
    run.history.are_finals_open = False  # the report is the first to say so, as it is among the results
    write_results(run, is_complete=True)
    run.records.ended_search()


def _run_phases(run: Run, engine: Engine) -> None:
    if not run.options.no_supernet:
        provide_supernet(run, engine)
    journal = _run_trials(run, engine)
    recommend(run, engine, partial(_add_to_journal, run, journal))
    run.records.finals()
    if run.options.no_supernet:
        run_front_tests(run, engine)
    else:
        train_finalists(run, engine)
    measure_front(run, engine)


def _run_trials(run: Run, engine: Engine) -> OptunaJournal | None:
    """Runs the trials that have not ended. Where all have, the strategy is not asked again from the beginning.

    Returns the journal; None if there is nothing to add to it yet.
    """
    if run.has_all_trials:
        restored_front(run)  # deletes what a kill left
        return None
    options = run.options
    strategy = create_strategy(
        options.strategy, run.domain, options.objectives, seed=options.seed, population=options.population
    )
    journal = journal_of(run)
    run_trials(run, strategy, engine, journal)
    return journal


def _add_to_journal(run: Run, journal: OptunaJournal | None, trial: Trial) -> None:
    """Adds a trial that has ended to the journal; without one, `write_results` writes it anew."""
    if journal is not None:
        with writing(run.run_dir / JOURNAL_FILE):
            journal.add(trial)
