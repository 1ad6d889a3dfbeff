"""The comparison of strategies: metrics by hand and against moocore, controls, statistics, a whole small comparison."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import moocore
import numpy as np
import pytest

from benchmarks.search import best_known as long_search
from benchmarks.search.best_known import FrontSearch, best_known
from benchmarks.search.comparison import against, holm, median_interval, signed_rank
from benchmarks.search.controls import INTERACTION_SD, PlantedPairs, hashed, shuffled
from benchmarks.search.gpt import GPT, HW_GPT, GPTSpace
from benchmarks.search.gpt_domain import GPTDomain
from benchmarks.search.metrics import attainment, excess_values, igd_plus, recommended, regret, regret_curve
from benchmarks.search.plots import draw_problem
from benchmarks.search.problems import FACTORIES, MEDIAN_PARAMS_S, Bounds, Problem
from benchmarks.search.runs import append_line, bundle, is_current, key_of, read_lines, search
from benchmarks.search.summary import Known, markdown, summarised
from sret_nas.arrays import FloatArray, IntArray
from sret_nas.pareto import hypervolume, non_dominated

TINY = GPTSpace(embeds=(8, 16), layers=(1, 2), heads=(1, 2, 4))
DOMAIN = GPTDomain(TINY)
LEVELS = np.array([TINY.levels(network) for network in DOMAIN])


def landscape(levels: IntArray) -> FloatArray:
    """Returns scores by which fewer heads than MLP ratio would be bad; and some of it is not a sum over layers."""
    total: FloatArray = 40 - levels[:, 1:].sum(axis=1) - levels[:, 0] + 0.3 * levels[:, 1] * levels[:, -1]
    return total


COSTS = TINY.params_of_levels(LEVELS)
BOUNDS = Bounds((20.0, 45.0), (int(COSTS.min()), int(COSTS.max())))


def tiny_problem(noise: float = 0.0) -> Problem:
    def value(network: GPT) -> float:
        return float(landscape(np.array([TINY.levels(network)]))[0])

    return Problem(
        "tiny-noise-x" if noise else "tiny", "Tiny", DOMAIN, ("perplexity", "params"), value, BOUNDS,
        checkpoints=(10, 25), noise=noise, landscape=landscape,
    )  # fmt: skip


@pytest.mark.parametrize("dimensions", [2, 3])
def test_hypervolume_is_moocores(dimensions: int) -> None:
    rng = np.random.default_rng(dimensions)
    for number in (1, 5, 60):
        points = rng.integers(0, 12, (number, dimensions)) / 10  # ties, and some outside the reference
        assert hypervolume(points, np.ones(dimensions)) == pytest.approx(
            moocore.hypervolume(points, ref=np.ones(dimensions)), abs=1e-12
        )


def test_regret_is_the_missing_share() -> None:
    points = np.array([[0.5, 0.5], [0.9, 0.2], [0.5, 0.5]])
    assert regret(points, best=0.5) == pytest.approx(100 * (1 - (0.25 + 0.1 * 0.3) / 0.5))
    assert regret(np.empty((0, 2)), best=0.5) == 100


def test_the_curve_is_the_regret_of_every_prefix() -> None:
    points = np.random.default_rng(0).random((40, 2))
    expected = [regret(points[:number], 0.9) for number in range(1, 41)]
    assert regret_curve(points, 0.9).tolist() == pytest.approx(expected)


def test_excess_by_hand() -> None:
    known = np.array([5.0, 3.0, 1.0]), np.array([2.0, 100.0, 1024.0])
    # Budgets 2, 4, ..., 1024: the best known is 5 up to 64, then 3, then 1
    found = excess_values([6.0, 3.5], [4.0, 512.0], known, box=(1.0, 1024.0))
    assert found.tolist() == [np.inf, 1, 1, 1, 1, 1, 3, 3, 0.5, 2.5]
    nothing = excess_values([6.0], [1.0], (np.array([5.0]), np.array([512.0])), box=(1.0, 1024.0))
    assert np.isnan(nothing).tolist() == [True] * 8 + [False] * 2
    assert nothing[8:].tolist() == [1, 1]


def test_igd_plus_by_its_definition() -> None:
    rng = np.random.default_rng(0)
    points, front = rng.random((30, 2)), rng.random((20, 2)) / 2
    worse = np.maximum(points[None] - front[:, None], 0)
    assert igd_plus(points, front) == pytest.approx(np.linalg.norm(worse, axis=2).min(axis=1).mean())


def test_attainment_is_moocores() -> None:
    rng = np.random.default_rng(0)
    runs = [rng.random((10, 2)) for _ in range(5)]
    table = np.vstack([np.column_stack([run, np.full(10, number)]) for number, run in enumerate(runs)])
    for share in (0.2, 0.6, 1.0):
        surface = moocore.eaf(table[:, :2], sets=table[:, 2], percentiles=[100 * share])
        surface = surface[np.argsort(surface[:, 1])]
        assert attainment(runs, share, surface[:, 1]).tolist() == pytest.approx(surface[:, 0].tolist())
    assert attainment(runs, 0.5, np.array([-1.0])).tolist() == [np.inf]


def test_what_is_recommended_is_what_looks_best() -> None:
    assert recommended([1.0, 2.0, 3.0, 0.5], [10, 5, 7, 20]).tolist() == [True, True, False, True]


def test_log_cost_is_normalised_by_its_logarithm() -> None:
    bounds = Bounds((10.0, 20.0), (1, 100), log_cost=True)
    assert bounds.normalised([10, 20, 15], [1, 100, 10]).ravel().tolist() == pytest.approx([0, 0, 1, 1, 0.5, 0.5])
    assert Bounds((0.0, 1.0), (0, 10)).normalised([0.5], [5]).tolist() == [[0.5, 0.5]]


def test_holm_by_hand() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx(
        {"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06}
    )
    assert holm({"a": 0.9, "b": 0.8}) == {"b": 1.0, "a": 1.0}
    assert holm({}) == {}


def test_signed_rank_of_small_samples() -> None:
    smaller, larger = np.arange(5.0), 2 * np.arange(5.0) + 1
    assert signed_rank(smaller, larger) == pytest.approx(2 / 2**5)  # all of five signs alike, on two sides
    assert signed_rank(smaller, smaller) == 1


def test_comparisons_pair_by_seed() -> None:
    ours = {0: 1.0, 1: 2.0, 2: 3.0, 3: 9.0}
    compared = against(ours, {"worse": {2: 4.0, 1: 3.0, 0: 1.0}, "apart": {7: 0.0}})
    assert set(compared) == {"worse"}
    assert (compared["worse"]["seeds"], compared["worse"]["wins"], compared["worse"]["losses"]) == (3, 2, 0)


def test_median_intervals_hold_the_median() -> None:
    median, low, high = median_interval(np.arange(20.0))
    assert median == 9.5
    assert 5 < low < median < high < 14
    assert median_interval([3.0]) == (3, 3, 3)


def test_shuffled_labels_are_others_and_always_the_same() -> None:
    original = landscape(LEVELS)
    control = shuffled(landscape, DOMAIN)
    values = control(LEVELS)
    assert values.tolist() == control(LEVELS[::-1])[::-1].tolist()
    assert set(values) <= set(original)
    assert abs(np.corrcoef(values, original)[0, 1]) < 0.15  # of 360 independent ones, 3 standard errors
    assert len(set(hashed(LEVELS, 1).tolist())) == len(LEVELS)
    assert hashed(LEVELS, 1).tolist() != hashed(LEVELS, 2).tolist()


def drawn_levels(number: int) -> IntArray:
    space, rng = HW_GPT["s"], np.random.default_rng(0)
    domain = GPTDomain(space)
    return np.array([space.levels(domain.draw(rng)) for _ in range(number)])


@pytest.mark.slow
def test_planted_pairs_are_far_apart_and_as_strong_as_said() -> None:
    planted = PlantedPairs(HW_GPT["s"])
    assert all(other - one >= 3 for one, other in planted.pairs)
    levels = drawn_levels(3000)
    levels = levels[levels[:, 12] > 0]  # all twelve layers
    trend = np.interp(np.log(HW_GPT["s"].params_of_levels(levels)), np.log([22_746_240, 162_246_144]), [43.0, 21.3])
    assert (planted(levels) - trend).std() == pytest.approx(INTERACTION_SD, rel=0.15)


def test_planted_pairs_vanish_in_the_mean_over_one_layers_choices() -> None:
    space, planted = HW_GPT["s"], PlantedPairs(HW_GPT["s"])
    rows = np.repeat(drawn_levels(1), 9, axis=0)
    layer = planted.pairs[0][0]
    rows[:, 1 + layer], rows[:, 13 + layer] = np.repeat([1, 2, 3], 3), np.tile([1, 2, 3], 3)
    without = rows[:1].copy()
    without[:, 1 + layer] = without[:, 13 + layer] = 0  # what the other layers' pairs add

    def interactions(levels: IntArray) -> FloatArray:
        trend = np.interp(np.log(space.params_of_levels(levels)), np.log([22_746_240, 162_246_144]), [43.0, 21.3])
        return planted(levels) - trend

    assert interactions(rows).mean() == pytest.approx(interactions(without)[0])
    assert interactions(rows).std() > 0.01


def test_noise_is_relative_and_the_same_for_a_network_and_seed() -> None:
    problem = tiny_problem(noise=0.02)
    networks = list(DOMAIN)
    told = np.array([problem.told(network, 0) for network in networks])
    noise = told / [problem.value(network) for network in networks] - 1
    assert noise.std() == pytest.approx(0.02, rel=0.15)
    assert abs(noise.mean()) < 0.004
    assert problem.told(networks[0], 0) == told[0] != problem.told(networks[0], 1)
    assert problem.front_name == "tiny"
    assert tiny_problem().told(networks[0], 0) == tiny_problem().value(networks[0])


def test_the_windows_middle_is_the_median_network() -> None:
    domain = GPTDomain(HW_GPT["s"], most=MEDIAN_PARAMS_S)
    below = GPTDomain(HW_GPT["s"], most=MEDIAN_PARAMS_S - 1)
    assert below.count < HW_GPT["s"].num_networks / 2 <= domain.count


def test_the_long_search_finds_a_small_spaces_front(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_search, "ROUNDS", 3)
    rows = np.column_stack([landscape(LEVELS), COSTS])
    front = np.unique(rows[non_dominated(rows)], axis=0)
    found, evaluations = best_known(tiny_problem())
    assert np.unique(found, axis=0).tolist() == front.tolist()
    assert evaluations > 1000


def test_the_long_search_stays_inside_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_search, "ROUNDS", 3)
    least, most = np.quantile(COSTS, [0.3, 0.6])
    archive = FrontSearch(GPTDomain(TINY, least, most), landscape, BOUNDS).run()
    inside = (least <= COSTS) & (most >= COSTS)
    rows = np.column_stack([landscape(LEVELS), COSTS])[inside]
    assert archive.costs.tolist() == np.unique(rows[non_dominated(rows)], axis=0)[:, 1].tolist()


@pytest.fixture
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    factories: dict[str, Callable[[Path], Problem]] = {"tiny": lambda _: tiny_problem()}
    factories["tiny-noise-x"] = lambda _: tiny_problem(0.02)
    for name, factory in factories.items():
        monkeypatch.setitem(FACTORIES, name, factory)


@pytest.mark.usefixtures("_tiny")
@pytest.mark.parametrize("entry", ["random", "nsga2-20", "stratified", "additive-8"])
def test_a_search_repeats_itself_and_says_what_it_evaluated(entry: str, tmp_path: Path) -> None:
    first, again = (search("tiny", entry, 3, 25, tmp_path) for _ in range(2))
    assert {**first, "seconds": 0} == {**again, "seconds": 0}
    assert len(first["values"]) == len(first["costs"]) == 25
    assert set(zip(first["values"], first["costs"], strict=True)) <= {
        (round(value, 4), cost) for value, cost in zip(landscape(LEVELS).tolist(), COSTS.tolist(), strict=True)
    }
    assert "told" not in first
    assert search("tiny", entry, 4, 25, tmp_path)["costs"] != first["costs"]


@pytest.mark.usefixtures("_tiny")
def test_searches_are_remembered_and_bundled(tmp_path: Path) -> None:
    lines = [search("tiny", "random", seed, 10, tmp_path) for seed in (1, 0)]
    for line in lines:
        append_line(tmp_path / "runs.jsonl", line)
    with (tmp_path / "runs.jsonl").open("a") as file:
        file.write('{"problem": "ti')  # a torn line
    read = read_lines(tmp_path / "runs.jsonl")
    assert read == {key_of(line): line for line in lines}
    for name, order in (("one.xz", lines), ("other.xz", lines[::-1])):
        bundle(order, tmp_path / name)
    assert (tmp_path / "one.xz").read_bytes() == (tmp_path / "other.xz").read_bytes()
    assert read_lines(tmp_path / "one.xz") == read
    assert read_lines(tmp_path / "none.jsonl") == {}
    assert is_current(lines[0], 10, tmp_path)
    assert not is_current(lines[0], 11, tmp_path)
    assert not is_current({**lines[0], "members": 12}, 10, tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("_tiny")
def test_a_comparison_from_searches_to_tables(tmp_path: Path) -> None:
    problem = tiny_problem(0.02)
    rows = np.column_stack([landscape(LEVELS), COSTS])
    known = Known(problem, rows[non_dominated(rows)])
    lines = {
        entry: {seed: search("tiny-noise-x", entry, seed, 25, tmp_path) for seed in range(3)}
        for entry in ("random", "stratified")
    }
    without = {"seconds": None}  # these searches were interrupted, so that their seconds say nothing
    lines["random"][0] |= without
    lines["additive"] = {
        seed: {**line, **without, "estimated": line["values"]} for seed, line in lines["stratified"].items()
    }
    figures = summarised(known, lines)
    draw_problem(tmp_path / "tiny.png", known, lines)
    assert (tmp_path / "tiny.png").stat().st_size > 10_000
    summary = json.loads(json.dumps(figures, allow_nan=False))
    line = lines["random"][1]
    points = BOUNDS.normalised(line["values"], line["costs"])
    best = hypervolume(BOUNDS.normalised(*known.front.T), (1, 1))
    assert known.figures(line)["regret"] == {"10": regret(points[:10], best), "25": regret(points, best)}
    pairs = list(zip(line["told"], line["costs"], strict=True))
    kept = [not any(other != pair and other[0] <= pair[0] and other[1] <= pair[1] for other in pairs) for pair in pairs]
    assert known.figures(line)["recommended_regret"] == regret(points[kept], best)
    ours = known.figures(lines["additive"][1])  # estimates that are exact recommend the true front
    assert ours["estimated_regret"] == ours["regret"]["25"] < ours["recommended_regret"]
    medians = [np.median([known.figures(it)["regret"]["25"] for it in lines[entry].values()]) for entry in lines]
    assert [row["regret"]["25"][0] for row in summary["strategies"].values()] == pytest.approx(medians)
    assert summary["against"]["25"]["stratified"] == {"seeds": 3, "wins": 0, "losses": 0, "p": 1.0, "p_holm": 1.0}
    taken = {name: row["ms_per_ask"] for name, row in summary["strategies"].items()}
    assert taken["random"] == pytest.approx(np.mean([40 * lines["random"][seed]["seconds"] for seed in (1, 2)]))
    assert taken["additive"] is None
    text = markdown({"versions": {"numpy": "2"}, "date": "2026", "cores": 2, "problems": {"tiny": summary}})
    assert f"| {medians[0]:.2f} | **{medians[1]:.2f}** | **{medians[1]:.2f}** |" in text
    assert "| additive | 3 |" in text
    assert "| observed front | estimated front |" in text


def test_what_searches_found_extends_the_best_known_front() -> None:
    known = Known(tiny_problem(), np.array([[30.0, 810_000.0], [25.0, 820_000.0]]))
    line = {"values": [24.0, 50.0], "costs": [815_000, 900_000]}
    assert known.extended([line]).front.tolist() == [[24, 815_000], [30, 810_000]]
