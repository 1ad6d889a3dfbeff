"""The supernet of a search: its provision (how to train it, or which file to use), and its training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from sret_nas.errors import UserError
from sret_nas.files import digest_of_file, validate
from sret_nas.plurals import counted
from sret_nas.space.search_space import DepthSchedule

from ..console import print_line
from ..data import PreparedData
from ..distributed.choose_launcher import launcher_for
from ..distributed.launcher import Launcher, RayPlacement
from ..engines.engine import Engine
from ..engines.jobs import SupernetSource
from ..lost_directory import LostDirectoryError
from ..machine import cores_per_process, num_cores
from ..program_name import resume_command
from ..runs.directory import SUPERNET_DIR
from ..runs.options import SearchOptions
from ..supernet.config import SupernetConfig
from ..training.recipe import DivergedError, Precision
from .run import Run


class SupernetProvision(BaseModel):
    """The supernet in a search's header: either `config` or `given` is set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: SupernetConfig | None = None
    """How it is trained; None for a given file."""
    threads: int = 1
    """CPU threads of each training process. The last bits of the weights depend on them."""
    processes: int | None = None
    """Training processes on a cluster. The weights depend on their number. None trains in the driver's process."""
    given: SupernetSource | None = None
    """The file of a trained supernet, used as it is."""

    def in_precision(self, precision: Precision) -> SupernetProvision:
        """Returns this provision with a supernet that is trained in a precision."""
        if self.config is None:
            return self
        return self.model_copy(update={"config": self.config.model_copy(update={"precision": precision})})


def requested_provision(options: SearchOptions, data: PreparedData) -> SupernetProvision:
    """Returns the provision that the options ask for.

    Raises `UserError` if `--supernet` was not trained on these images.
    """
    if options.supernet is None:
        processes, threads = _processes(options, len(data.train))
        # One depth a step, so that depths cost nothing: each step trains another network anyway.
        schedule: DepthSchedule = "random" if options.scores_depths else "full"
        config = SupernetConfig(training=options.supernet_training(len(data.train)), depth_schedule=schedule)
        return SupernetProvision(config=config, threads=threads, processes=processes)
    path = Path(options.supernet)
    _check_file(path, data)
    return SupernetProvision(given=SupernetSource(path=str(path), digest=digest_of_file(path)))


def _processes(options: SearchOptions, num_images: int) -> tuple[int | None, int]:
    """Returns the number of processes that train a supernet on a cluster, and the threads of each.

    There is one process per GPU, or per machine on a cluster without GPUs (at most `--workers`), reduced until all get
    equal shards of a batch. The number is None, for the driver's process, if the cluster is one machine without GPUs.
    """
    if options.ray_address is not None:
        from ..distributed.ray_group import machines, needs_of

        there = machines()
        num_gpus = 0 if options.device == "cpu" else sum(int(machine.get("GPU", 0)) for machine in there)
        if num_gpus > 0 or len(there) > 1:
            most = num_gpus or min(options.workers, sum(machine.get("CPU", 0) >= 1 for machine in there))
            processes = _num_equal_shards(min(options.batch_size, num_images), most)
            needs = needs_of("the cluster", RayPlacement(processes=processes), options.device, threads=None)
            return processes, needs.threads
    return None, _threads_here(options)


def _threads_here(options: SearchOptions) -> int:
    """Returns the threads that train a supernet in this process: those that all workers have together later.

    If neither `--workers` nor `--threads` nor a cluster says how many these are, `OMP_NUM_THREADS` bounds them, as
    in every command.
    """
    is_chosen = options.ray_address is not None or bool({"workers", "threads"} & options.model_fields_set)
    return min(num_cores() if is_chosen else cores_per_process(), max(1, options.workers) * options.threads)


def _num_equal_shards(batch_size: int, most: int) -> int:
    """Returns the maximum number of processes, up to `most`, that get equal shards of a batch.

    A shard has at least 2 images, which BatchNorm needs.
    """
    return max(n for n in range(1, max(1, most) + 1) if n == 1 or (batch_size % n == 0 and batch_size // n >= 2))


def recorded_provision(header: dict[str, Any], run_dir: Path) -> SupernetProvision | None:
    """Returns the supernet's provision in a recorded header; None if trials train from scratch."""
    if header.get("supernet") is None:
        return None
    return validate(SupernetProvision, header["supernet"], f"{run_dir}: supernet")


def _check_file(path: Path, data: PreparedData) -> None:
    """Raises `UserError` if a file's weights cannot be read, or were trained on other images."""
    from sret_nas.nn.supernet import Supernet

    _, training = Supernet.load(path)
    if training.get("data_digest", data.digest) != data.digest:
        recorded = training.get("data", {}).get("source", "other ones")
        raise UserError(
            f"{path} was trained on other images ({recorded}) than those of {data.config.source}: give --data and the "
            "options of images as it was trained, or leave them out"
        )


def provide_supernet(run: Run, engine: Engine) -> None:
    """Provides the supernet: trains it, resumes its training, or uses the recorded file. Records it if it is new.

    Raises `UserError` if its file is missing or has changed, and `ConnectionError` if training processes were lost.
    """
    provision = recorded_provision(run.history.header, run.run_dir)
    if provision is None:
        raise UserError(f"{run.run_dir}: records.jsonl has no `supernet` entry")
    if run.history.supernet is None:
        source, seconds = (provision.given, 0.0) if provision.given is not None else _trained(run, provision, engine)
        run.records.supernet(source, seconds)
        run.history.supernet = source
    assert run.supernet is not None
    _require_same(run.supernet, "a resumed search", None if provision.given is None else "--supernet")


def require_given(run: Run, work: str = "a resumed search", option: str = "--supernet") -> None:
    """Raises `UserError` unless the supernet that a search was given is there, and the one that it was begun with.

    Args:
        run: The search; one that trained its supernet, or has none, was given none.
        work: What needs it, in the message.
        option: What says where it is, in the message.
    """
    provision = recorded_provision(run.history.header, run.run_dir)
    if provision is not None and provision.given is not None:
        path = run.options.supernet or provision.given.path
        _require_same(provision.given.model_copy(update={"path": path}), work, option)


def _require_same(source: SupernetSource, work: str, option: str | None) -> None:
    """Raises `UserError` unless a supernet's file is there with its recorded content; None is no option to move it."""
    try:
        digest = digest_of_file(Path(source.path))
    except UserError as error:
        where = "where it was: put it back there" if option is None else f"as {option} says, or where it was"
        raise UserError(f"{error} ({work} needs its supernet {where})") from None
    if digest != source.digest:
        elsewhere = "" if option is None else f" or say with {option} where it is,"
        raise UserError(
            f"{source.path} is not the supernet that the search was begun with: its content has changed; put that one "
            f"back,{elsewhere} or start a new search"
        )


def _trained(run: Run, provision: SupernetProvision, engine: Engine) -> tuple[SupernetSource, float]:
    """Trains the supernet; returns it, and the seconds of its steps in all sessions, killed ones included."""
    from sret_nas.nn.supernet import Supernet

    from ..supernet.job import TrainingJob

    assert provision.config is not None
    config, provision = provision.config, _feasible_now(run, provision)
    with _launcher(run, provision, engine) as launcher:
        images = config.training.images
        where = "" if provision.processes is None else f" in each of {_num_processes(provision)} on the cluster"
        threads = counted(provision.threads, "thread")
        print_line(run.console, f"Training the supernet on {images:,} images, {threads}{where}")
        job = TrainingJob(
            space=run.space, budget=run.options.budget, proxy=run.proxy, config=config,
            data_dir=run.data_dir.absolute(), seed=run.options.seed, device=run.options.device,
            threads=provision.threads, soft_labels=run.soft_labels,
        )  # fmt: skip
        try:
            path = launcher.train(job, run.run_dir / SUPERNET_DIR, run.console)
        except LostDirectoryError as error:
            raise _with_records(run, error) from None
        except DivergedError as error:
            raise UserError(f"the supernet's training diverged: {error}") from None
        except ConnectionError as error:
            carry_on = f"carry on with: {resume_command('search', run.run_dir)}"
            raise ConnectionError(f"{error}; {carry_on}") from None
    _, training = Supernet.load(path)
    source = SupernetSource(path=str(path.relative_to(run.run_dir)), digest=digest_of_file(path))
    return source, float(training["seconds"])


def _with_records(run: Run, error: LostDirectoryError) -> LostDirectoryError:
    """Rescues the records beside the checkpoint if the whole run directory is lost; returns the error to raise."""
    if error.rescued is None or error.rescued.name != SUPERNET_DIR:
        return error
    return run.records.lost(error.rescued.parent)


def _feasible_now(run: Run, provision: SupernetProvision) -> SupernetProvision:
    """Returns the recorded provision or, with a warning, one that fits the cluster as it is now."""
    if provision.processes is None:
        return provision
    options, now = run.options, provision.model_copy(update={"processes": None})
    if options.ray_address is not None:
        from ..distributed.ray_group import needs_of

        with suppress(UserError):
            needs_of("the cluster", RayPlacement(processes=provision.processes), options.device, provision.threads)
            return provision
        processes, threads = _processes(options, len(PreparedData.open(run.data_dir).train))
        now = provision.model_copy(update={"processes": processes, "threads": threads})
    text = f"warning: the supernet was to be trained in {_describe(provision)}, and now is in {_describe(now)}"
    print_line(run.console, f"{text}: results may differ")
    return now


def _num_processes(provision: SupernetProvision) -> str:
    return counted(provision.processes or 1, "process", "processes")


def _describe(provision: SupernetProvision) -> str:
    where = "this process" if provision.processes is None else f"{_num_processes(provision)} of a cluster"
    return f"{where} with {counted(provision.threads, 'thread')}"


@contextmanager
def _launcher(run: Run, provision: SupernetProvision, engine: Engine) -> Iterator[Launcher]:
    if provision.processes is None:
        with launcher_for(run.options.device, None) as launcher:
            yield launcher
        return
    from ..distributed.ray_group import ray_launcher
    from ..engines.ray import RayEngine
    from ..engines.ray_tune import RayTuneEngine

    assert isinstance(engine, RayEngine | RayTuneEngine)
    placement = RayPlacement(processes=provision.processes)
    with (
        engine.released() as session,
        ray_launcher(session, placement, run.options.device, provision.threads) as launcher,
    ):
        yield launcher
