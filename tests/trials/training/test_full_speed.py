"""How the time of a whole training is estimated: whatever can be trained can be probed."""

from __future__ import annotations

import pytest

from sret_nas.errors import UserError
from tests.trials.training.tiny_training import recipe
from trials.training.full_spec import plan_of
from trials.training.full_speed import probe_batch_size


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
