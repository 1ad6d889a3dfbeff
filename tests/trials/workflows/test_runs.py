"""The `runs` commands on searches on disk: what they print, what they write, and what they refuse."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cli import main
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.yaml_files import read_yaml
from tests.trials.planted_search import NUM_TRIALS, planted, write_search
from trials.data.dataset_cache import PREPARED_DATA
from trials.runs.recorded_search import RecordedSearch
from trials.runs.records import RECORDS_FILE, Records
from trials.strategies.strategy import Candidate
from trials.strategies.table import TableDomain

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with two searches; read-only for the tests that share it."""
    folder = tmp_path_factory.mktemp("runs")
    write_search(folder / "one")
    write_search(folder / "two", seed=1, num_failed=0)
    return folder


@pytest.mark.parametrize("width", ["50", "80", "120"])
def test_a_list_names_every_search_and_fits(
    width: str, folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("COLUMNS", width)
    assert main(["runs", "list", folder.name]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= int(width)
    assert sum("finished" in line for line in lines) == 2


def test_a_list_as_json_is_plain_data_and_a_damaged_search_is_named(
    folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(folder, copied)
    (copied / "bad").mkdir()
    (copied / "bad" / "records.jsonl").write_text("{}\n")
    assert main(["runs", "list", str(copied), "--json"]) == 0
    printed = capsys.readouterr()
    assert "left out:" in printed.err
    runs = json.loads(printed.out)
    assert {Path(run["run"]).name: run["finished"] for run in runs} == {"one": NUM_TRIALS - 5, "two": NUM_TRIALS}
    assert main(["runs", "list", str(copied)]) == 0
    assert "left out:" in capsys.readouterr().out


@pytest.fixture
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns a folder that nobody may look into, beside others; also where tests run as root."""
    closed, stat = tmp_path / "runs" / "closed", Path.stat
    closed.mkdir(parents=True)

    def refusing(path: Path, **options: bool) -> os.stat_result:
        if closed in path.parents:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", refusing)
    return closed


def test_a_folder_that_cannot_be_read_is_named_and_left_out_of_a_list(
    closed: Path, folder: Path, capsys: Capture
) -> None:
    shutil.copytree(folder / "one", closed.parent / "one")
    assert main(["runs", "list", str(closed.parent), "--json"]) == 0
    printed = capsys.readouterr()
    assert [Path(run["run"]).name for run in json.loads(printed.out)] == ["one"]
    assert " ".join(printed.err.split()) == f"warning: left out: {closed}: cannot be read: Permission denied"


def test_images_stay_where_a_folder_cannot_be_read(closed: Path, folder: Path, capsys: Capture) -> None:
    """A search that needs them may run in it."""
    runs = closed.parent
    shutil.copytree(folder / "one", runs / "one")
    for cache in (runs / PREPARED_DATA / "abc", runs / "one" / "checkpoints"):
        cache.mkdir(parents=True)
        (cache / "file").write_bytes(b"x" * 1_000_000)
    assert main(["runs", "clean", str(runs), "--yes"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"images are kept, as a search may need them in {closed}: cannot be read: Permission denied" in printed
    assert "Deleted 1.0 MB." in printed
    assert (runs / PREPARED_DATA / "abc").is_dir()
    assert main(["runs", "clean", str(runs), "--yes"]) == 0
    assert "holds no caches that can be deleted" in " ".join(capsys.readouterr().out.split())


def test_a_search_in_progress_is_running(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    shutil.copytree(folder / "one", tmp_path / "one")
    with Records(tmp_path / "one", must_exist=True):
        assert main(["runs", "show", str(tmp_path / "one"), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["state"] == "running"
    assert main(["runs", "show", str(tmp_path / "one"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "finished"


def test_a_search_that_has_tried_every_candidate_has_finished(folder: Path) -> None:
    search = RecordedSearch.open(folder / "one")
    longer = replace(search, options=search.options.model_copy(update={"trials": NUM_TRIALS + 5}))
    assert longer.state == f"{NUM_TRIALS} of {NUM_TRIALS + 5} trials"
    candidates = [trial.candidate for trial in search.history.in_order]
    exhausted = replace(longer, domain=TableDomain(search.domain, candidates))  # type: ignore[arg-type]
    assert exhausted.state == "finished"


def test_showing_a_search_shows_its_front_and_what_it_recommends(folder: Path, capsys: Capture) -> None:
    assert main(["runs", "show", str(folder / "one")]) == 0
    text = capsys.readouterr().out
    assert "Pareto-optimal in error, flops" in text
    assert "Recommended: the best structure at each cost" in text
    assert "best.yaml is trial 0" in text


@pytest.mark.slow
def test_a_comparison_gives_least_errors_hypervolumes_and_the_options_that_differ(
    folder: Path, capsys: Capture
) -> None:
    assert main(["runs", "compare", str(folder / "one"), str(folder / "two"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["options"] == {"seed": [0, 1]}
    assert all(0 < volume <= 1 for volume in found["hypervolumes"])
    for errors in found["errors"]:
        known = [error for error in errors if error is not None]
        assert known == sorted(known)  # the less a network may cost, the more it errs
        assert len(known) == len(errors) == 4  # limits are costs that both have tried
    assert found["limits"][0] > 1.5 * found["limits"][-1] > 0
    assert main(["runs", "compare", str(folder / "one"), str(folder / "two"), "--cost", "params"]) == 0
    text = " ".join(capsys.readouterr().out.split())  # titles wrap at the width of their tables
    assert "Options that differ" in text
    assert "Least observed validation error within so many parameters" in text
    assert "Least predicted error, by the model of each run" in text


@pytest.mark.slow
def test_predicted_and_observed_errors_stand_beside_each_other(folder: Path, capsys: Capture) -> None:
    assert main(["runs", "compare", str(folder / "one"), str(folder / "two"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    for observed, predicted in zip(found["errors"], found["predicted"], strict=True):
        assert predicted[0] == pytest.approx(observed[0], abs=0.02)
        assert predicted[0] != observed[0]
    assert main(["runs", "show", str(folder / "one"), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    search = RecordedSearch.open(folder / "one")
    observed = planted(search.history.trials[0].candidate)
    assert shown["recommended"]["networks"][0]["observed_error"] == observed
    assert (shown["best_error"], shown["best_predicted_error"]) == (observed, 0.3)


def _other_images(header: dict[str, Any]) -> None:
    header["data"]["digest"] = "0" * 64


def _other_size(header: dict[str, Any]) -> None:
    header["options"]["image_size"] = header["proxy"]["image_size"] = 48


def _other_error(header: dict[str, Any]) -> None:
    header["options"]["balanced_error"] = True


def _other_target(header: dict[str, Any]) -> None:
    header["space"]["classes"] = 77


def _fewer_images(header: dict[str, Any]) -> None:
    header["options"]["val_images_per_trial"] = 50


Edit = Callable[[dict[str, Any]], None]


def _edited(folder: Path, run_dir: Path, edit: Edit) -> Path:
    """Returns a copy of a search in whose header something differs."""
    shutil.copytree(folder / "one", run_dir)
    header, *events = map(json.loads, (run_dir / RECORDS_FILE).read_text().splitlines())
    edit(header)
    for event in events:
        if "architecture" in event:
            event["architecture"]["classes"] = header["space"]["classes"]
    for event in (header, *events):
        event.pop("crc32", None)
    (run_dir / RECORDS_FILE).write_text("".join(f"{json.dumps(event)}\n" for event in (header, *events)))
    return run_dir


@pytest.mark.slow
@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (_other_images, r"images .* \(digest 00000000\), not .* \(digest "),
        (_other_size, r"image size 48 px, not \d+ px"),
        (_other_error, r"error every class counts alike, not every image counts alike"),
        (_fewer_images, r"validation images of a trial 50, not all"),
        (_other_target, r"target .* 77 classes, not "),
    ],
)
def test_what_does_not_compare_is_named_and_left_out(
    edit: Edit, reason: str, folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    other = _edited(folder, tmp_path / "other", edit)
    assert main(["runs", "compare", str(other), str(folder / "one"), str(folder / "two")]) == 0
    output = capsys.readouterr().out
    assert re.search(f"left out: .*other: {reason}.* as in .*one", output)
    assert main(["runs", "compare", str(other), str(folder / "one"), str(folder / "two"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [Path(run).name for run in found["runs"]] == ["one", "two"]
    assert list(found["left_out"]) == [str(other)]
    assert main(["runs", "compare", str(folder / "one"), str(other)]) == 2
    error = capsys.readouterr().err
    assert re.search(f"no two of these runs compare: .*other: {reason}", error)
    assert error.count("\n") == 1


@pytest.mark.slow
def test_errors_of_other_trainings_and_changed_spaces_are_explained(
    folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    def edit(header: dict[str, Any]) -> None:
        header["proxy"]["training"] = {"images": 12_345}
        header["options"]["width_scale"] = 0.5
        header["space"]["stages"][0]["mlp_ratio"].append(3.5)  # the networks stay in the space

    other = _edited(folder, tmp_path / "other", edit)
    assert main(["runs", "compare", str(folder / "one"), str(other), "--json"]) == 0
    assert len(set(json.loads(capsys.readouterr().out)["options"]["space_digest"])) == 2
    assert main(["runs", "compare", str(folder / "one"), str(other)]) == 0
    output = capsys.readouterr().out
    assert "other was trained otherwise than" in output
    assert "width of the proxy 0.5 of the target's, not 1 of the target's" in output


def test_a_pick_is_the_best_structure_that_the_model_knows_at_the_cost(
    folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "net.yaml"
    assert main(["runs", "pick", str(folder / "two"), "--flops", "700K", "--out", str(out)]) == 0
    assert "predicted validation error" in capsys.readouterr().out
    arch = ArchConfig.from_yaml(out)
    assert 0.9 * 700_000 <= cost_of(arch).flops <= 700_000
    assert arch.stages[0].recursions == 2  # what the planted errors gain from
    assert read_yaml(out)["metrics"]["predicted_validation_error"] == pytest.approx(
        planted(Candidate(arch, "full")), abs=0.01
    )


@pytest.mark.slow
def test_a_pick_obeys_both_bounds(folder: Path, tmp_path: Path) -> None:
    loose, tight = tmp_path / "loose.yaml", tmp_path / "tight.yaml"
    assert main(["runs", "pick", str(folder / "two"), "--flops", "800K", "--out", str(loose)]) == 0
    params = cost_of(ArchConfig.from_yaml(loose)).params - 1
    arguments = ["--flops", "800K", "--params", str(params), "--out", str(tight)]
    assert main(["runs", "pick", str(folder / "two"), *arguments]) == 0
    assert cost_of(ArchConfig.from_yaml(tight)).params <= params


@pytest.mark.slow
def test_a_report_is_written_anew(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    shutil.copytree(folder / "one", tmp_path / "one")
    assert main(["runs", "report", str(tmp_path / "one")]) == 0
    assert (tmp_path / "one" / "report.html").stat().st_size > 1_000_000
    assert "report.html" in capsys.readouterr().out


def test_a_report_that_cannot_be_written_is_told_at_once(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    run = shutil.copytree(folder / "one", tmp_path / "one")
    (run / "report.html").unlink(missing_ok=True)
    (run / "report.html").mkdir()
    assert main(["runs", "report", str(run)]) == 2
    assert capsys.readouterr().err == f"error: {run}/report.html cannot be written: it is a folder\n"


def test_a_report_in_a_folder_that_cannot_be_written_is_told_at_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    run = shutil.copytree(folder / "one", tmp_path / "one")
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != run)  # root may write everywhere
    assert main(["runs", "report", str(run)]) == 2
    assert capsys.readouterr().err == f"error: {run}/report.html cannot be written: Permission denied\n"


def test_cleaning_deletes_caches_alone_and_asks_first(
    folder: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(folder, runs)
    (runs / PREPARED_DATA / "abc").mkdir(parents=True)
    (runs / PREPARED_DATA / "abc" / "train_images.npy").write_bytes(b"x" * 3_000_000)
    assert main(["runs", "clean", str(runs)]) == 2  # no terminal to ask on
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda *_: "n")
    assert main(["runs", "clean", str(runs)]) == 0
    assert "Nothing was deleted." in capsys.readouterr().out
    with Records(runs / "one", must_exist=True):  # a running search needs the images
        assert main(["runs", "clean", str(runs), "--yes"]) == 0
        assert (runs / PREPARED_DATA / "abc").is_dir()
    assert main(["runs", "clean", str(runs), "--yes"]) == 0
    assert "Deleted 3.0 MB." in capsys.readouterr().out
    assert not (runs / PREPARED_DATA / "abc").exists()
    assert (runs / "one" / "records.jsonl").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "NOWHERE"], "there is no such folder of runs"),
        (["show", "NOWHERE"], "is no run directory"),
        (["compare", "one", "NOWHERE"], "is no run directory"),
        (["compare", "one", "two", "./one"], "one is named twice: name every run once"),
        (["show", "one/records.jsonl"], "one/records.jsonl: is a file: name the run directory, perhaps "),
        (["rerun", "one", "--trial", "999"], "--trial must be the number of a finished trial, of which there are "),
        (["pick", "one"], "give --flops, --params or both"),
        (["pick", "one", "--flops", "1K"], "no network of test (at 64 px) has FLOPs at most 1K"),
        (["pick", "one", "--flops", "1M", "--out", "one/records.jsonl"], "is read by this command"),
        (["report", "NOWHERE"], "is no run directory"),
        (["rerun", "one", "--trial", "39"], "must be the number of a finished trial, of which there are 35"),
        (["clean", "NOWHERE", "--yes"], "there is no such folder of runs"),
        (["clean", "NOWHERE"], "there is no such folder of runs"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    arguments: list[str], message: str, folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert main(["runs", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_trial_whose_images_moved_is_not_run_again(tmp_path: Path, capsys: Capture) -> None:
    search = write_search(tmp_path / "run", data=str(tmp_path / "gone"))
    assert main(["runs", "rerun", str(search.run_dir), "--trial", "0"]) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path / 'gone'}: there is no such folder" in error
    assert f"or as `sret-nas search --resume {search.run_dir} --data NEW` says)" in error


def test_cleaning_leaves_the_images_of_a_search_that_is_being_planned(tmp_path: Path, capsys: Capture) -> None:
    """It has locked its folder, but its records begin when it has measured how long trials take."""
    images = tmp_path / PREPARED_DATA / "abc" / "train_images.npy"
    images.parent.mkdir(parents=True)
    images.write_bytes(b"x" * 1_000_000)
    with Records(tmp_path / "planned"):
        assert main(["runs", "clean", str(tmp_path), "--yes"]) == 0
    assert images.is_file()
    assert "holds no caches." in " ".join(capsys.readouterr().out.split())
    assert main(["runs", "clean", str(tmp_path), "--yes"]) == 0
    assert not images.exists()


def test_cleaning_leaves_images_that_are_being_prepared(tmp_path: Path, capsys: Capture) -> None:
    for name in ("free", "taken"):
        (tmp_path / PREPARED_DATA / name).mkdir(parents=True)
        (tmp_path / PREPARED_DATA / name / "train_images.npy").write_bytes(b"x" * 1_000_000)
    with open(tmp_path / PREPARED_DATA / "taken" / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(["runs", "clean", str(tmp_path), "--yes"]) == 0
    assert [path.name for path in (tmp_path / PREPARED_DATA).iterdir()] == ["taken"]
    assert "Deleted 1.0 MB." in capsys.readouterr().out
