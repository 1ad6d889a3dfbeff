"""`space --front`: against all networks of a small space, and as people see it."""

from __future__ import annotations

from pathlib import Path

import pytest

import cli
from sret_nas import Budget, cost_of
from sret_nas.arch.config import ArchConfig
from sret_nas.feasible.feasible_set import FeasibleSet
from sret_nas.yaml_files import dump_yaml, read_yaml
from tests.latency_profiles import SMALL

EFFECTS = {"recursions": {1: 0.5}, "width": {8: 0.3, 12: 0.1}, "heads": {2: 0.05}}


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """Returns a space, and a score of it."""
    space, score = tmp_path / "small.yaml", tmp_path / "score.yaml"
    space.write_text(dump_yaml(SMALL.to_dict()))
    score.write_text(dump_yaml({"every_stage": EFFECTS}))
    return str(space), str(score)


def score_of(arch: ArchConfig) -> float:
    stages = arch.stages
    total = sum(EFFECTS["width"].get(stage.width, 0.0) for stage in stages)
    return total + sum(0.5 * (s.recursions == 1) + 0.05 * (s.heads == 2) for s in stages)


def front_by_hand(cost: str, most_flops: int) -> list[tuple[int, float]]:
    """Returns costs and scores that no network beats, cheapest first."""
    found: list[tuple[int, float]] = []
    rows = {
        (getattr(cost_of(arch), cost), round(score_of(arch), 9))
        for arch in FeasibleSet(SMALL, Budget(flops_max=most_flops))
    }
    for spent, score in sorted(rows):
        if not found or score < found[-1][1]:
            found.append((spent, score))
    return found


@pytest.mark.parametrize("cost", ["flops", "params"])
def test_the_file_holds_the_front_of_all_networks(files: tuple[str, str], tmp_path: Path, cost: str) -> None:
    space, score = files
    most, out = FeasibleSet(SMALL, Budget()).most_expensive().flops // 2, tmp_path / "front.yaml"
    command = ["space", space, "--flops-budget", str(most), "--front", score, "--front-cost", cost]
    assert cli.main([*command, "--front-out", str(out)]) == 0
    written = read_yaml(out)
    assert [(row[cost], round(row["score"], 9)) for row in written["networks"]] == front_by_hand(cost, most)
    assert len(written["networks"]) >= 4
    for row in written["networks"]:
        arch = ArchConfig.from_dict(row["architecture"])
        assert (arch.arch_id, cost_of(arch).flops, cost_of(arch).params) == (
            row["arch_id"],
            row["flops"],
            row["params"],
        )
        assert score_of(arch) == pytest.approx(row["score"])
    assert written["objectives"] == ["score", cost]


def test_a_long_front_is_shown_by_networks_spread_over_it(
    files: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    front = front_by_hand("flops", 10**12)
    monkeypatch.setattr("trials.report.proven_front.MAX_SHOWN", 3)
    assert cli.main(["space", files[0], "--samples", "0", "--front", files[1]]) == 0
    text = capsys.readouterr().out
    text = text[text.index("Proven front") :]
    assert f"Proven front of score and FLOPs: {len(front)} networks, 3 of them here" in text
    scores = [line.split("│")[1].strip() for line in text.splitlines() if line.startswith("│") and line[2:8].strip()]
    assert scores == [f"{front[at][1]:.6g}" for at in (0, round((len(front) - 1) / 2), len(front) - 1)]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--front", "{score}", "--front-out", "{folder}/front.txt"], "--front-out must name a .yaml file"),
        (["--front", "{score}", "--front-out", "{folder}/no/front.yaml"], "there is no folder"),
        (["--front-out", "{folder}/front.yaml"], "--front-out goes with --front SCORE.yaml"),
        (["--front-cost", "params"], "--front-cost goes with --front SCORE.yaml"),
        (["--front", "{folder}/nosuch.yaml"], "there is no such file"),
        (["--front", "{score}", "--flops-budget", "1K"], "the nearest has"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_shown(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], problem: str
) -> None:
    given = [option.format(score=files[1], folder=tmp_path) for option in options]
    assert cli.main(["space", files[0], *given]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert problem in err
    assert err.count("\n") == 1
    assert not (tmp_path / "front.yaml").exists()
