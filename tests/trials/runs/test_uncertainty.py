"""How sure errors are: the luck of the images and what the model leaves open, in intervals and in text."""

from __future__ import annotations

import math

import pytest

from tests.trials.planted_search import retrained
from tests.trials.runs.test_objectives import ARCH, result, trial
from trials.engines.results import FrontTestResult
from trials.runs.trial import Trial
from trials.runs.uncertainty import (
    deviation_of_test,
    deviation_of_validation,
    format_prediction,
    images_of,
    images_of_trials,
    predicted_interval,
)
from trials.strategies.strategy import Candidate
from trials.training.error_intervals import error_interval

FINAL = retrained(Candidate(ARCH, "full"), test_error=0.5)


def test_a_prediction_has_the_noise_of_the_images_and_what_the_model_leaves_open() -> None:
    assert predicted_interval(0.2, 0.03, 100.0) == error_interval(0.2, 100.0, 0.03)
    low, high = error_interval(0.2, 100.0)
    wider = predicted_interval(0.2, 0.03, 100.0)
    assert wider is not None
    assert wider[0] < low < high < wider[1]


def test_without_a_number_of_images_nothing_is_claimed() -> None:
    assert predicted_interval(0.2, 0.03, None) is None
    assert format_prediction(0.2, 0.03, None) == "20.00%"


def test_a_prediction_is_written_with_its_interval() -> None:
    assert format_prediction(0.5, 0.0, 10_000.0) == "50.00% (49.0 to 51.0)"


def test_images_of_equal_weight_go_before_images() -> None:
    found = result(0.1, 1.0, 10)
    assert images_of(found) is None  # an old record
    assert images_of(found.model_copy(update={"val_images": 100})) == 100
    assert images_of(found.model_copy(update={"val_images": 100, "effective_images": 60.5})) == 60.5
    unfinished = Trial(0, Candidate(ARCH, "full"))
    assert images_of_trials([unfinished]) is None
    finished = Trial(1, Candidate(ARCH, "full"), result=found.model_copy(update={"val_images": 100}))
    assert images_of_trials([unfinished, finished]) == 100


def test_finalists_have_the_deviation_of_their_images_unless_it_was_recorded() -> None:
    assert deviation_of_test(FINAL) == pytest.approx(math.sqrt(0.25 / 100))
    assert deviation_of_test(FINAL.model_copy(update={"test_deviation": 0.25})) == 0.25
    assert deviation_of_validation(FINAL, 0.1) == pytest.approx(math.sqrt(0.09 / 100))
    assert deviation_of_validation(FINAL.model_copy(update={"val_deviation": 0.25}), 0.1) == 0.25


def test_what_was_found_at_the_end_has_a_name_for_each_role() -> None:
    known = trial(0, 0.1, 1.0, 10)
    assert known.findings == {}
    known.test = FrontTestResult(error=0.25, cross_entropy=1.0, num_images=4)
    known.finals["from scratch"] = FINAL
    known.finals["fine-tuned"] = FINAL.model_copy(update={"error": 0.125})
    known.measured_us = 1500
    assert known.findings == {
        "test_error": 0.25, "from_scratch_error": 0.2, "from_scratch_test_error": 0.5, "fine_tuned_error": 0.125,
        "fine_tuned_test_error": 0.5, "latency_us": 1500,
    }  # fmt: skip
