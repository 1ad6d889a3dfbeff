"""The Ray engine, on this machine and on a cluster: failures of workers and of the cluster's machines."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import ray

from sret_nas.errors import UserError
from tests import REPOSITORY
from tests.trials.engines.jobs_for_ray import look_around
from tests.trials.engines.marked_processes import MARK, await_that
from tests.trials.ray_machines import LOOPBACK, Machines, listening_addresses, with_descendants
from tests.trials.ray_private import metadata_changed
from trials.engines import ray_calls
from trials.engines.conformance import EngineContract, run_all
from trials.engines.engine import Engine, Outcome
from trials.engines.ray import MAX_FALSE_STARTS, RayEngine
from trials.engines.ray_calls import HeadLostError
from trials.engines.ray_pool import POLL_SECONDS

pytestmark = pytest.mark.slow


def results(outcomes: dict[int, Outcome]) -> list[dict[str, Any]]:
    """Returns all results by the job's number. Fails if a job has none."""
    assert [outcome.failure for outcome in outcomes.values()] == [None] * len(outcomes)
    return [outcomes[job].result or {} for job in sorted(outcomes)]


def is_gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.fixture(scope="class")
def started() -> Iterator[RayEngine]:
    with RayEngine(look_around, num_workers=2) as engine:
        yield engine


def started_by(engine: RayEngine) -> list[psutil.Process]:
    """Returns the processes of an engine's own Ray. This process may have others: a cluster's, for other tests."""
    head = engine._session._head  # type: ignore[attr-defined]
    return with_descendants(psutil.Process(head._process.pid))


class TestOnThisMachine(EngineContract):
    """The engine on a private Ray: what every engine keeps to, and what is its own."""

    @pytest.fixture
    def engine(self, started: RayEngine) -> Iterator[RayEngine]:
        yield started
        while started.wait():
            pass

    @pytest.mark.parametrize("what", ["exit", "kill"])
    def test_a_worker_that_dies_takes_only_its_own_job(self, engine: Engine, what: str) -> None:
        outcomes = run_all(engine, [{"do": "place", "value": 1}, {"do": what}, {"do": "place", "value": 2}])
        failure = outcomes[1].failure
        assert failure is not None
        assert failure.cause == "worker died"
        assert "ended in the middle of the job: Worker unexpectedly exits" in failure.message
        assert "\n" not in failure.message
        assert [outcomes[job].result["value"] for job in (0, 2)] == [1, 2]  # type: ignore[index]

    def test_a_job_that_kills_before_its_beginning_is_known_is_not_tried_for_ever(
        self, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("trials.engines.ray._has_begun", lambda worker: False)
        outcomes = run_all(engine, [{"do": "count and kill", "folder": str(tmp_path)}])
        assert outcomes[0].failure is not None
        assert outcomes[0].failure.cause == "worker died"
        assert len(list(tmp_path.iterdir())) == 1 + MAX_FALSE_STARTS

    def test_a_worker_that_died_idle_takes_no_job_with_it(self, engine: Engine) -> None:
        processes = {result["process"] for result in results(run_all(engine, [{"do": "place"}] * 6))}
        for process in processes:
            os.kill(process, signal.SIGKILL)
        after = results(run_all(engine, [{"do": "place"}] * 4))
        assert processes.isdisjoint(result["process"] for result in after)

    def test_a_job_that_hangs_is_ended_and_takes_nothing_with_it(self, engine: Engine) -> None:
        before = {result["process"] for result in results(run_all(engine, [{"do": "place"}] * 6))}
        engine.submit(7, {"do": "hang deaf"}, time_limit=0.5)
        engine.submit(8, {"do": "place"})
        outcomes = {outcome.job_id: outcome for _ in range(2) for outcome in engine.wait()}
        failure = outcomes[7].failure
        assert failure is not None
        assert (failure.cause, failure.message) == ("timed out", "it took longer than its time limit of 0.5 s")
        assert outcomes[8].result is not None
        for process in before - {outcomes[8].result["process"]}:
            await_that(lambda process=process: is_gone(process))  # type: ignore[misc]
        assert engine.capacity == 2
        assert len(results(run_all(engine, [{"do": "place"}] * 3))) == 3

    def test_a_job_whose_worker_is_suspended_beyond_its_limit_did_not_time_out(self, engine: Engine) -> None:
        """It may be tried again, by a worker that takes the place of the suspended one."""
        processes = {result["process"] for result in results(run_all(engine, [{"do": "place"}] * 6))}
        engine.submit(7, {"do": "hang"}, time_limit=0.5)
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        (outcome,) = engine.wait()
        assert outcome.failure is not None
        assert outcome.failure.cause == "suspended"
        for process in processes:  # the idle one goes on
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)
        assert len(results(run_all(engine, [{"do": "place"}] * 3))) == 3

    def test_workers_are_reused_and_leave_ctrl_c_to_the_driver(self, engine: Engine) -> None:
        outcomes = run_all(engine, [{"do": "interrupt"}, {"do": "interrupt"}] + [{"do": "place"}] * 6)
        processes = {result["process"] for result in results(outcomes)}
        assert 1 <= len(processes) <= 2
        assert os.getpid() not in processes

    def test_ray_runs_only_what_a_search_needs(self, engine: RayEngine) -> None:
        """No dashboard, autoscaler or reader of logs."""
        run_all(engine, [{"do": "place"}])
        head = started_by(engine)[0]
        assert sorted(each.name() for each in head.children()) == ["gcs_server", "raylet"]

    def test_a_head_that_is_lost_keeps_nobody_from_ctrl_c(
        self, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whether it answers late or never. The real `ray.nodes` returns after a minute or never."""
        released = threading.Event()
        engine.submit(0, {"do": "await", "path": str(tmp_path / "release")})
        try:
            with monkeypatch.context() as patch:
                patch.setattr(ray, "nodes", released.wait)
                threading.Timer(POLL_SECONDS + 0.5, signal.raise_signal, [signal.SIGINT]).start()
                with pytest.raises(KeyboardInterrupt):
                    engine.wait()
                patch.setattr(ray_calls, "HEAD_SECONDS", 0.1)
                with pytest.raises(HeadLostError, match=r"^this machine has not answered for 0\.1 s"):
                    engine.wait()
        finally:  # or the fixture would wait for this job for ever
            released.set()
            (tmp_path / "release").touch()
        assert [outcome.failure for outcome in engine.wait()] == [None]

    def test_it_listens_on_the_loopback_interface_alone(self, engine: RayEngine) -> None:
        """True of the driver, the head, its agents and the workers."""
        results(run_all(engine, [{"do": "place"}] * 2))
        found = listening_addresses([psutil.Process(), *started_by(engine)])
        assert {"gcs_server", "raylet"} <= found.keys()
        assert found["gcs_server"]
        assert found["raylet"]
        assert set().union(*found.values()) <= LOOPBACK

    def test_its_sockets_lie_in_a_folder_that_nobody_else_may_enter(self, engine: RayEngine) -> None:
        """Ray makes its own folders writable by everybody."""
        sockets = {
            Path(told.laddr)
            for process in started_by(engine)
            for told in process.net_connections("unix")
            if told.status == psutil.CONN_NONE and told.laddr.startswith("/")
        }
        assert {path.name for path in sockets} >= {"raylet", "plasma_store"}
        for path in sockets:
            folders = [folder for folder in path.parents if folder.name.startswith("ray-")]
            (private,) = folders
            assert private.stat().st_uid == os.getuid()
            assert private.stat().st_mode & 0o777 == 0o700
            assert private.parent.stat().st_mode & (0o002 | stat.S_ISVTX) != 0o002, "nobody may rename it either"

    def test_a_process_has_one_engine(self, engine: Engine) -> None:
        with pytest.raises(UserError, match="connected to a Ray already"):
            RayEngine(look_around)
        assert len(results(run_all(engine, [{"do": "place"}]))) == 1


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Returns a folder with the files that these jobs read, and a supernet beside it."""
    folder = tmp_path / "data"
    folder.mkdir()
    np.save(folder / "train_images.npy", np.arange(1 << 20, dtype=np.uint8))
    (tmp_path / "supernet").write_text("a supernet")
    return folder


@pytest.fixture(scope="class")
def joined(machines: Machines) -> Iterator[RayEngine]:
    with RayEngine(look_around, address=machines.address) as engine:
        yield engine


class TestOnACluster:
    @pytest.fixture
    def engine(self, joined: RayEngine) -> RayEngine:
        """Returns the engine of all these tests, once jobs that the last one has left behind have ended."""
        while joined.wait():
            pass
        return joined

    def test_what_jobs_name_travels_with_them(self, engine: RayEngine, machines: Machines, images: Path) -> None:
        supernet = {"path": str(images.parent / "supernet"), "digest": "d"}
        weights = [images.parent / "weights" / f"trial-{number}" for number in range(4)]
        common = {"kind": "trial", "data_dir": str(images), "supernet": supernet}
        trials = [{**common, "number": number, "weights_path": str(path)} for number, path in enumerate(weights)]
        found = results(run_all(engine, trials))
        assert len({result["process"] for result in found}) == 2
        assert [result["sum"] for result in found] == [(1 << 12) * sum(range(256))] * 4
        assert {result["supernet"] for result in found} == {"a supernet"}
        for result in found:  # nothing was read or written where the job said, but where the node has it
            assert Path(result["data_dir"]).parent == machines.cache
            assert not Path(result["weights_path"]).exists()
        assert len({str(result["mapped"]) for result in found}) == 1, "the workers of a machine share one copy"
        assert len(found[0]["mapped"]) == 1
        assert [path.read_text() for path in weights] == [f"weights of {number}" for number in range(4)]

        tests = [{**common, "kind": "test", "weights_path": str(path)} for path in weights]
        assert [result["weights"] for result in results(run_all(engine, tests))] == [
            f"weights of {n}" for n in range(4)
        ]

    def test_a_training_that_is_left_off_travels_back_and_on(self, engine: RayEngine, images: Path) -> None:
        paths = [images.parent / "checkpoints" / f"trial-{number}.pt" for number in range(4)]
        common = {"kind": "trial", "data_dir": str(images), "weights_path": str(images.parent / "weights")}
        left = [{**common, "number": number, "checkpoint_to": str(path)} for number, path in enumerate(paths)]
        results(run_all(engine, left))
        assert [path.read_text() for path in paths] == [f"checkpoint of {number}" for number in range(4)]
        on = [{**common, "number": number, "checkpoint_from": str(path)} for number, path in enumerate(paths)]
        found = results(run_all(engine, on))
        assert [result["checkpoint"] for result in found] == [f"checkpoint of {number}" for number in range(4)]

    def test_code_travels_as_well(self, engine: RayEngine) -> None:
        for result in results(run_all(engine, [{"do": "place"}] * 4)):
            assert "py_modules" in result["code"]
            assert not Path(result["code"]).is_relative_to(REPOSITORY)

    def test_failures_name_files_as_the_job_did(self, engine: RayEngine, images: Path) -> None:
        missing = {"kind": "trial", "data_dir": "/nowhere", "weights_path": None}
        refused = {"do": "refuse", "kind": "trial", "data_dir": str(images), "weights_path": None}
        outcomes = run_all(engine, [refused, missing])
        failures = [outcomes[job].failure for job in range(2)]
        assert failures[0] is not None
        assert failures[1] is not None
        assert (failures[0].cause, failures[0].message) == ("refused", f"the images in {images} are not those")
        assert failures[1].message.startswith("FileNotFoundError: ")
        assert "/nowhere/train_images.npy" in failures[1].message

    def test_machines_go_and_come(self, engine: RayEngine, machines: Machines, tmp_path: Path) -> None:
        """A machine that joins is used. A machine that is lost takes only its own job with it."""
        release = tmp_path / "release"
        waiting = {"do": "await", "path": str(release)}
        added = machines.add()
        await_that(lambda: self.capacity_with_news(engine) == 3)
        for job in range(3):
            engine.submit(job, waiting)
        machines.cluster.remove_node(added, allow_graceful=False)
        (lost,) = engine.wait()
        assert lost.failure is not None
        assert lost.failure.cause == "worker died"
        assert lost.failure.message.startswith("the machine ")
        assert engine.capacity == 2
        with pytest.raises(RuntimeError):
            engine.submit(3, waiting)
        release.touch()
        ended = {outcome.job_id: outcome for _ in range(2) for outcome in engine.wait()}
        assert {0, 1, 2} - ended.keys() == {lost.job_id}
        assert len({result["process"] for result in results(ended)}) == 2

    @staticmethod
    def capacity_with_news(engine: RayEngine) -> int:
        """Returns its capacity after a short job: an engine notices newly started workers while it waits."""
        results(run_all(engine, [{"do": "place"}]))
        return engine.capacity


class TestJoiningACluster:
    def test_a_share_of_a_machine_is_enough(self, machines: Machines) -> None:
        with RayEngine(look_around, address=machines.address, cpus_per_trial=0.5) as engine:
            assert engine.capacity == 4
        with RayEngine(look_around, num_workers=1, address=machines.address, cpus_per_trial=0.5) as engine:
            assert engine.capacity == 1

    def test_a_cluster_without_room_is_refused(self, machines: Machines) -> None:
        with pytest.raises(UserError, match=r"2 CPUs and 1 GPUs, which no machine of the cluster .*: lower --threads"):
            RayEngine(look_around, address=machines.address, cpus_per_trial=2.0, gpus_per_trial=1.0)
        assert not ray.is_initialized()

    def test_inside_a_submitted_job_it_joins_the_job_s_cluster(
        self, machines: Machines, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In the environment that `ray job submit` sets for its command. Workers get the same runtime environment."""
        monkeypatch.setenv("RAY_ADDRESS", machines.address)
        given = {"runtime_env": {"env_vars": {MARK: "from the job"}}, "metadata": {"job_submission_id": "first"}}
        monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(given))
        with RayEngine(look_around, address="auto") as engine:
            (found,) = results(run_all(engine, [{"do": "place"}]))
        assert found["mark"] == "from the job"
        assert "py_modules" in found["code"]

    def test_a_cluster_of_other_versions_is_refused(self, machines: Machines) -> None:
        """The head's metadata are changed to claim so."""
        versions = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
        told = {"ray_version": "1.2.3", "python_version": "3.4.5"}
        with metadata_changed(machines.address, **told), pytest.raises(UserError) as refused:
            RayEngine(look_around, address=machines.address)
        for part in ("Ray: 1.2.3", "Python: 3.4.5", f"Ray: {ray.__version__}", f"Python: {versions}"):
            assert part in str(refused.value)
        assert "\n" not in str(refused.value)
