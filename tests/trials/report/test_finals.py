"""What is said of finalists and controls that were trained from scratch."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from sret_nas.arch.cost import cost_of
from tests.counted_spaces import FOUR_STAGES
from trials.engines.results import RetrainResult
from trials.report.finals import late_learners, noise_of, pairs_of, show_finals
from trials.runs.trial import Trial
from trials.strategies.strategy import Candidate

ARCH = FOUR_STAGES.network([0, 0, 0, 0])


def from_scratch(error: float, inherited: float | None, deviation: float | None = None) -> RetrainResult:
    """Returns a result with these validation errors and the same on the test part, on 400 images each."""
    cost = cost_of(ARCH)
    return RetrainResult(
        arch=ARCH, flops=cost.flops, params=cost.params, inherited_error=inherited, inherited_cross_entropy=None,
        error=error, cross_entropy=1.0, test_error=error, test_cross_entropy=1.0, num_val_images=400,
        num_test_images=400, val_deviation=deviation, test_deviation=deviation, train_images=3_200, seconds=1.0,
    )  # fmt: skip


def pair(found: RetrainResult, random: RetrainResult) -> Trial:
    trial = Trial(7, Candidate(ARCH, "full"))
    trial.finals = {"from scratch": found, "control": random}
    return trial


def test_a_control_that_hardly_learns_is_named_with_what_it_can() -> None:
    (line,) = late_learners(pairs_of([pair(from_scratch(0.04, 0.01), from_scratch(0.2, 0.02))]))
    assert line.startswith("The control of trial 7 hardly learned from scratch in 3,200 images: it errs 20.0% ")
    assert "but 2.0% with the supernet's weights, where trial 7 errs 1.0%" in line


def test_so_is_a_finalist() -> None:
    (line,) = late_learners(pairs_of([pair(from_scratch(0.6, 0.01), from_scratch(0.05, 0.02))]))
    assert line.startswith("Trial 7 hardly learned from scratch")


@pytest.mark.parametrize(
    ("found", "random"),
    [
        (from_scratch(0.04, 0.01), from_scratch(0.06, 0.02)),  # within noise
        (from_scratch(0.04, 0.02), from_scratch(0.2, 0.15)),  # as bad with inherited weights: the structure is worse
        (from_scratch(0.04, 0.01), from_scratch(0.2, None)),  # of an earlier version
    ],
)
def test_others_are_not(found: RetrainResult, random: RetrainResult) -> None:
    assert late_learners(pairs_of([pair(found, random)])) == []


def test_noise_is_that_of_the_images_or_of_the_classes() -> None:
    plain = pairs_of([pair(from_scratch(0.1, None), from_scratch(0.1, None))])
    assert noise_of(plain) == pytest.approx(2 * math.sqrt(2 * 0.09 / 400))
    balanced = pairs_of([pair(from_scratch(0.1, None, 0.03), from_scratch(0.1, None, 0.04))])
    assert noise_of(balanced) == pytest.approx(0.1)


@pytest.mark.parametrize("width", [50, 80, 120])
def test_the_table_fits_and_the_note_is_below_it(width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    show_finals([pair(from_scratch(0.04, 0.01), from_scratch(0.2, 0.02))], console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(len(line) for line in lines if line[:1] in "┃│┏┡├└") <= width
    assert any("hardly learned" in line for line in lines)
