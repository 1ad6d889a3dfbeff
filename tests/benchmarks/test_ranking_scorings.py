"""Ways to score inherited weights: planned work, fitted heads and biases, figures and the report."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.ranking import scorings, scorings_report
from benchmarks.ranking.report import Table
from benchmarks.ranking.supernets import Run, images_at_pace

ERRORS = [0.60, 0.58, 0.52, 0.50, 0.47, 0.46, 0.41, 0.40]
TABLE = Table.of(
    {
        "number": number, "seed": 0, "flops": 100 + number, "params": 900, "error": error, "cross_entropy": error,
        "architecture": {"stages": [{"width": 16 + number % 2}]},
    }
    for number, error in enumerate(ERRORS)
)  # fmt: skip


def line(way: str, networks: list[float], seed: int = 0) -> dict[str, Any]:
    return {
        "variant": "balanced draws", "seed": seed, "seconds": 480, "way": way, "networks": networks, "cpu_seconds": 0.5,
    }  # fmt: skip


def test_a_variant_keeps_the_pace_that_is_on_record() -> None:
    recorded = [
        {"variant": "balanced draws", "seed": 0, "seconds": 60, "steps": 100, "flops_max": 5},
        {"variant": "balanced draws", "seed": 0, "seconds": 120, "steps": 1210, "flops_max": None},
    ]
    assert images_at_pace(Run("balanced draws", 1, 480), recorded) == 4 * 1210 * 128
    assert images_at_pace(Run("balanced draws", 1, 30, 5), recorded) == 50 * 128
    assert images_at_pace(Run("single", 0, 480), recorded) is None


def test_an_own_bias_undoes_a_shift_of_logits_and_an_own_head_finds_the_classes() -> None:
    torch.manual_seed(0)
    labels = torch.arange(300) % 3
    logits = torch.nn.functional.one_hot(labels, 3) + 0.3 * torch.randn(300, 3)
    shifted = logits + torch.tensor([0.0, 4.0, 0.0])
    assert (shifted.argmax(1) == labels).double().mean() < 0.5
    unshifted = scorings._fitted(shifted, labels, shifted, head=False)
    assert (unshifted.argmax(1) == labels).double().mean() > 0.9
    own = scorings._fitted(7 - 5 * logits, labels, 7 - 5 * logits, head=True)
    assert (own.argmax(1) == labels).double().mean() > 0.9


def test_ways_are_compared_with_the_usual_one_of_the_same_supernet() -> None:
    lines = [
        line(scorings_report.USUAL, ERRORS[::-1]),
        line("better", ERRORS),
        line(scorings_report.USUAL, ERRORS, seed=1),
    ]
    usual, better, other = scorings_report.figures(TABLE, lines)["ways"]
    assert usual["tau"] == pytest.approx(-better["tau"]) == pytest.approx(-1)
    assert usual["lead_in_widths_interval"] == (0, 0)
    assert better["lead_in_widths_interval"] == pytest.approx((2, 2))
    assert other["tau_in_widths"] == pytest.approx(1)


def test_two_supernets_of_a_variant_are_held_against_each_other() -> None:
    first, second = ([{"error": error, "cross_entropy": 1 - error} for error in row] for row in (ERRORS, ERRORS[::-1]))
    lines = [
        {"variant": "single", "seed": seed, "seconds": 60, "networks": networks}
        for seed, networks in enumerate((first, first))
    ]
    (row,) = scorings_report.agreement(TABLE, lines)
    assert (row["error_agreement"], row["cross_entropy_agreement"]) == pytest.approx((1, 1))
    assert (row["error_truth"], row["cross_entropy_truth"]) == pytest.approx((1, -1))
    assert scorings_report.agreement(TABLE, [lines[0], {**lines[1], "networks": second}])[0]["error_agreement"] < 0
    assert scorings_report.agreement(TABLE, lines[:1]) == []


def test_error_and_cross_entropy_are_compared_over_supernets_of_equal_seconds() -> None:
    networks = [{"error": 1 - error, "cross_entropy": error} for error in ERRORS]
    lines = [
        {"variant": variant, "seed": 0, "seconds": seconds, "networks": networks, "flops_max": flops_max}
        for variant, seconds, flops_max in (
            ("single", 60, None), ("uniform draws", 60, None), ("single", 120, None), ("single", 240, 5),
            ("leading slices", 60, None),
        )
    ]  # fmt: skip
    rows = scorings_report.error_or_entropy(TABLE, lines)
    assert [(row["seconds"], row["supernets"]) for row in rows] == [(60, 2), (120, 1)]
    assert (rows[0]["error_tau_in_widths"], rows[0]["cross_entropy_tau_in_widths"]) == pytest.approx((-1, 1))
    assert rows[0]["lead_tau_in_widths_interval"] == pytest.approx((2, 2))


def test_what_was_scored_here_is_a_supernet_of_its_own() -> None:
    usual, entropy = line(scorings_report.USUAL, ERRORS), line(scorings_report.USUAL_ENTROPY, ERRORS[::-1])
    (supernet,) = scorings_report.as_supernets([usual, entropy, line("own head, error", ERRORS)])
    assert (supernet["variant"], supernet["seed"]) == ("balanced draws", 0)
    assert supernet["networks"][0] == {"error": ERRORS[0], "cross_entropy": ERRORS[-1]}


@pytest.mark.slow
def test_trained_networks_correct_an_error_that_width_explains() -> None:
    measured = TABLE.measured("error")
    squeezed = measured - 0.9 * measured.mean() * (TABLE.first_width == 16)
    supernet = {
        "variant": "single", "seed": 0, "seconds": 60, "networks": [{"error": error} for error in squeezed],
    }  # fmt: skip
    table = Table(TABLE.trainings * 2)
    alone, with_slopes, slopes = scorings_report.corrected(table, [{**supernet, "networks": supernet["networks"] * 2}])
    assert alone["columns"] == ["inherited error"]
    assert with_slopes["tau"] > alone["tau"] + 0.2
    assert slopes["columns"] == ["width of stage 1", "FLOPs"]
    assert scorings_report.corrected(table, [{**supernet, "variant": "sandwich"}]) == []


def test_the_report_has_a_row_for_every_way() -> None:
    lines = [line(scorings_report.USUAL, ERRORS[::-1]), line("better", ERRORS)]
    result = {"versions": {"torch": "2"}, "date": "2026-01-31", "cores": 2, **scorings_report.figures(TABLE, lines)}
    rows = [
        row
        for row in scorings_report.markdown(
            {**result, "agreement": [], "error_or_entropy": [], "corrected": []}
        ).splitlines()
        if row.startswith("| better |")
    ]
    assert rows == [
        "| better | 0.50 | 1.00 (1.00 to 1.00) | 1.00 (1.00 to 1.00) | 1.00 (1.00 to 1.00) | 2.00 to 2.00 | 0.4925 |"
    ]
