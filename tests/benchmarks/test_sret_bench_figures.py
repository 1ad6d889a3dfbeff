"""The figures of SReT-Bench, on tables whose truth is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.sret_bench import figures
from benchmarks.sret_bench.effects import kinds_of_effects
from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.feasible.feasible_set import FeasibleSet
from tests.benchmarks.test_sret_bench import SPACE

GAIN = 0.02
"""By how much a second recursion lowers the planted error, in both stages."""


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"FOLDS": 3, "SPLITS": 2, "LABELS": (60,), "MIN_NETWORKS": 50}.items():
        monkeypatch.setattr(figures, name, value)


@pytest.fixture(scope="module")
def lines() -> list[dict[str, Any]]:
    """Returns networks whose error is a sum: recursions, groups and nothing else."""
    archs = FeasibleSet(SPACE, Budget()).sample_many(np.random.default_rng(0), 140)
    return [line(number, arch) for number, arch in enumerate(archs)]


def line(number: int, arch: ArchConfig) -> dict[str, Any]:
    gains = sum(GAIN * (stage.recursions - 1) + 0.005 * (stage.groups[0] > 1) for stage in arch.stages)
    return {
        "supernet": 0, "number": number, "set": "stratified" if number % 2 else "window", "error": 0.4 - gains,
        "architecture": arch.to_dict(), "flops": cost_of(arch).flops,
    }  # fmt: skip


@pytest.mark.slow
def test_a_sum_of_effects_is_explained(lines: list[dict[str, Any]]) -> None:
    found = figures.additivity(SPACE, lines)
    assert found is not None
    models = found["models"]
    assert found["n"] == 140
    assert models["single effects"]["r2"]["value"] > 0.99 > models["FLOPs"]["r2"]["value"]
    low, high = models["FLOPs"]["tau"]["interval"]
    assert low < models["FLOPs"]["tau"]["value"] < high < models["single effects"]["tau"]["value"]
    assert models["single effects"]["tau_in_window"]["n"] == 70
    assert found["labels"]["60"]["with pairs"]["r2"][0] > 0.95


def test_what_a_recursion_is_worth_and_which_kinds_of_choices_matter(lines: list[dict[str, Any]]) -> None:
    found = kinds_of_effects(lines)
    assert found is not None
    for stage in (1, 2):
        gain = found["recursions"][f"stage {stage}, 2 instead of 1"]
        assert gain["value"] == pytest.approx(-GAIN, rel=0.1)
        assert gain["interval"][0] <= gain["value"] <= gain["interval"][1]
    lost = {kind: each["value"] for kind, each in found["lost_without"].items()}
    assert max(lost, key=lambda kind: lost[kind]) == "recursions"
    assert abs(lost["mlp_ratio"]) < 0.01 < lost["recursions"]


def test_supernets_are_compared_on_what_both_have_scored(lines: list[dict[str, Any]]) -> None:
    assert figures.between_supernets(lines) is None
    reverse = [{**each, "supernet": 1, "error": 1 - each["error"]} for each in lines[:60]]
    found = figures.between_supernets([*lines, *reverse])
    assert found is not None
    assert (found["n"], found["tau"]["value"]) == (60, -1.0)


def trainings(final: dict[tuple[int, str], float], early: dict[tuple[int, str], float]) -> list[dict[str, Any]]:
    common = {"schedule_images": 100, "seed": 0}
    return [
        {**common, "images": images, "cost": cost, "structure": structure, "flops": 10**8 * 2**cost,
         "error": error, "predicted_error": {"best": 0.1, "middling": 0.2, "worst": 0.3}[structure]}
        for images, errors in ((10, early), (100, final))
        for (cost, structure), error in errors.items()
    ]  # fmt: skip


NETWORKS = [(cost, structure) for cost in range(4) for structure in ("best", "middling", "worst")]
FINAL = {
    (cost, structure): 0.5 - 0.02 * cost + 0.01 * ("best", "middling", "worst").index(structure)
    for cost, structure in NETWORKS
}
"""Two points per doubling of FLOPs, one per step of structure."""


def test_slopes_and_ranks_at_every_length() -> None:
    early = {(cost, structure): 0.6 + 0.01 * cost + FINAL[0, structure] for cost, structure in NETWORKS}
    found = figures.lengths(trainings(FINAL, early))
    assert found is not None
    short, long = (found["on_the_way"][images] for images in ("10", "100"))
    assert long["slope"]["value"] == -2.0
    assert short["slope"]["value"] == 1.0  # it favours small networks
    assert (short["tau_at_equal_cost"]["value"], long["tau"]["value"]) == (1.0, 1.0)
    assert short["tau"]["value"] < 0.5
    assert found["second_seeds"] is None


def test_lengths_need_trainings_that_came_to_their_end() -> None:
    assert figures.lengths(trainings(dict(list(FINAL.items())[:3]), FINAL)) is None


def test_noise_of_a_training_is_that_of_pairs_of_seeds() -> None:
    first = trainings(FINAL, FINAL)
    second = [{**each, "seed": 1, "error": each["error"] + 0.02} for each in first if each["cost"] == 0]
    found = figures.second_seeds([*first, *second], 100)
    assert found == {"n": 3, "noise_sd": pytest.approx(0.02 / np.sqrt(2), abs=1e-5)}


def test_structures_are_compared_at_equal_cost() -> None:
    found = figures.structures(trainings(FINAL, FINAL))
    assert found is not None
    assert found["worst less best"] == {"value": 0.02, "interval": [0.02, 0.02], "n": 4, "better": 4}
    assert found["tau_at_equal_cost"]["value"] == 1.0


def test_models_of_other_supernets_are_compared_with_long_training() -> None:
    known = trainings(FINAL, FINAL)

    def by_structure(rows: list[dict[str, Any]]) -> np.ndarray:
        return np.array([row["predicted_error"] for row in rows])

    found = figures.unseen_models(known, {"1": by_structure, "2": lambda rows: -by_structure(rows)})
    assert found is not None
    assert (found["1"]["tau_at_equal_cost"]["value"], found["2"]["tau_at_equal_cost"]["value"]) == (1.0, -1.0)
    assert found["1"]["tau"]["value"] < 1.0  # it says nothing of size
    assert figures.unseen_models(known[:3], {}) is None


def test_equal_seconds_gives_proxies_what_the_supernet_took(lines: list[dict[str, Any]]) -> None:
    speed = {"supernet_images_per_second": 10.0, "seconds_per_score": 1.0, "scratch_images_per_second": 10.0}
    found = figures.equal_seconds(
        lines, trainings(FINAL, FINAL), speed, 1_000, lambda known, rows: np.array([row["error"] for row in rows])
    )
    assert found is not None
    few, many = found["trials"]["50"], found["trials"]["1000"]
    assert (few["cpu_seconds"], few["images_per_proxy"]) == (150, 30)
    assert (few["on_the_way"]["length"], few["on_the_way"]["tau"]["value"]) == (10, 1.0)
    assert "own_schedule" not in few  # none has ended
    assert (many["images_per_proxy"], "on_the_way" in many) == (11, True)
    assert few["supernet"] == {
        "draws": 2, "tau": {"value": 1.0, "interval": [1.0, 1.0]},
        "tau_at_equal_cost": {"value": 1.0, "interval": [1.0, 1.0]},
    }  # fmt: skip
    assert "supernet" not in many  # only 140 networks have scores


def test_the_supernet_s_model_knows_no_more_scores_than_there_are_trials(lines: list[dict[str, Any]]) -> None:
    seen: list[list[int]] = []

    def model(known: list[dict[str, Any]], rows: list[dict[str, Any]]) -> np.ndarray:
        seen.append([line["number"] for line in known])
        return np.array([row["error"] for row in rows]) * (1 if len(seen) == 1 else -1)

    speed = {"supernet_images_per_second": 10.0, "seconds_per_score": 1.0, "scratch_images_per_second": 10.0}
    found = figures.equal_seconds(lines, trainings(FINAL, FINAL), speed, 1_000, model)
    assert found is not None
    assert seen == [list(range(50)), list(range(50, 100))]
    assert found["trials"]["50"]["supernet"]["tau"] == {"value": 0.0, "interval": [-1.0, 1.0]}


def test_equal_seconds_compare_proxies_with_schedules_of_their_own(lines: list[dict[str, Any]]) -> None:
    reversed_ends = {key: 1 - error for key, error in FINAL.items()}
    own = [
        {**each, "schedule_images": 20, "images": 20} for each in trainings(reversed_ends, {}) if each["images"] == 100
    ]
    speed = {"supernet_images_per_second": 10.0, "seconds_per_score": 1.0, "scratch_images_per_second": 10.0}
    found = figures.equal_seconds(
        lines,
        [*trainings(FINAL, FINAL), *own],
        speed,
        1_000,
        lambda known, rows: np.array([row["error"] for row in rows]),
    )
    assert found is not None
    few, many = found["trials"]["50"], found["trials"]["1000"]
    assert few["own_schedule"]["length"] == 20
    assert few["own_schedule"]["tau"]["value"] == pytest.approx(-1, abs=0.02)  # differences of floats: almost no ties
    assert (few["on_the_way"]["length"], few["on_the_way"]["tau"]["value"]) == (10, 1.0)
    assert "own_schedule" not in many  # 11 images a proxy are too few
