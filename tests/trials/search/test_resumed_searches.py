"""Searches that end early, or whose files or images change before they are resumed."""

from __future__ import annotations

import io
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sret_nas import UserError
from tests import REPOSITORY
from tests.trials.runs.edited_records import edit_records
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
from trials.runs.options import SearchOptions
from trials.search.search import resume_search, start_search

pytestmark = pytest.mark.slow


def test_a_resumed_additive_search_proposes_what_it_would_have(tmp_path: Path) -> None:
    """Cut off after seven of nine trials; from the seventh on a model proposes, as long as it knows anything new."""
    options = {**OPTIONS, "strategy": "additive", "trials": 9, "lookahead": 1}
    whole = start_search(SearchOptions.parse(options, "search"), tmp_path / "whole", ["test"], quiet())
    origins = [trial.origin for trial in whole.trials]
    assert origins[:6] == ["design"] * 6
    assert set(origins[6:]) & {"additive", "residual", "size"}
    lines = (whole.run_dir / "records.jsonl").read_bytes().splitlines(keepends=True)
    ends = [position for position, line in enumerate(lines) if b'"event": "finished"' in line]
    cut = tmp_path / "cut"
    cut.mkdir()
    (cut / "records.jsonl").write_bytes(b"".join(lines[: ends[6] + 1]))
    shutil.copytree(whole.run_dir / "weights", cut / "weights")
    assert outcome_of(resume_search(cut, {}, quiet()).run_dir) == outcome_of(whole.run_dir)


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_carry_on(tmp_path: Path) -> None:
    run_dir = tmp_path / "stopped"
    command = [sys.executable, str(REPOSITORY / "cli.py"), "search", *FLAGS, "--workers=2", f"--out={run_dir}"]
    process = subprocess.Popen(
        [*command, "--trials=30"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )  # enough not to end before the signal comes
    wait_for_trials(process, 1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate()
    assert process.returncode == 130, output
    assert f"--resume {run_dir}" in output
    assert "Traceback" not in output
    assert (run_dir / "best.yaml").is_file()
    assert not any(event["event"] == "tested" for event in events(run_dir))


def test_a_torn_header_is_no_search(tmp_path: Path) -> None:
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / RECORDS_FILE).write_text('{"event": "hea')
    options = {**OPTIONS, "trials": 1, "train_images": 64}
    assert len(start_search(SearchOptions.parse(options, "search"), tmp_path / "torn", ["test"], quiet()).trials) == 1


def test_missing_weights_are_named_and_the_search_still_ends(tmp_path: Path) -> None:
    options = {**OPTIONS, "trials": 1, "train_images": 64}
    run = start_search(SearchOptions.parse(options, "search"), tmp_path / "run", ["test"], quiet())
    lines = (run.run_dir / RECORDS_FILE).read_text().splitlines(keepends=True)
    (run.run_dir / RECORDS_FILE).write_text("".join(line for line in lines if '"tested"' not in line))
    for path in (run.run_dir / "weights").iterdir():
        path.unlink()
    console = quiet()
    assert resume_search(run.run_dir, {}, console).trials[0].test is None
    assert isinstance(console.file, io.StringIO)
    message = r"trial 0 cannot be tested: its weights, .*trial-0000\.safetensors, are missing"
    assert re.search(message, console.file.getvalue())


def test_a_candidate_that_the_strategy_would_not_ask_for_stops_a_resume(tmp_path: Path) -> None:
    options = {**OPTIONS, "trials": 2, "train_images": 64}
    run = start_search(SearchOptions.parse(options, "search"), tmp_path / "run", ["test"], quiet())
    path = run.run_dir / RECORDS_FILE
    edit_records(path, '"seed": 5', '"seed": 6')
    with pytest.raises(UserError, match=r"its trial 0 is .* but the strategy now asks for"):
        resume_search(run.run_dir, {"trials": 3}, quiet())


def test_changed_images_stop_a_resume(tmp_path: Path) -> None:
    path = tmp_path / "run" / RECORDS_FILE
    start_search(
        SearchOptions.parse({**OPTIONS, "trials": 1, "train_images": 64}, "search"),
        path.parent,
        ["test"],
        quiet(),
    )
    digest = json.loads(path.read_text().splitlines()[0])["data"]["digest"]
    edit_records(path, digest, "0" * len(digest))
    with pytest.raises(UserError, match="are not those that"):
        resume_search(path.parent, {}, quiet())


def test_the_same_images_may_lie_elsewhere_when_a_search_is_resumed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "here" / name).mkdir(parents=True)
        for number in range(20):
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "here" / name / f"{number}.png")
    images = {"data": str(tmp_path / "here"), "trials": 1, "train_images": 64}
    run_dir = tmp_path / "runs" / "run"
    start_search(SearchOptions.parse({**OPTIONS, **images}, "search"), run_dir, ["test"], quiet())
    (tmp_path / "here").rename(tmp_path / "there")
    shutil.rmtree(tmp_path / "runs" / "prepared-data")
    before = (run_dir / RECORDS_FILE).read_bytes()
    with pytest.raises(UserError, match=r"here.*\(a resumed search needs its images: .* or as --data says\)"):
        resume_search(run_dir, {}, quiet())
    with pytest.raises(UserError, match=r"^the images of digits are not those that .* was begun with"):
        resume_search(run_dir, {"data": "digits"}, quiet())
    assert (run_dir / RECORDS_FILE).read_bytes() == before
    resumed = resume_search(run_dir, {"data": str(tmp_path / "there")}, quiet())
    assert resumed.options.data == str(tmp_path / "there")
    recorded = [event["options"]["data"] for event in events(run_dir) if event["event"] == "resumed"]
    assert recorded == [str(tmp_path / "there")]


@pytest.mark.parametrize(("ending", "workers"), [(signal.SIGTERM, 1), (signal.SIGHUP, 0)])
def test_other_signals_end_it_like_ctrl_c(tmp_path: Path, ending: signal.Signals, workers: int) -> None:
    process = search_process(*FLAGS, "--trials=30", f"--workers={workers}", f"--out={tmp_path / 'run'}")
    wait_for_trials(process, 1)
    process.send_signal(ending)
    output, _ = process.communicate()
    assert process.returncode == 130, output
    assert "carry on with" in output
    assert (tmp_path / "run" / "best.yaml").is_file()


def test_a_reader_that_goes_away_costs_no_results(tmp_path: Path) -> None:
    command = [sys.executable, str(REPOSITORY / "cli.py"), "search", *FLAGS, "--workers=1", f"--out={tmp_path / 'run'}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for_trials(process, 1)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 130
    assert "carry on with" in errors
    assert (tmp_path / "run" / "best.yaml").is_file()
