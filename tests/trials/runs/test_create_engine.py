"""Options become the engine that they name, with the workers, threads and GPUs that they ask for."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from cli import main
from sret_nas.errors import UserError
from tests.trials.engines.jobs_for_ray import look_around
from trials.engines.conformance import run_all
from trials.engines.engine import Engine
from trials.engines.inline import InlineEngine
from trials.engines.local import LocalEngine
from trials.runs.create_engine import create_engine
from trials.runs.engine_options import EngineOptions
from trials.runs.options import SearchOptions

if TYPE_CHECKING:
    from tests.trials.ray_machines import Machines

PLACE = {"do": "place"}


def created(folder: Path, max_jobs: int = 8, **given: Any) -> tuple[Engine, str]:
    """Returns the engine for some options, and what was printed."""
    console = Console(file=io.StringIO(), width=500)
    engine = create_engine(EngineOptions.parse(given, "search"), look_around, max_jobs, folder, console)
    return engine, printed(console)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def process_of(engine: Engine) -> int:
    """Returns the process in which the engine runs a job."""
    (outcome,) = run_all(engine, [PLACE]).values()
    assert outcome.result is not None
    return int(outcome.result["process"])


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trials.runs.engine_options.num_cores", lambda: 8)


def test_without_workers_jobs_run_in_this_process(tmp_path: Path) -> None:
    engine, text = created(tmp_path, workers=0)
    with engine:
        assert isinstance(engine, InlineEngine)
        assert process_of(engine) == os.getpid()
    assert text == ""


@pytest.mark.parametrize("command", [["search"], ["study", "run"]])
def test_without_workers_a_time_limit_has_no_effect_and_that_is_said(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is no error, since searches that were begun so are resumed."""
    engine, text = created(tmp_path, workers=0, trial_timeout=600.0)
    with engine:
        assert text == "note: --trial-timeout has no effect with --workers 0, where trials run in this process\n"
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    assert "with --workers 0 no limit holds" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_no_more_workers_start_than_there_are_jobs(tmp_path: Path) -> None:
    engine, text = created(tmp_path, max_jobs=2, workers=3)
    with engine:
        assert isinstance(engine, LocalEngine)
        assert engine.capacity == 2
        assert process_of(engine) != os.getpid()
    assert text.startswith("note: 3 workers with 1 thread each are more than can be used (8 cores, at most 2 trials at")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ray", "tune"])
def test_a_cluster_is_used_whole_or_as_far_as_was_asked(name: str, tmp_path: Path, machines: Machines) -> None:
    from trials.engines.ray import RayEngine
    from trials.engines.ray_tune import EXPERIMENTS, RayTuneEngine

    cluster: dict[str, Any] = {"engine": name, "ray_address": machines.address}
    for given, capacity in ((cluster, 2), ({**cluster, "workers": 1}, 1)):
        engine, text = created(tmp_path, **given)
        with engine:
            assert isinstance(engine, RayEngine if name == "ray" else RayTuneEngine)
            assert engine.capacity == capacity
            assert process_of(engine) != os.getpid()
            assert (tmp_path / EXPERIMENTS).is_dir() == (name == "tune")
        assert text == ""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ray", "tune"])
def test_a_trial_needs_its_threads_and_gpus(name: str, tmp_path: Path, machines: Machines) -> None:
    with pytest.raises(UserError, match=r"^a trial needs 3 CPUs and 0\.5 GPUs, which no machine of "):
        created(tmp_path, engine=name, ray_address=machines.address, threads=3, gpus_per_trial=0.5)


@pytest.mark.slow
def test_of_a_cluster_that_is_used_whole_nothing_is_said_to_be_unused(tmp_path: Path, machines: Machines) -> None:
    """Although the workers of the last session, which are on record, were more than there are jobs left."""
    given = {"engine": "ray", "ray_address": machines.address, "workers": 5}
    plain = SearchOptions.parse(given, "search").model_dump(mode="json")
    recorded = SearchOptions.recorded(plain, "records", limits_cluster=False)
    options = recorded.resumed_with({})
    assert options.describe_unused(1) is not None
    console = Console(file=io.StringIO(), width=500)
    with create_engine(options, look_around, 1, tmp_path, console) as engine:
        assert engine.capacity == 2
    assert printed(console) == ""
