"""`evaluate`: what it prints fits the network, and files that would lie in each other are refused before the work."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli import main
from sret_nas.arch.config import ArchConfig
from sret_nas.nn.model_directory import ModelInfo, write_model
from sret_nas.nn.network import SReT
from tests.trials.workflows.shipped_model import ARCH, NAMES, PREPROCESSING, write_digits_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "model"
    write_digits_model(folder)
    return folder


@pytest.mark.parametrize(
    ("json", "out"),
    [("ev/all.json", "ev"), ("ev", "ev"), ("ev", "ev/out"), ("ev/../ev/a/b.json", "ev"), ("link/all.json", "real")],
)
def test_one_output_inside_the_other(
    json: str, out: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    before = sorted(tmp_path.rglob("*"))
    arguments = ["--data", "digits", "--max-test-images", "20", "--no-latency", "--json", json, "--out", out]
    assert main(["evaluate", str(model), *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err == (
        f"error: --json and --out must not lie in each other, got {Path(json)} and {Path(out)}: name another --json\n"
    )
    assert captured.out == ""
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("stem", "is_said"), [({}, True), ({"norm": "layer"}, False), ({"kind": "patch"}, False), ({"norm": "none"}, False)]
)
def test_statistics_of_the_stem_are_mentioned_where_there_are_any(
    stem: dict[str, str], is_said: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arch = ArchConfig.from_dict({**ARCH.to_dict(), "stem": {"width": 8, "strides": [2, 2, 1], **stem}})
    write_model(tmp_path / "model", SReT(arch), ModelInfo(preprocessing=PREPROCESSING, class_names=NAMES))
    arguments = ["--data", "digits", "--max-test-images", "20", "--no-latency"]
    assert main(["evaluate", str(tmp_path / "model"), *arguments]) == 0
    assert ("BatchNorm" in capsys.readouterr().out) == is_said


def test_the_current_folder_is_refused_before_the_work(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", str(model), "--data", "digits", "--no-latency", "--out", "."]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: . is the folder that the command runs in, which cannot be replaced")
    assert captured.out == ""
