"""The supernet of a search: how it is to be trained, or which file is to be used, and the training itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from sret_nas.arch.config import ArchConfig
from sret_nas.errors import UserError
from sret_nas.files import digest_of_file, validate
from sret_nas.space.search_space import SearchSpace
from sret_nas.space.supernet_shape import bounding_shape

from ..console import print_line
from ..data import PreparedData
from ..distributed.choose_launcher import launcher_for
from ..distributed.launcher import Launcher, RayPlacement
from ..engines.engine import Engine
from ..engines.messages import SupernetSource
from ..lost_directory import LostDirectoryError
from ..machine import num_cores
from ..program_name import resume_command
from ..runs.options import SearchOptions
from ..supernet.config import SupernetConfig
from ..training.recipe import ProxyConfig, proxy_arch
from .session import Run

SUPERNET_DIR = "supernet"
"""Folder in the run directory: the supernet, its checkpoint, its TensorBoard scalars."""


class SupernetSetting(BaseModel):
    """What a search's header says of its supernet."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: SupernetConfig | None = None
    """How it is trained; None for one that was trained before."""
    threads: int = 1
    """CPU threads of each process of its training, on which the last bits of its weights depend."""
    processes: int | None = None
    """Processes that train it on a cluster, on whose number its weights depend; None is the driver's own alone."""
    given: SupernetSource | None = None
    """The file that is used as it is."""


def supernet_setting(
    options: SearchOptions, space: SearchSpace, proxy: ProxyConfig, data: PreparedData
) -> SupernetSetting:
    """Raises `UserError` if the file that was named is no supernet for this space, these proxies and this data."""
    if options.supernet is None:
        processes, threads = _processes(options, len(data.train))
        config = SupernetConfig(training=options.supernet_training(len(data.train)))
        return SupernetSetting(config=config, threads=threads, processes=processes)
    path = Path(options.supernet)
    _check_file(path, space, proxy, data)
    return SupernetSetting(given=SupernetSource(path=str(path), digest=digest_of_file(path)))


def _processes(options: SearchOptions, num_images: int) -> tuple[int | None, int]:
    """How many processes of a cluster train a supernet, None for the driver's own alone, and the threads of each.

    A cluster that has GPUs, or several machines, is put to use: a process for each GPU, or else for each machine, but
    no more than the search may have workers, and as many as can have equal shares of a batch.
    """
    if options.ray_address is not None:
        from ..distributed.ray_group import machines, needs_of

        there = machines()
        num_gpus = 0 if options.device == "cpu" else sum(int(machine.get("GPU", 0)) for machine in there)
        if num_gpus > 0 or len(there) > 1:
            most = num_gpus or min(options.workers, sum(machine.get("CPU", 0) >= 1 for machine in there))
            processes = _equal_shares(min(options.batch_size, num_images), most)
            needs = needs_of("the cluster", RayPlacement(processes=processes), options.device, threads=None)
            return processes, needs.threads
    return None, min(num_cores(), max(1, options.workers) * options.threads)


def _equal_shares(batch_size: int, most: int) -> int:
    """The most processes that divide a batch into equal shares of at least the 2 images that BatchNorm needs."""
    return max(n for n in range(1, max(1, most) + 1) if n == 1 or (batch_size % n == 0 and batch_size // n >= 2))


def recorded_setting(header: dict[str, Any], run_dir: Path) -> SupernetSetting | None:
    """What the header of a recorded search says."""
    if header.get("supernet") is None:
        return None
    return validate(SupernetSetting, header["supernet"], f"{run_dir}: supernet")


def _check_file(path: Path, space: SearchSpace, proxy: ProxyConfig, data: PreparedData) -> None:
    from sret_nas.nn.supernet import Supernet

    supernet, training = Supernet.load(path)
    if training.get("data_digest", data.digest) != data.digest:
        raise UserError(f"{path} was trained on other images; give --data and the options of images as it was trained")

    def narrowed(arch: ArchConfig) -> ArchConfig:
        return proxy_arch(arch, proxy, channels=data.channels, classes=data.num_classes)

    problem = supernet.extent.first_missing(bounding_shape(space, adapted=narrowed))
    if problem is not None:
        raise UserError(f"{path} does not hold all networks of {space.name} at {proxy.image_size} px: {problem}")


def provide_supernet(run: Run, engine: Engine) -> None:
    """Sees to it that the search has its supernet: trained now, carried on, or as recorded. Then it is on record.

    Raises `UserError` if its file is missing or has changed, `ConnectionError` if its processes were lost.
    """
    setting = recorded_setting(run.history.header, run.run_dir)
    if setting is None:
        raise UserError(f"{run.run_dir}: records.jsonl has no `supernet` entry")
    if run.history.supernet is None:
        source, seconds = (setting.given, 0.0) if setting.given is not None else _trained(run, setting, engine)
        run.records.supernet(source, seconds)
        run.history.supernet = source
    assert run.supernet is not None
    if digest_of_file(Path(run.supernet.path)) != run.supernet.digest:
        raise UserError(
            f"{run.supernet.path} is not the supernet that the search was begun with: its content has changed"
        )


def _trained(run: Run, setting: SupernetSetting, engine: Engine) -> tuple[SupernetSource, float]:
    """The supernet, and the seconds that its steps took in all sessions, those that were killed included."""
    from sret_nas.nn.supernet import Supernet

    from ..supernet.job import TrainingJob

    assert setting.config is not None
    config, setting = setting.config, _as_can_be_had(run, setting)
    with _launcher(run, setting, engine) as launcher:
        images = config.training.images
        each = "" if setting.processes is None else f" in each of {setting.processes} processes on the cluster"
        print_line(run.console, f"Training the supernet on {images:,} images, {setting.threads} threads{each}")
        job = TrainingJob(
            space=run.space, budget=run.options.budget, proxy=run.proxy, config=config,
            data_dir=run.data_dir.absolute(), seed=run.options.seed, device=run.options.device,
            threads=setting.threads,
        )  # fmt: skip
        try:
            path = launcher.train(job, run.run_dir / SUPERNET_DIR, run.console)
        except LostDirectoryError as error:
            raise _with_records(run, error) from None
        except ConnectionError as error:
            carry_on = f"carry on with: {resume_command('search', run.run_dir)}"
            raise ConnectionError(f"{error}; {carry_on}") from None
    _, training = Supernet.load(path)
    source = SupernetSource(path=str(path.relative_to(run.run_dir)), digest=digest_of_file(path))
    return source, float(training["seconds"])


def _with_records(run: Run, error: LostDirectoryError) -> LostDirectoryError:
    """The records beside the rescued checkpoint, if the whole run directory is lost and not the supernet's alone."""
    if error.rescued is None or error.rescued.name != SUPERNET_DIR:
        return error
    return run.records.lost(error.rescued.parent)


def _as_can_be_had(run: Run, setting: SupernetSetting) -> SupernetSetting:
    """The setting that the search was begun with, or, with a warning, the nearest that there is room for now."""
    if setting.processes is None:
        return setting
    options, now = run.options, setting.model_copy(update={"processes": None})
    if options.ray_address is not None:
        from ..distributed.ray_group import needs_of

        with suppress(UserError):
            needs_of("the cluster", RayPlacement(processes=setting.processes), options.device, setting.threads)
            return setting
        processes, threads = _processes(options, len(PreparedData.open(run.data_dir).train))
        now = setting.model_copy(update={"processes": processes, "threads": threads})
    text = f"warning: the supernet was to be trained in {_describe(setting)}, and now is in {_describe(now)}"
    print_line(run.console, f"{text}: results may differ")
    return now


def _describe(setting: SupernetSetting) -> str:
    where = "this process" if setting.processes is None else f"{setting.processes} processes of a cluster"
    return f"{where} with {setting.threads} threads"


@contextmanager
def _launcher(run: Run, setting: SupernetSetting, engine: Engine) -> Iterator[Launcher]:
    if setting.processes is None:
        with launcher_for(run.options.device, None) as launcher:
            yield launcher
        return
    from ..distributed.ray_group import ray_launcher
    from ..engines.ray import RayEngine

    assert isinstance(engine, RayEngine)
    placement = RayPlacement(processes=setting.processes)
    with (
        engine.released() as session,
        ray_launcher(session, placement, run.options.device, setting.threads) as launcher,
    ):
        yield launcher
