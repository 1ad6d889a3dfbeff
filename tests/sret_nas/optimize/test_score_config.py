"""Scores from files, against sums over the stages of each network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sret_nas import Budget, ConfigError, cost_of
from sret_nas.arch.config import ArchConfig
from sret_nas.feasible.feasible_set import FeasibleSet
from sret_nas.optimize.score_config import ScoreConfig, StageEffects
from sret_nas.space.chain import chain_of
from sret_nas.space.choice_costs import choice_costs_of
from sret_nas.space.choices import StageChoices
from tests.counted_spaces import HEADS, RESIDUALS, STEMS, VARIED
from tests.latency_profiles import SMALL

FILE = """\
every_stage:
  recursions: {2: 1, 3: 2.5}
  nll: {none: 0.25}
stages:
  - {groups: {3-2: 10, 1: 20}, mlp_ratio: {1: 5}}
  - {width: {16: 40.0}}
stem_width: {8: 100}
log_flops: -2.0
log_params: 3
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "score.yaml"
    path.write_text(text)
    return path


def expected(arch: ArchConfig) -> float:
    """Computes the score of `FILE` by hand."""
    first, second = arch.stages
    cost = cost_of(arch)
    total = 5 + 40 * (second.width == 16) + 100 * (arch.stem.width == 8)
    total += 10 if first.groups[0] == 3 else 20
    total += 1.0 * (first.recursions == 2) + 2.5 * (second.recursions == 3) + 0.25 * (first.nll == "none")
    return float(total - 2 * np.log(cost.flops) + 3 * np.log(cost.params))


def test_the_score_of_every_network_is_the_sum_that_the_file_says(tmp_path: Path) -> None:
    score = ScoreConfig.load(write(tmp_path, FILE)).score(SMALL)
    networks = list(FeasibleSet(SMALL, Budget()))
    points = np.array([choice_costs_of(SMALL).choices(SMALL, arch) for arch in networks])
    found = score.of(chain_of(SMALL), points)
    assert found == pytest.approx([expected(arch) for arch in networks], abs=1e-9)
    assert len(set(found.round(6).tolist())) > 500


def test_every_dimension_can_have_effects() -> None:
    assert list(StageEffects.model_fields) == list(StageChoices.model_fields)


def test_variants_have_effects(tmp_path: Path) -> None:
    text = (
        'every_stage: {permute: {"false": 1.0}}\nstages: [{inverse: {"false": 0.1}}, {inverse: {"false": 5.0}}, {}]\n'
    )
    score = ScoreConfig.load(write(tmp_path, text)).score(VARIED)
    networks = FeasibleSet(VARIED, Budget()).sample_many(np.random.default_rng(0), 200)
    found = score.of(chain_of(VARIED), np.array([choice_costs_of(VARIED).choices(VARIED, arch) for arch in networks]))
    rows = [VARIED.encode(arch) for arch in networks]
    expected = [(row["stage1.permute"] == "false") + 0.1 * (row["stage1.inverse"] == "false") + 5 for row in rows]
    assert found == pytest.approx(expected)
    assert set(expected) == {5.0, 5.1, 6.1}


def test_stems_have_effects(tmp_path: Path) -> None:
    text = "stem_width: {6: 0.5}\nstem_kind: {patch: 1}\nstem_norm: {none: 10, layer: 20}\n"
    score = ScoreConfig.load(write(tmp_path, text)).score(STEMS)
    networks = list(FeasibleSet(STEMS, Budget()))
    found = score.of(chain_of(STEMS), np.array([choice_costs_of(STEMS).choices(STEMS, arch) for arch in networks]))
    # A patch embedding is spelled with the width and the norm that are listed first.
    expected = [
        21 if arch.stem.kind == "patch"
        else 0.5 * (arch.stem.width == 6) + {"none": 10, "layer": 20, "batch": 0}[arch.stem.norm]
        for arch in networks
    ]  # fmt: skip
    assert found == pytest.approx(expected)
    assert set(expected) == {0.0, 0.5, 10.0, 10.5, 20.0, 20.5, 21}


def test_residuals_have_effects(tmp_path: Path) -> None:
    score = ScoreConfig.load(write(tmp_path, "residual: {plain: 3, path: 0.5}\n")).score(RESIDUALS)
    networks = list(FeasibleSet(RESIDUALS, Budget()))
    points = np.array([choice_costs_of(RESIDUALS).choices(RESIDUALS, arch) for arch in networks])
    expected = [{"plain": 3, "path": 0.5, "branch": 0}[arch.residual] for arch in networks]
    assert score.of(chain_of(RESIDUALS), points).tolist() == expected


def test_heads_have_effects(tmp_path: Path) -> None:
    text = "head: {average: 3, distillation_token: 0.5}\nresidual: {plain: 10}\n"
    score = ScoreConfig.load(write(tmp_path, text)).score(HEADS)
    networks = list(FeasibleSet(HEADS, Budget()))
    points = np.array([choice_costs_of(HEADS).choices(HEADS, arch) for arch in networks])
    effects = {"average": 3, "distillation_token": 0.5, "class_token": 0}
    expected = [effects[arch.head] + 10 * (arch.residual == "plain") for arch in networks]
    assert score.of(chain_of(HEADS), points).tolist() == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{}", r"must name an effect"),
        ("every_stage: {}", r"must name an effect"),
        ("every_stage: {depth: {1: 2}}", r"every_stage\.depth: unknown key \(known here: width, heads"),
        ("log_flops: .inf", r"log_flops: must be a finite number"),
        ("every_stage: {heads: {2: much}}", r"heads.*must be a number"),
        ("every_stage: {heads: {3: 1}}", r"every_stage\.heads: 3 is not listed by the space \(1, 2\)"),
        ("stages: [{}, {width: {12: 1}}]", r"stages\[1\]\.width: 12 is not listed by the space \(16, 8\)"),
        ("stages: [{width: {8: 1}}]", r"stages: must have one entry per stage of small, 2, or be left out; got 1"),
        ("residual: {path: 1}", r"residual: path is not listed by the space \(none\)"),
        ("stem_norm: {batch: 1}", r"stem_norm: batch is not listed by the space \(none\)"),
        ("stem_width: {5: 1}", r"stem_width: 5 is not listed by the space \(4, 8\)"),
        ("log_flop: 1", r"log_flop: unknown key"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(tmp_path: Path, text: str, problem: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=problem) as error:
        ScoreConfig.load(path).score(SMALL, str(path))
    assert str(error.value).startswith(str(path))


def test_a_stem_without_choices_takes_no_effects() -> None:
    from sret_nas.space.search_space import SearchSpace

    data: dict[str, Any] = {**SMALL.to_dict(), "stem": {}}
    with pytest.raises(ConfigError, match=r"stem_width: 4 is not listed by the space \(none\)"):
        ScoreConfig(stem_width={4: 1.0}).score(SearchSpace.from_dict(data))
