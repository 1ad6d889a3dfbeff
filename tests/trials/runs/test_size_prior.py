"""What long trainings say of size, applied to recommended networks."""

from __future__ import annotations

import pytest

from tests.trials.runs.test_best import recommended
from tests.trials.runs.test_objectives import trial
from trials.runs import size_prior
from trials.runs.size_prior import CHANGES_PER_DOUBLING, changes_with_size, size_in_long_trainings
from trials.runs.trial import Trial


@pytest.fixture
def trials() -> list[Trial]:
    return [trial(0, 0.1, 1.0, 10), trial(1, 0.2, 1.0, 40), trial(2, 0.15, 1.0, 10)]


def test_changes_are_powers_of_the_ratio_of_flops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(size_prior, "CHANGES_PER_DOUBLING", {"a": -10.0, "b": 0.0, "c": -50.0})
    assert changes_with_size(2) == pytest.approx((0.45 ** (1 / 3) - 1, -0.5, 0.0))
    assert changes_with_size(4) == pytest.approx((0.45 ** (2 / 3) - 1, -0.75, 0.0))


def test_ends_of_the_budget_are_compared(trials: list[Trial], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(size_prior, "CHANGES_PER_DOUBLING", {"a": -10.0, "b": 5.0})
    assert size_in_long_trainings(trials, recommended(1, 2)) == (
        "Long trainings of this family on a and b say of size: with 4.0 times the FLOPs, as at 1G FLOPs instead of "
        "500M FLOPs, the error changed by -19% to +10% of itself, -6% on average"
    )


def test_nothing_is_said_where_nothing_can_be_compared(trials: list[Trial]) -> None:
    assert size_in_long_trainings(trials, None) is None
    assert size_in_long_trainings(trials, recommended(1)) is None
    assert size_in_long_trainings(trials, recommended(0, 2)) is None  # equal FLOPs: a budget of parameters
    trials[2].result = None
    assert size_in_long_trainings(trials, recommended(1, 2)) is None


def test_long_trainings_gain_from_size_on_all_images() -> None:
    """Else the largest network within the budget would be the wrong rule for `best.yaml`."""
    assert list(CHANGES_PER_DOUBLING) == ["CIFAR-10", "Fashion-MNIST", "ImageNet"]
    assert all(-20 < change < 0 for change in CHANGES_PER_DOUBLING.values())


def test_the_sentence_names_all_images(trials: list[Trial]) -> None:
    sentence = size_in_long_trainings(trials, recommended(1, 2))
    assert sentence is not None
    assert sentence.startswith(
        "Long trainings of this family on CIFAR-10, Fashion-MNIST and ImageNet say of size: with 4.0 times"
    )
