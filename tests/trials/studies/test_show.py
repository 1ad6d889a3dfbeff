"""`study list` and `study show` of studies that have not run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from sret_nas.errors import UserError
from tests.foreign_files.runs import KINDS
from tests.trials.studies.tiny_study import write_study
from trials.command_line.main import main
from trials.runs.directory import RECORDS_FILE


def test_all_shipped_studies_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "list"]) == 0
    printed = capsys.readouterr().out
    assert "loops " in printed
    assert "12" in next(line for line in printed.splitlines() if "recursion " in line and "DeiT" in line)


def test_a_study_is_shown_with_its_variants_and_claims(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_study(tmp_path)
    assert main(["study", "show", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "stages loop external" in printed
    assert "Claim 1: Internal is better. (nobody)" in printed
    assert "FLOPs are for 1,000 classes and 3 channels, as the base has them." in " ".join(printed.split())
    assert main(["study", "show", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["study"]["name"] == "tiny"


def test_what_is_missing_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["study", "run"]) == 2
    assert "name the study: a YAML file, one that `study list` shows, or --resume RUN" in capsys.readouterr().err
    assert main(["study", "show", "nothing"]) == 2
    assert "'nothing' is no study: name a YAML file, or one of deep, depths" in capsys.readouterr().err
    assert main(["study", "show", "~nobody_of_this_name/x"]) == 2
    assert capsys.readouterr().err.startswith("error: '~nobody_of_this_name/x' cannot be looked up: ")
    assert main(["study", "run", "--resume", str(tmp_path), "--seeds", "3"]) == 2
    assert "holds no study: there is no records.jsonl in it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ('"classes": 10,', '"classes": 1e+308,', "data.classes: must be a whole number"),
        ('"channels": 1', '"channels": 0', "data.channels: must be greater than or equal to 1"),
        ('"digest": ', '"digits": ', "data.digest: is missing"),
    ],
)
def test_images_that_no_study_records_are_named(before: str, after: str, problem: str, tmp_path: Path) -> None:
    kind = KINDS["records of a study"]
    (tmp_path / "file").write_bytes(kind.good().replace(before.encode(), after.encode()))
    with pytest.raises(UserError, match=re.escape(f"{tmp_path / RECORDS_FILE}, line 1: {problem}")):
        kind.read(tmp_path / "file")
