"""Whole searches whose machine is lost are carried on from their copies; a storage that cannot be is refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli import main
from sret_nas.errors import UserError
from tests import REPOSITORY
from tests.trials.runs.copied_runs import await_that, files_in, quiet, text_of
from trials.runs.directory import LOCK_FILE, RECORDS_FILE
from trials.runs.history import read_history
from trials.runs.option_groups import flag
from trials.runs.options import SearchOptions
from trials.runs.remote_copy import COPY_MARK, fetch_run, whole_lines
from trials.runs.remote_storage import store_for
from trials.search.search import resume_search, start_search

pytestmark = pytest.mark.usefixtures("impatient")

SMALL: dict[str, Any] = {
    "space": "smoke", "max_train_images": 64, "max_val_images": 50, "max_test_images": 50, "image_size": 16,
    "batch_size": 32, "train_images": 64, "device": "cpu", "workers": 0, "seed": 3, "strategy": "random",
}  # fmt: skip
FROM_SCRATCH: dict[str, Any] = {**SMALL, "no_supernet": True, "trials": 5}
WITH_SUPERNET: dict[str, Any] = {**SMALL, "trials": 12, "supernet_images": 64, "finalists": 1, "controls": 0}

DRIVER = """
import sys
import threading
import trials.runs.remote_copy
from cli import main
from trials.runs.records import Records

trials.runs.remote_copy.COPY_SECONDS = 0.02
ended = Records.ended

def ended_and_no_more(records, number, *about):
    event = ended(records, number, *about)
    if number == 3:
        threading.Event().wait()  # for the signal that kills: the copy may be slow, the search must not be over before
    return event

Records.ended = ended_and_no_more
sys.exit(main(sys.argv[1:]))
"""


def flags(options: dict[str, Any]) -> list[str]:
    """Returns options as they are typed."""
    given = {**options}
    return (["--no-supernet"] if given.pop("no_supernet", False) else []) + [
        f"{flag(name)}={value}" for name, value in given.items()
    ]


def outcome_of(run_dir: Path) -> list[tuple[Any, ...]]:
    """Returns all that a search found, trial by trial, to the last bit."""
    return [
        (
            number, trial.candidate.key, trial.result and (trial.result.error, trial.result.cross_entropy),
            trial.test, {role: (final.error, final.test_error) for role, final in trial.finals.items()},
        )
        for number, trial in sorted(read_history(run_dir).trials.items())
    ]  # fmt: skip


def front_of(run_dir: Path) -> dict[str, Any]:
    return {path.name: yaml.safe_load(path.read_text())["architecture"] for path in (run_dir / "pareto").iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize(("options", "kind"), [(FROM_SCRATCH, "folder"), (WITH_SUPERNET, "bucket")])
def test_a_search_whose_machine_is_lost_is_carried_on_from_the_copy(
    request: pytest.FixtureRequest, tmp_path: Path, options: dict[str, Any], kind: str
) -> None:
    """The driver is killed as soon as the copy knows of two trials, and its run directory is deleted."""
    whole = start_search(SearchOptions.parse(options, "search"), tmp_path / "whole", ["test"], quiet())
    storage = str(tmp_path) if kind == "folder" else f"{request.getfixturevalue('bucket')}/some/runs"
    lost, store = tmp_path / "first machine" / "r", store_for(storage, "r")
    command = [sys.executable, "-c", DRIVER, "search", *flags(options), f"--out={lost}", f"--storage={storage}"]
    driver = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=REPOSITORY, start_new_session=True
    )
    try:
        await_that(lambda: store.size(RECORDS_FILE) is not None and store.read(RECORDS_FILE).count(b'"finished"') >= 2)
    finally:
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
    shutil.rmtree(lost.parent)

    here, console = tmp_path / "second machine" / "r", quiet()
    fetched, _ = fetch_run(store.address, here, console)
    before = len(whole_lines((fetched / RECORDS_FILE).read_bytes()).splitlines())
    resume_search(fetched, {}, console)
    assert outcome_of(here) == outcome_of(whole.run_dir)
    assert front_of(here) == front_of(whole.run_dir)
    assert json.loads((here / RECORDS_FILE).read_bytes().splitlines()[before])["event"] == "resumed"

    files = files_in(here)
    del files[LOCK_FILE]
    assert {name: store.read(name) for name in store.sizes() if name != COPY_MARK} == files
    assert f"Copy: {store.address}\n" in text_of(console)


@pytest.mark.slow
def test_images_must_be_where_they_were_or_be_named(tmp_path: Path, storage: Path) -> None:
    from PIL import Image

    images = tmp_path / "images"
    for label in range(2):
        (images / str(label)).mkdir(parents=True)
        for number in range(20):
            Image.new("L", (8, 8), 12 * number + label).save(images / str(label) / f"{number}.png")
    options = {**FROM_SCRATCH, "trials": 1, "data": str(images), "storage": str(storage)}
    start_search(SearchOptions.parse(options, "search"), tmp_path / "first" / "r", ["test"], quiet())
    images.rename(tmp_path / "elsewhere")
    here, _ = fetch_run(str(storage / "r"), tmp_path / "second" / "r", quiet())
    before = files_in(storage)
    with pytest.raises(UserError, match=r"images: .* \(a resumed search needs its images: where they were"):
        resume_search(here, {}, quiet())
    assert files_in(storage) == before
    run = resume_search(here, {"data": str(tmp_path / "elsewhere")}, quiet())
    assert run.options.data == str(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("ftp://host/runs", "search: --storage: must be a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX, got 'ftp"),
        ("s3://a:b@c/runs", "must not hold credentials"),
        ("nowhere/runs", "cannot be used: there is no folder"),
        ("BUCKET-2/runs", "/runs cannot be used: When .* AWS Error NO_SUCH_BUCKET"),
    ],
)
def test_a_storage_that_cannot_be_is_one_line_before_anything_begins(
    bucket: str, tmp_path: Path, storage: str, message: str, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """In a line of all that the process prints, and so of what Arrow itself prints, too."""
    storage, out = storage.replace("BUCKET", bucket), tmp_path / "r"
    monkeypatch.chdir(tmp_path)
    code = main(["search", *flags(FROM_SCRATCH), f"--out={out}", f"--storage={storage}"])
    printed = capfd.readouterr()
    assert (code, printed.out) == (2, "")
    (line,) = printed.err.splitlines()
    assert line.startswith("error: ")
    assert re.search(message, line), line
    assert list(tmp_path.iterdir()) == []
