"""How the time of a whole training is estimated: whatever can be trained can be probed."""

from __future__ import annotations

import pytest

from sret_nas.errors import UserError
from tests.trials.training import tiny_training
from tests.trials.training.tiny_training import recipe, spec
from trials.data.whole_images import WholeImages
from trials.distributed.processes import process_group
from trials.training import full_speed
from trials.training.full import FullTraining
from trials.training.full_spec import plan_of
from trials.training.full_speed import num_evaluated, probe_batch_size


@pytest.fixture(scope="module")
def images() -> WholeImages:
    return WholeImages.find(tiny_training.DATA)


def test_no_more_images_are_recalibrated_on_than_there_are(images: WholeImages) -> None:
    how = recipe(epochs=5, validate_every=2, recalibration_images=1000)
    assert num_evaluated(how, images) == 3 * (20 + 48) + 20
    assert num_evaluated(how.model_copy(update={"recalibration_images": 7}), images) == 3 * (20 + 7) + 20


def test_a_training_of_one_step_is_timed(images: WholeImages, monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[tuple[int, int]] = []

    def time_steps(training: FullTraining, steps: int) -> tuple[float, float]:
        timed.append((training.plan.batch_size, steps))
        return 1e-3, 0.0

    monkeypatch.setattr(full_speed, "_time_steps", time_steps)
    with process_group("cpu") as processes:
        full_speed._seconds_of_step(spec({"epochs": 1, "batch_size": 48}), images, processes, None)
    assert timed == [(32, 1), (48, 1)]


@pytest.mark.parametrize("mixup", [0.0, 0.8])
def test_every_batch_that_can_be_trained_has_a_probe(mixup: float) -> None:
    """Its parts are even if images are mixed in pairs, however many parts there are."""
    probed, shortest = 0, recipe(mixup=mixup, cutmix=0.0)
    for parts in range(1, 20):
        for batch_size in (2 * parts, 4 * parts, 6 * parts, 30, 96, 150):
            how = shortest.model_copy(update={"batch_size": batch_size, "gradient_accumulation": parts})
            for processes in (1, 3):
                try:
                    size = plan_of(how, 120, 0, processes).batch_size
                except UserError:
                    continue
                small = how.model_copy(update={"batch_size": probe_batch_size(how, processes)})
                assert plan_of(small, 120, 0, processes).batch_size <= size
                probed += 1
    assert probed > 100
