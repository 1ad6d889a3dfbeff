"""Whole searches on the smoke space: what they leave behind, and that no interruption changes it."""

from __future__ import annotations

import csv
import io
import os
import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from cli import main
from sret_nas import ArchConfig, UserError, cost_of
from sret_nas.nn.flops import fvcore_cost
from sret_nas.nn.network import SReT
from sret_nas.yaml_files import read_yaml
from tests.trials.search.smoke_searches import (
    FLAGS,
    OPTIONS,
    events,
    outcome_of,
    quiet,
    search_process,
    wait_for_trials,
)
from trials.runs.directory import RECORDS_FILE
from trials.runs.objectives import most_accurate, pareto_front
from trials.runs.options import SearchOptions
from trials.runs.optuna_journal import JOURNAL_FILE
from trials.runs.trial import Trial
from trials.search.run import Run
from trials.search.search import resume_search, start_search
from trials.strategies.create import create_strategy
from trials.strategies.sret import SReTDomain

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Returns an uninterrupted search in this process; read-only for the tests that share it."""
    return start_search(
        SearchOptions.parse(OPTIONS, "search"), tmp_path_factory.mktemp("runs") / "whole", ["test"], quiet()
    )


def front_files(run_dir: Path) -> dict[str, Any]:
    """Returns the front's architectures by file name."""
    return {path.name: yaml.safe_load(path.read_text())["architecture"] for path in (run_dir / "pareto").iterdir()}


def test_every_trial_is_finished_and_inside_the_budget(finished: Run) -> None:
    assert [trial.number for trial in finished.trials] == list(range(6))
    for trial in finished.trials:
        assert trial.result is not None
        cost = cost_of(trial.candidate.arch)
        assert (trial.result.target.flops, trial.result.target.params) == (cost.flops, cost.params)
        assert cost.flops <= 100_000_000


def test_the_front_s_files_build_networks_inside_the_budget_by_fvcore_s_count(finished: Run) -> None:
    front = pareto_front(finished.trials, finished.options.objectives)
    files = sorted((finished.run_dir / "pareto").iterdir())
    assert [path.name for path in files] == sorted(
        f"trial-{trial.number:04d}-{trial.candidate.arch.arch_id}.yaml" for trial in front
    )
    for path in files:
        content = yaml.safe_load(path.read_text())
        network = SReT.from_yaml(path)
        assert network.arch.arch_id == content["arch_id"]
        measured = fvcore_cost(network)
        assert measured.flops == content["cost"]["flops"] <= 100_000_000
        assert sum(p.numel() for p in network.parameters()) == content["cost"]["params"]


def test_best_is_the_most_accurate_and_says_where_it_comes_from(finished: Run) -> None:
    best = most_accurate(finished.trials, finished.options.objectives)
    content = yaml.safe_load((finished.run_dir / "best.yaml").read_text())
    assert best.result is not None
    assert content["metrics"]["validation_error"] == min(t.result.error for t in finished.trials if t.result)
    assert (
        content["arch_id"]
        == best.candidate.arch.arch_id
        == ArchConfig.from_yaml(finished.run_dir / "best.yaml").arch_id
    )
    assert content["provenance"]["trial"] == best.number
    assert content["provenance"]["seed"] == 5
    assert content["recipe"]["depth_schedule"] == best.candidate.depth_schedule
    assert content["recipe"]["proxy_cost"]["image_size"] == 24
    assert (finished.run_dir / content["provenance"]["proxy_weights"]).is_file()


def test_only_the_front_is_tested_and_keeps_its_weights(finished: Run) -> None:
    front = {trial.number for trial in pareto_front(finished.trials, finished.options.objectives)}
    assert {trial.number for trial in finished.trials if trial.test is not None} == front
    weights = {path.name for path in (finished.run_dir / "weights").iterdir()}
    assert weights == {f"trial-{number:04d}.{kind}" for number in front for kind in ("safetensors", "yaml")}


def test_beside_weights_lies_the_file_that_loads_them(finished: Run) -> None:
    for weights in (finished.run_dir / "weights").glob("*.safetensors"):
        own = SReT.load(weights)
        loaded = SReT.from_yaml(weights.with_suffix(".yaml"), weights=weights)
        assert loaded.arch == own.arch
        assert read_yaml(weights.with_suffix(".yaml"))["provenance"]["weights"] == weights.name
        (target,) = (finished.run_dir / "pareto").glob(f"{weights.stem}-*.yaml")  # with three channels, as asked for
        with pytest.raises(
            UserError, match=r"differs in channels \(1 and 3\).*trial-\d+\.yaml describes the network of"
        ):
            SReT.from_yaml(target, weights=weights)
    kinds = [event["event"] for event in events(finished.run_dir)]
    assert kinds.index("tested") > max(index for index, kind in enumerate(kinds) if kind == "finished")


def test_the_other_files_tell_the_same_story(finished: Run) -> None:
    rows = list(csv.DictReader((finished.run_dir / "trials.csv").read_text().splitlines()))
    assert [float(row["error"]) for row in rows] == [trial.result.error for trial in finished.trials if trial.result]
    assert (finished.run_dir / "front.png").read_bytes().startswith(b"\x89PNG")
    configuration = yaml.safe_load((finished.run_dir / "config.yaml").read_text())
    assert configuration["options"]["flops_budget"] == 100_000_000
    assert configuration["space"]["name"] == "smoke"
    assert set(configuration["versions"]) == {"python", "sret-nas", "torch", "optuna", "numpy"}


def test_the_journal_is_an_optuna_study_of_all_trials(finished: Run) -> None:
    path = str(finished.run_dir / JOURNAL_FILE)
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(path))
    study = optuna.load_study(study_name="whole", storage=storage)
    assert sorted(trial.user_attrs["trial"] for trial in study.trials) == list(range(6))
    by_number = {trial.number: trial for trial in finished.trials}
    only_choice = {name: choices[0] for name, choices in finished.space.dimensions().items() if len(choices) == 1}
    for frozen in study.trials:
        trial = by_number[frozen.user_attrs["trial"]]
        assert trial.result is not None
        assert frozen.values == [trial.result.error, trial.result.target.flops]
        decoded = finished.space.decode({**only_choice, **frozen.params})
        assert decoded is not None
        assert decoded.arch_id == trial.candidate.arch.arch_id


def test_the_number_of_workers_changes_nothing(finished: Run, tmp_path: Path) -> None:
    """Two find what the search in this process did; one carries on a search that is resumed with more trials."""
    run = start_search(SearchOptions.parse({**OPTIONS, "workers": 2}, "search"), tmp_path / "again", ["test"], quiet())
    assert outcome_of(run.run_dir) == outcome_of(finished.run_dir)
    assert front_files(run.run_dir) == front_files(finished.run_dir)


def test_another_seed_searches_elsewhere(finished: Run, tmp_path: Path) -> None:
    run = start_search(
        SearchOptions.parse({**OPTIONS, "seed": 6, "trials": 2}, "search"),
        tmp_path / "other",
        ["test"],
        quiet(),
    )
    other, this = ([row[1] for row in outcome_of(path)[:2]] for path in (run.run_dir, finished.run_dir))
    assert len(other) == len(this) == 2
    assert other != this


def test_these_searches_learn(finished: Run) -> None:
    """What a strategy was told decides what it asks: told otherwise, it asks otherwise."""
    keys = {}
    for is_upside_down in (False, True):
        domain = SReTDomain(finished.space, finished.options.budget)
        strategy = create_strategy("nsga2", domain, ("error", "flops"), seed=5, population=2)
        asked = []
        for _ in range(6):
            candidate = strategy.ask()
            assert candidate is not None
            asked.append(candidate.key)
            flops = cost_of(candidate.arch).flops
            strategy.tell(candidate, (-flops, -flops) if is_upside_down else (flops, flops))
        keys[is_upside_down] = asked
    assert keys[False][:2] == keys[True][:2]
    assert keys[False] != keys[True]


def resumed_here(run_dir: Path, *arguments: str) -> int:
    """Returns the exit code of a resumed search whose trials run in this process, which need not import torch once
    more."""
    return main(["search", f"--resume={run_dir}", *arguments, "--workers=0"])


@pytest.mark.parametrize(("kill_after", "workers"), [(1, 2), (3, 0)])
def test_a_killed_search_resumes_to_the_same_front(
    finished: Run, tmp_path: Path, kill_after: int, workers: int
) -> None:
    run_dir = tmp_path / "killed"
    process = search_process(*FLAGS, f"--workers={workers}", f"--out={run_dir}")
    wait_for_trials(process, kill_after)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = [event["number"] for event in events(run_dir) if event["event"] == "finished"]
    assert kill_after <= len(before) < 6

    assert resumed_here(run_dir, *FLAGS) == 0
    finishes = Counter(event["number"] for event in events(run_dir) if event["event"] == "finished")
    assert finishes == Counter(range(6))  # none lost, none repeated
    assert outcome_of(run_dir) == outcome_of(finished.run_dir)
    assert front_files(run_dir) == front_files(finished.run_dir)


def test_a_finished_search_resumes_with_more_trials_and_repeats_none(finished: Run, tmp_path: Path) -> None:
    run = start_search(SearchOptions.parse({**OPTIONS, "trials": 3}, "search"), tmp_path / "grown", ["test"], quiet())
    first_three = [[row[:3] for row in outcome_of(path)[:3]] for path in (run.run_dir, finished.run_dir)]
    assert first_three[0] == first_three[1]
    assert [row[0] for row in first_three[0]] == [0, 1, 2]
    grown = resume_search(run.run_dir, {"trials": 6, "workers": 1}, quiet())
    assert yaml.safe_load((run.run_dir / "config.yaml").read_text())["options"]["trials"] == 6
    console = quiet()
    assert resume_search(run.run_dir, {}, console).options.trials == 6
    assert isinstance(console.file, io.StringIO)
    assert "6 of 6 trials have ended" in console.file.getvalue()
    without_tests = [[row[:3] for row in outcome_of(path)] for path in (grown.run_dir, finished.run_dir)]
    assert without_tests[0] == without_tests[1]
    assert Counter(e["number"] for e in events(grown.run_dir) if e["event"] == "finished") == Counter(range(6))
    assert front_files(grown.run_dir) == front_files(finished.run_dir)


def test_a_small_space_is_searched_to_its_end(tmp_path: Path) -> None:
    """Of the smoke space's twelve networks, one costs less than 57 MFLOPs; it has two recursions, so two schedules."""
    options = {**OPTIONS, "flops_budget": 57_000_000, "trials": 50, "train_images": 64}
    run = start_search(SearchOptions.parse(options, "search"), tmp_path / "small", ["test"], quiet())
    keys = [trial.candidate.key for trial in run.trials]
    assert len(keys) == len(set(keys)) < 50
    assert max(cost_of(trial.candidate.arch).flops for trial in run.trials) <= 57_000_000


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"flops_budget": 90_000_000},
            "--flops-budget cannot change in a resumed search: it was 100M, got 90M",
        ),
        ({"seed": 6}, "--seed cannot change"),
        ({"objectives": ["error"]}, "--objectives cannot change .* it was error,flops, got error"),
        ({"gpu_hours": 3.0}, "--gpu-hours goes with a GPU, got --device cpu"),
        ({"trials": 0}, "trials: must be greater than or equal to 1, got 0"),
    ],
)
def test_a_resumed_search_keeps_its_question(finished: Run, given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        resume_search(finished.run_dir, given, quiet())


def test_a_new_search_does_not_write_into_an_old_one(finished: Run) -> None:
    before = (finished.run_dir / RECORDS_FILE).read_bytes()
    with pytest.raises(UserError, match="holds a search already"):
        start_search(SearchOptions.parse(OPTIONS, "search"), finished.run_dir, ["test"], quiet())
    assert (finished.run_dir / RECORDS_FILE).read_bytes() == before


def test_the_most_accurate_network_is_never_a_beaten_one(finished: Run) -> None:
    """Of two with the least error, the cheaper one is on the front, whatever the other's cross-entropy."""
    cheap, dear = (Trial(number, finished.trials[0].candidate, result=finished.trials[0].result) for number in range(2))
    assert cheap.result is not None
    target = cheap.result.target
    dear.result = cheap.result.model_copy(
        update={"cross_entropy": 0.0, "target": target.model_copy(update={"flops": target.flops + 1})}
    )
    assert most_accurate([dear, cheap], ("error", "flops")) is cheap
    assert most_accurate([dear, cheap], ("cross_entropy", "flops")) is dear


def test_a_finished_search_asks_its_strategy_nothing_when_it_is_resumed(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It only sees to its outputs, the journal among them."""
    run_dir = tmp_path / "whole"  # by which the journal names its study
    shutil.copytree(finished.run_dir, run_dir)
    names = (JOURNAL_FILE, "trials.csv", "best.yaml")
    before = {name: (run_dir / name).read_bytes() for name in names}

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the strategy was asked")

    monkeypatch.setattr("trials.search.search.create_strategy", refuse)
    for name in ("trials.csv", "best.yaml"):
        (run_dir / name).unlink()
    resume_search(run_dir, {"data": "digits"}, quiet())
    assert {name: (run_dir / name).read_bytes() for name in names} == before
    lines = before[JOURNAL_FILE].splitlines(keepends=True)
    (run_dir / JOURNAL_FILE).write_bytes(b"".join(lines[:-1]))  # a kill between the record and the journal
    resume_search(run_dir, {}, quiet())
    assert (run_dir / JOURNAL_FILE).read_bytes().count(b"\n") == len(lines)
    with pytest.raises(AssertionError, match="was asked"):
        resume_search(run_dir, {"trials": 7}, quiet())


def test_the_same_command_with_resume_carries_on(finished: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Every option of the command, its --out included, agrees with the record."""
    again = [f"--out={finished.run_dir}", f"--resume={finished.run_dir}"]
    assert main(["search", *FLAGS, "--workers=0", "--objectives=error,flops", *again]) == 0
    assert "6 of 6 trials have ended" in capsys.readouterr().out


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the workers of a search through /proc")
def test_killed_workers_change_nothing_that_is_found(finished: Run, tmp_path: Path) -> None:
    process = search_process(*FLAGS, "--workers=2", f"--out={tmp_path / 'run'}")
    wait_for_trials(process, 1)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    workers = [child for child in children if b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes()]
    assert len(workers) == 2
    for worker in workers:
        os.kill(int(worker), signal.SIGKILL)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert outcome_of(tmp_path / "run") == outcome_of(finished.run_dir)
    retried = [event for event in events(tmp_path / "run") if event["event"] == "retried"]
    assert 1 <= len(retried) <= 2
    assert {event["failure"]["cause"] for event in retried} == {"worker died"}
    assert {event["attempt"] for event in retried} == {1}
    assert "it runs again" in output
