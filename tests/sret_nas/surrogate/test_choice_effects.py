"""Effects of choices, against what was planted in a space that lists variants of the whole network."""

from __future__ import annotations

import numpy as np
import pytest

from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.feasible.feasible_set import FeasibleSet
from sret_nas.space.chain import chain_of
from sret_nas.space.choice_costs import choice_costs_of
from sret_nas.space.search_space import SearchSpace
from sret_nas.surrogate.choice_effects import ChoiceEffect, choice_effects
from sret_nas.surrogate.features import EffectTerms
from sret_nas.surrogate.model import Surrogate
from tests.counted_spaces import HEADS, RESIDUALS

PLANTED = {"plain": 0.3, "path": 0.0, "branch": 0.1}


def error_of(arch: ArchConfig) -> float:
    planted = PLANTED[arch.residual] + 0.2 * (arch.stem.kind == "patch") + 0.05 * (arch.stages[0].width == 8)
    return 0.5 + planted - 0.1 * (arch.head == "class_token")


@pytest.fixture(scope="module")
def effects() -> dict[tuple[int, str, int], ChoiceEffect]:
    return effects_in(RESIDUALS)


def effects_in(space: SearchSpace) -> dict[tuple[int, str, int], ChoiceEffect]:
    chain = chain_of(space)
    networks = FeasibleSet(space, Budget()).sample_many(np.random.default_rng(0), 150)
    points = np.array([choice_costs_of(space).choices(space, arch) for arch in networks])
    labels = np.array([error_of(arch) for arch in networks])
    model = Surrogate(EffectTerms(chain), points, chain.costs(points).astype(float), labels, (0,))
    found = choice_effects(chain, model, points, np.random.default_rng(0))
    return {(effect.stage, effect.attribute, effect.before): effect for effect in found}


def test_residuals_change_in_all_stages_at_once(effects: dict[tuple[int, str, int], ChoiceEffect]) -> None:
    assert [key for key in effects if key[1] == "residual"] == [(0, "residual", 0), (0, "residual", 1)]
    to_path, to_branch = effects[0, "residual", 0], effects[0, "residual", 1]
    assert (to_path.after, to_branch.after) == (1, 2)
    assert to_path.mean == pytest.approx(-0.3, abs=0.02)
    assert to_branch.mean == pytest.approx(0.1, abs=0.02)
    assert to_path.is_sure
    assert to_branch.is_sure
    assert to_path.cost_ratios[0] == 1  # coefficients cost no FLOPs
    assert to_path.cost_ratios[1] > 1 > to_branch.cost_ratios[1]


def test_stems_are_choices_of_the_first_stage(effects: dict[tuple[int, str, int], ChoiceEffect]) -> None:
    assert effects[0, "stem kind", 0].mean == pytest.approx(0.2, abs=0.02)
    assert effects[0, "stem kind", 0].cost_ratios[0] < 1


def test_heads_are_choices_of_the_last_stage() -> None:
    effects = effects_in(HEADS)
    assert effects[1, "head", 0].mean == pytest.approx(0.1, abs=0.03)  # from a class token to the average
    assert effects[1, "head", 1].mean == pytest.approx(0.0, abs=0.03)
    assert effects[0, "residual", 0].mean == pytest.approx(0.3, abs=0.03)
