"""The comparison at equal seconds: what a search recommends, what is trained of it, and figures by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.end_to_end.recommending import best_structures, model_of, recommended_numbers
from benchmarks.end_to_end.report import WORST, draw, figures, front_volume, markdown
from benchmarks.end_to_end.searches import _search, _Trials, shortened
from benchmarks.end_to_end.setting import ADDITIVE, BOTH, BUDGET, BUDGETS, ENTRIES, POPULATION, SEEDS, SPACE
from benchmarks.end_to_end.standalone import arch_of, recommended, trainings
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.feasible.stratified import StratifiedSampler
from trials.strategies.sret import SReTDomain
from trials.strategies.strategy import Candidate

DRAWN = StratifiedSampler(SPACE, BUDGET).sample_many(np.random.default_rng(0), 64)
DOMAIN = SReTDomain(SPACE, BUDGET)
ARCHS = sorted(DRAWN, key=lambda arch: cost_of(arch).flops)


def trial(arch: ArchConfig, error: float) -> dict[str, Any]:
    return {"spent": 1.0, "error": error, "flops": cost_of(arch).flops, "architecture": arch.to_dict()}


def search(entry: str, seed: int, trials: list[dict[str, Any]]) -> dict[str, Any]:
    candidates = [Candidate(arch_of(one), "full") for one in trials]
    numbers = recommended_numbers(DOMAIN, candidates, [one["error"] for one in trials])
    return {"entry": entry, "seed": seed, "seconds": 240.0, "trials": trials, "recommended": numbers}


def within(budget: int) -> list[ArchConfig]:
    return [arch for arch in ARCHS if cost_of(arch).flops <= budget]


def test_budgets_are_spread_evenly_over_the_logarithm_up_to_that_of_the_searches() -> None:
    assert BUDGETS[-1] == BUDGET.flops_max
    assert np.diff(np.log(BUDGETS)) == pytest.approx(math.log(4) / 4, abs=1e-5)


def test_few_trials_recommend_the_least_error_within_each_budget_and_of_equals_the_cheapest() -> None:
    cheap, dear = within(BUDGETS[1])[-1], ARCHS[-1]
    assert BUDGETS[0] < cost_of(cheap).flops <= BUDGETS[1] < BUDGETS[3] < cost_of(dear).flops
    best = recommended(search("any", 0, [trial(dear, 0.4), trial(cheap, 0.5)]))
    assert [None if found is None else found["error"] for found in best] == [None, 0.5, 0.5, 0.5, 0.4]
    equal = recommended(search("any", 0, [trial(dear, 0.5), trial(cheap, 0.5)]))
    assert equal[-1] is not None
    assert arch_of(equal[-1]) == cheap


def test_many_trials_recommend_the_best_structure_by_their_model() -> None:
    """Errors are a sum of effects and much noise: the model sees through the luck of a single network."""
    rng = np.random.default_rng(0)
    candidates = [Candidate(arch, "full") for arch in ARCHS]
    true = np.array([0.7 - 0.02 * arch.stages[0].width / 8 - 0.02 * arch.stages[2].width / 16 for arch in ARCHS])
    told = (true + rng.normal(0, 0.01, len(true))).tolist()
    model = model_of(DOMAIN, candidates, told)
    assert model is not None
    best = best_structures(model)
    assert all(
        found is not None and cost_of(found.arch).flops <= budget for found, budget in zip(best, BUDGETS, strict=True)
    )
    widest = best[-1]
    assert widest is not None
    assert (widest.arch.stages[0].width, widest.arch.stages[2].width) == (32, 64)
    evaluated = [*candidates, widest]
    numbers = recommended_numbers(DOMAIN, evaluated, [*told, 0.7])  # its own result is bad luck
    assert numbers[-1] == len(candidates)
    assert model_of(DOMAIN, candidates[:11], told[:11]) is None


def test_records_keep_the_architectures_that_are_recommended() -> None:
    cheap, middle, dear = within(BUDGETS[1])[-1], within(BUDGETS[2])[-1], ARCHS[-1]
    whole = search("any", 0, [trial(middle, 0.6), trial(dear, 0.4), trial(cheap, 0.5)])
    short = shortened(whole)
    assert ["architecture" in kept for kept in short["trials"]] == [False, True, True]
    assert recommended(short) == recommended(whole)


def test_a_network_is_trained_once_for_all_that_recommend_it_under_one_seed() -> None:
    cheap, dear = within(BUDGETS[1])[-1], ARCHS[-1]
    searches = [
        search("one", 0, [trial(cheap, 0.5)]),
        search("other", 0, [trial(cheap, 0.6), trial(dear, 0.4)]),
        search("one", 1, [trial(cheap, 0.5)]),
    ]
    assert trainings(searches) == {(cheap.arch_id, 0): cheap, (dear.arch_id, 0): dear, (cheap.arch_id, 1): cheap}


def trials_of(errors: dict[str, float], from_scratch: bool = True) -> _Trials:
    """Returns trials that take a second each; networks without an error of their own have one of 0.6."""
    seconds = iter(range(10_000))
    return _Trials(lambda arch: errors.get(arch.arch_id, 0.6), lambda: next(seconds), from_scratch)


def test_a_search_begins_with_the_networks_it_is_given_and_tries_none_twice() -> None:
    first = [Candidate(arch, "full") for arch in within(BUDGETS[2])[:POPULATION]]
    found = _search(BOTH, 0, DOMAIN, trials_of({}), 80, first)
    assert [candidate.key for candidate in found.candidates[: len(first)]] == [candidate.key for candidate in first]
    assert len({candidate.key for candidate in found.candidates}) == len(found.candidates) > len(first)
    assert [line["flops"] for line in found.lines] == [cost_of(one.arch).flops for one in found.candidates]


def test_what_is_handed_on_are_the_recommended_networks_and_the_front_beside_them() -> None:
    errors = {arch.arch_id: 0.65 - 0.002 * number for number, arch in enumerate(ARCHS)}  # all of them are the front
    found = trials_of(errors)
    for arch in ARCHS:
        found.run(Candidate(arch, "full"))
    handed = [candidate.arch for candidate in found.front(DOMAIN)]
    recommended_ones = [ARCHS[number] for number in found.recommended(DOMAIN) if number is not None]
    assert set(recommended_ones) <= set(handed)
    assert len(handed) == len(set(handed)) == POPULATION
    worse = trials_of({arch.arch_id: 0.5 + 0.001 * number for number, arch in enumerate(ARCHS)})
    for arch in ARCHS:
        worse.run(Candidate(arch, "full"))
    (cheapest, *others) = sorted(worse.front(DOMAIN), key=lambda candidate: cost_of(candidate.arch).flops)
    assert cheapest.arch == ARCHS[0]  # the whole front
    assert len(others) < len(BUDGETS)


def test_the_volume_of_a_front_is_that_of_its_steps() -> None:
    """Two networks: the cheaper one counts up to the cost of the better one; none at all is nothing."""
    low, high = math.log(BUDGETS[0] / 2), math.log(BUDGETS[-1])
    first, second = math.log(BUDGETS[1]), math.log(BUDGETS[3])
    gained = ((second - first) * (WORST - 0.5) + (high - second) * (WORST - 0.45)) / (high - low) / WORST
    found = [None, {"flops": BUDGETS[1], "test_error": 0.5}, {"flops": BUDGETS[3], "test_error": 0.45}]
    assert front_volume(found) == pytest.approx(gained)
    assert front_volume([*found, {"flops": BUDGETS[3], "test_error": 0.6}]) == pytest.approx(gained)  # beaten
    assert front_volume([None, None]) == 0


def test_figures_tables_and_picture_are_those_of_the_lines(tmp_path: Path) -> None:
    """The last of the entries is not complete, so it is left out."""
    arch, better = within(BUDGETS[0])[0], within(BUDGETS[0])[-1]
    searches = [
        search(entry.name, seed, [trial(better if entry.inherits else arch, 0.5)])
        for entry in ENTRIES
        for seed in range(SEEDS if entry != ADDITIVE else SEEDS - 1)
    ]
    tested = [
        {"arch_id": one.arch_id, "seed": seed, "flops": cost_of(one).flops, "test_error": error + seed / 100}
        for one, error in ((arch, 0.5), (better, 0.45))
        for seed in range(SEEDS)
    ]
    tested = [{**line, "seconds": 9} for line in tested]
    header = {"versions": {"torch": "2"}, "date": "2026", "cores": 2}
    result = json.loads(json.dumps({**header, **figures(searches, tested)}))
    assert list(result["entries"]) == [entry.name for entry in ENTRIES if entry != ADDITIVE]
    for entry in ENTRIES:
        if entry == ADDITIVE:
            continue
        errors = [run["mean_test_error"] for run in result["entries"][entry.name]["runs"]]
        first = 0.45 if entry.inherits else 0.5
        assert errors == pytest.approx([first + seed / 100 for seed in range(SEEDS)])
    text = markdown(result)
    row = next(line for line in text.splitlines() if line.startswith("| random, from scratch"))
    assert row.endswith("| 52.00 ± 1.58 | 52.0 | 52.0 | 52.0 | 52.0 | 52.0 |")
    assert text.count(f"better in {SEEDS} of {SEEDS}") == 6  # three entries against two
    draw(tmp_path / "picture.png", result)
    assert (tmp_path / "picture.png").stat().st_size > 10_000
