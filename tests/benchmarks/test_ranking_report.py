"""The report of the ranking: the setting is what it says, figures from lines by hand, and their tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import kendalltau

from benchmarks.ranking import standalone, supernets
from benchmarks.ranking.pass_times import PassTimes
from benchmarks.ranking.plots import draw_networks, draw_times, draw_variants
from benchmarks.ranking.report import Table, figures, figures_within, groups_of, markdown
from benchmarks.ranking.setting import BUDGET, NUM_NETWORKS, REPEATED, SPACE, networks
from sret_nas.arch.cost import cost_of
from sret_nas.feasible.feasible_set import FeasibleSet

FLOPS = [100, 200, 300, 400, 500, 600, 700, 800]
ERRORS = [0.60, 0.58, 0.50, 0.52, 0.47, 0.46, 0.41, 0.40]


def table_line(number: int, seed: int, error: float) -> dict[str, Any]:
    return {
        "number": number, "seed": seed, "flops": FLOPS[number], "params": 900 - FLOPS[number], "error": error,
        "cross_entropy": 3 * error, "architecture": {"stages": [{"width": 16 + number % 3}]},
    }  # fmt: skip


TABLE_LINES = [
    *(table_line(number, 0, error) for number, error in enumerate(ERRORS)),
    table_line(2, 1, 0.54),
    table_line(5, 1, 0.44),
]
TABLE = Table.of(TABLE_LINES)


def supernet_line(variant: str, seed: int, seconds: int, errors: list[float]) -> dict[str, Any]:
    def scored(error: float) -> dict[str, float]:
        return {"error": error, "cross_entropy": 4 * error}

    return {
        "variant": variant, "seed": seed, "seconds": seconds, "steps": 1000 + seed, "images": 64_000,
        "cpu_seconds": 90.0, "smallest": scored(0.7), "largest": scored(0.5 + seed),
        "networks": [scored(error) for error in errors],
    }  # fmt: skip


SUPERNETS = [
    supernet_line("single", 0, 60, ERRORS),
    supernet_line("single", 1, 60, ERRORS[::-1]),
    supernet_line("uniform", 0, 60, [*ERRORS[:4], 0.3, *ERRORS[5:]]),
    supernet_line("single", 0, 30, ERRORS),
]


def test_the_networks_are_spread_over_cost_and_show_every_dimension() -> None:
    archs = networks()
    flops = [cost_of(arch).flops for arch in archs]
    assert len({arch.arch_id for arch in archs}) == len(archs) == NUM_NETWORKS >= 30
    assert flops == sorted(flops)
    ends = FeasibleSet(SPACE, BUDGET).cheapest().flops, FeasibleSet(SPACE, BUDGET).most_expensive().flops
    strata = np.histogram(flops, np.geomspace(*ends, 17))[0]
    assert strata.max() - strata.min() <= 1  # rounded edges may move one
    assert flops[-1] / flops[0] > 8
    for at, choices in enumerate(SPACE.stages):
        for name in ("width", "heads", "blocks", "recursions", "loop", "nll", "nll_ratio", "mlp_ratio"):
            assert {getattr(arch.stages[at], name) for arch in archs} >= set(getattr(choices, name))


def test_every_network_is_trained_and_some_twice() -> None:
    runs = standalone.runs(seeds=2)
    assert len(runs) == len(set(runs)) == NUM_NETWORKS + len(REPEATED)
    assert {number for number, seed in runs if seed == 0} == set(range(NUM_NETWORKS))
    assert {number for number, seed in runs if seed == 1} == set(REPEATED)


@pytest.mark.slow
def test_equal_seconds_are_fewer_steps_for_more_networks() -> None:
    times = PassTimes(batch_size=10, weights=(1.0, 0.0, 0.0, 0.0), step=0.5, r2=1.0)
    single = supernets.config_of({"step_rule": "single"}, 100)
    sandwich = supernets.config_of({"step_rule": "sandwich", "random_networks": 1}, 100)
    assert times.images(single, 105) == 10 * 70  # one pass and the rest of the step
    assert times.images(sandwich, 105) == 10 * 30  # three passes
    by_flops = PassTimes(batch_size=10, weights=(0.0, 1.0, 0.0, 0.0), step=0.0, r2=1.0)
    assert by_flops.seconds(networks()[3]) == pytest.approx(cost_of(networks()[3]).flops / 1e6)


def test_every_variant_is_a_configuration() -> None:
    configs = {name: supernets.config_of(changes, 1000) for name, changes in supernets.VARIANTS.items()}
    assert len(set(configs.values())) == len(configs)
    assert {run.variant for run in supernets.RUNS} == {*supernets.VARIANTS, supernets.TAUGHT}


def test_a_table_takes_means_over_seeds() -> None:
    assert TABLE.measured("error") == pytest.approx([0.60, 0.58, 0.52, 0.52, 0.47, 0.45, 0.41, 0.40])
    assert TABLE.twice("error").tolist() == [[0.50, 0.54], [0.46, 0.44]]
    assert TABLE.cost("flops").tolist() == FLOPS
    assert TABLE.bins.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.slow
def test_figures_are_those_of_the_lines() -> None:
    result = json.loads(json.dumps(figures(TABLE, SUPERNETS), allow_nan=False))["error"]
    measured = TABLE.measured("error")
    assert result["noise"]["sd_of_a_training"] == pytest.approx(np.sqrt((0.04**2 + 0.02**2) / 4))
    assert result["noise"]["tau_between_seeds"] == 1
    assert result["costs"]["flops"]["tau"] == pytest.approx(-kendalltau(FLOPS, measured).statistic)
    assert result["costs"]["flops"]["tau"] == pytest.approx(-result["costs"]["params"]["tau"])
    assert result["hindsight"]["tau"] == pytest.approx(-kendalltau(np.arange(8) % 3, measured).statistic)
    assert result["costs"]["flops"]["tau_in_bins"] == pytest.approx(3 / np.sqrt(4 * 3))  # a tie in one bin
    straight, reverse, uniform, _ = result["supernets"]
    assert straight["tau"] == pytest.approx(kendalltau(ERRORS, measured).statistic)
    assert reverse["tau"] == pytest.approx(kendalltau(ERRORS[::-1], measured).statistic)
    # networks of one width: 0, 3, 6; 1, 4, 7; 2, 5; 4 is ranked above 7 by uniform, and wrongly so
    assert straight["tau_in_widths"] == 1
    assert uniform["tau_in_widths"] == pytest.approx(5 / 7)
    assert result["hindsight"]["tau_in_widths"] is None
    assert uniform["regret_at_1"] == pytest.approx(0.07)
    assert uniform["regret_at_5"] == straight["regret_at_1"] == 0
    assert reverse["regret_in_bins"] == pytest.approx((0.02 + 0 + 0 + 0.01) / 4)
    low, high = straight["tau_interval"]
    assert low < straight["tau"] < high
    assert straight["lead_over_flops_in_bins_interval"] == pytest.approx([0, 0])  # no pair is ordered otherwise
    assert straight["lead_over_params_in_bins_interval"] == pytest.approx([1, 2])


@pytest.mark.slow
def test_tables_say_what_the_figures_are() -> None:
    result: dict[str, Any] = {"versions": {"numpy": "2"}, "date": "2026", "cores": 2, **figures(TABLE, SUPERNETS)}
    inside = {**SUPERNETS[0], "flops_max": 700, "networks": SUPERNETS[0]["networks"][:7]}
    result["within_budget"] = figures_within(TABLE, [inside], 700)
    assert [(name, len(lines)) for name, lines in groups_of(result["error"]["supernets"], 60)] == [
        ("single", 2), ("uniform", 1)
    ]  # fmt: skip
    rows = [
        line.split(" | ")
        for line in markdown(result, 60).partition("## Error, %")[2].partition("## ")[0].splitlines()
        if "|" in line
    ]
    single, uniform, short, flops, _, width = rows[2:]
    taus = [line["tau"] for line in result["error"]["supernets"]]
    assert single[0:4] == ["| single", "2", "1,000", "90"]
    assert single[4].startswith(f"{(taus[0] + taus[1]) / 2:.2f} (")
    assert single[-1] == "100.00 |"
    assert uniform[4].startswith(f"{taus[2]:.2f} (")
    assert uniform[7] == "7.00"
    assert short[0] == "| single, 30 s"
    assert flops[:4] == ["| FLOPs alone", "", "", ""]
    assert width[0] == "| width of stage 1 alone"
    assert width[4].startswith(f"{result['error']['hindsight']['tau']:.2f} (")


@pytest.mark.slow
def test_inside_a_budget_only_what_it_allows_is_ranked_and_by_its_own_supernets() -> None:
    """The seven cheapest networks; a supernet of another budget, or of none, says nothing here."""
    most, measured = FLOPS[6], TABLE.measured("error")[:7]
    errors = [0.4, 0.6, 0.3, 0.5, 0.2, 0.1, 0.7]
    scored = [{"error": error, "cross_entropy": 1.0} for error in errors]
    inside = {**SUPERNETS[0], "flops_max": most, "networks": scored}
    others = [*SUPERNETS, {**inside, "flops_max": most + 1}]
    result = json.loads(json.dumps(figures_within(TABLE, [*others, inside], most), allow_nan=False))
    assert (result["networks"], len(result["supernets"])) == (7, 1)
    assert result["supernets"][0]["tau"] == pytest.approx(kendalltau(errors, measured).statistic)
    assert result["costs"]["flops"]["tau"] == pytest.approx(-kendalltau(FLOPS[:7], measured).statistic)
    assert len(figures(TABLE, [*SUPERNETS, inside])["error"]["supernets"]) == len(SUPERNETS)


@pytest.mark.slow
def test_pictures_are_drawn(tmp_path: Path) -> None:
    result = figures(TABLE, SUPERNETS)["error"]
    draw_networks(tmp_path / "networks.png", TABLE, SUPERNETS[0], "title")
    draw_variants(tmp_path / "variants.png", result, groups_of(result["supernets"], 60))
    draw_times(tmp_path / "times.png", result, [line for line in result["supernets"] if line["variant"] == "single"])
    assert all(path.stat().st_size > 10_000 for path in tmp_path.iterdir())
    assert len(list(tmp_path.iterdir())) == 3
