"""SReT-Bench on other images, and the rules that choose a size, on tables whose truth is known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.sret_bench import other_images, size_rules
from benchmarks.sret_bench.chosen import STRUCTURES, Chosen
from benchmarks.sret_bench.tables import Table
from docs.figures import sret_bench_sizes as docs
from sret_nas.arch.budget import Budget
from sret_nas.feasible.feasible_set import FeasibleSet
from tests import REPOSITORY
from tests.benchmarks.test_sret_bench import SPACE, TINY
from trials.runs.size_prior import CHANGES_PER_DOUBLING

FLOPS = [10**8 * 2**cost for cost in range(5)]
LONG = [0.32 * 0.9**cost for cost in range(5)]
"""A tenth less with every doubling."""
SHORT = {16: [0.60 * 1.05**cost for cost in range(5)], 64: [0.45] * 5}
"""The shorter ones favour small networks, the longer ones see no difference."""


def trainings(long: list[float]) -> list[dict[str, Any]]:
    common = {"structure": "best", "seed": 0}
    rows = [
        {**common, "schedule_images": images, "images": images, "cost": cost, "flops": FLOPS[cost], "error": error}
        for images, errors in SHORT.items()
        for cost, error in enumerate(errors)
    ]
    for cost, error in enumerate(long):
        end = {**common, "schedule_images": 256, "cost": cost, "flops": FLOPS[cost]}
        rows += [
            {**end, "images": 64, "error": 0.9},
            {**end, "images": 256, "error": error, "test_error": error - 0.03},
        ]
    return rows


def sizes(long: list[float] = LONG) -> size_rules.Sizes:
    found = size_rules.sizes_of("known", "best", trainings(long), num_val=1_000, num_test=2_000)
    assert found is not None
    return found


def test_held_out_errors_are_of_all_images_and_short_ones_of_their_own_schedules() -> None:
    found = sizes()
    assert found.held_out == pytest.approx(np.array(LONG) - 0.02)
    assert found.length == 256
    assert {length: list(errors) for length, errors in found.short.items()} == SHORT


def test_a_structure_needs_four_costs_that_have_ended() -> None:
    assert size_rules.sizes_of("known", "worst", trainings(LONG), 100, 200) is None
    assert size_rules.sizes_of("known", "best", trainings(LONG[:3]), 100, 200) is None


def test_slopes_are_shares_of_the_error() -> None:
    found = size_rules.slope_with_interval(np.array(FLOPS, float), np.array(LONG))
    assert (found["percent"], found["n"]) == (-10.0, 5)
    assert found["interval"] == [-10.0, -10.0]


def test_a_rule_costs_what_its_choice_is_worse() -> None:
    found = size_rules.regrets(sizes(), prior=-0.1)
    whole = [100 * (LONG[0] - LONG[number - 1]) for number in range(2, 6)]
    assert found["least error of the shorter proxies"] == pytest.approx(whole)
    assert found["prior slope alone (the largest)"] == [0.0] * 4
    # From 0.60 * 1.05^cost to 0.45: the more a network has gained so far, the more it will.
    assert found["learning curves from two lengths"] == [0.0] * 4
    assert found["slope extended from two lengths"] == [0.0] * 4
    assert found["prior slope and longer proxies"] == [0.0] * 4


def test_a_prior_that_misleads_costs_what_it_is_wrong() -> None:
    found = size_rules.regrets(sizes(LONG[::-1]), prior=-0.1)
    assert found["prior slope alone (the largest)"][-1] == pytest.approx(100 * (LONG[0] - LONG[4]))
    assert found["least error of the shorter proxies"] == [0.0] * 4


def test_the_prior_of_images_is_that_of_the_others() -> None:
    gaining, losing = sizes(), replace(sizes(LONG[::-1]), images="other")
    found = size_rules.report([gaining, losing])
    first, second = found["sizes"]
    others = {"known": found["slopes"]["other"], "other": found["slopes"]["known"]}
    assert others["known"] > 0 > others["other"]
    for row in (first, second):
        parts = [np.log1p(0.01 * slope) for slope in (others[row["images"]], found["slopes"]["ImageNet"])]
        assert row["prior"] == pytest.approx(100 * np.expm1(np.mean(parts)), abs=0.1)


def test_images_with_few_held_out_ones_are_judged_but_give_no_prior() -> None:
    few = replace(sizes(LONG[::-1]), images="few", num_held_out=999)
    found = size_rules.report([sizes(), few])
    assert found["slopes"].keys() == {"known", "ImageNet"}
    assert [row["images"] for row in found["sizes"]] == ["known", "few"]
    assert found["sizes"][0]["prior"] == found["slopes"]["ImageNet"]


def test_the_published_error_of_imagenet_falls_by_a_seventh_with_twice_the_flops() -> None:
    (small, large) = size_rules.IMAGENET.values()
    assert (large[1] / small[1]) ** (1 / np.log2(large[0] / small[0])) == pytest.approx(6 / 7, abs=0.01)


def test_what_a_search_says_of_size_are_the_published_figures() -> None:
    published = json.loads((REPOSITORY / "benchmarks" / "results" / "sret_bench_sizes.json").read_text())
    assert published["slopes"] == CHANGES_PER_DOUBLING


def test_docs_show_every_rule_and_length(monkeypatch: pytest.MonkeyPatch) -> None:
    found = size_rules.report([sizes()])
    monkeypatch.setattr(docs, "load", lambda name: found)
    rules = docs.size_rules_table()
    assert all(rule in rules for rule in size_rules.RULES)
    assert "| known | best | 5 | 256 |" in docs.sizes_table()


def test_networks_of_the_table_are_trained_on_other_images_once(tmp_path: Path) -> None:
    archs = FeasibleSet(SPACE, Budget()).sample_many(np.random.default_rng(0), 2)
    networks = [Chosen(0, structure, arch, 0.3) for structure, arch in zip(STRUCTURES, archs, strict=False)]
    images = other_images.Images("digits", (32, 64), (32,), val_fraction=0.2)
    setting = replace(TINY, lengths=images.lengths, short_lengths=images.short_lengths)
    for _ in range(2):
        other_images.run(images, setting, networks, tmp_path, tmp_path / "results")
    table = images.table(tmp_path, tmp_path / "results")
    assert len(table.lines) == 2 * 3
    assert table.header["data"].startswith("digits: 10 classes")
    assert [line["structure"] for line in table.lines] == ["best"] * 3 + ["worst"] * 3
    table.publish()
    (published,) = (tmp_path / "results").iterdir()
    assert published.name == "sret_bench_digits.jsonl.gz"
    assert len(Table(published, tmp_path / "none", table._key).lines) == 6


def test_images_counted_in_a_header() -> None:
    summary = "x: 10 classes\n  classes    a (1)\n  validation     5,000 images: 10%\n  test          10,000 images"
    assert (size_rules._count(summary, "validation"), size_rules._count(summary, "test")) == (5_000, 10_000)
