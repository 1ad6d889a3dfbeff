"""Parts that a program builds: what is wrong is told in one line, as of a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sret_nas import ArchConfig, ConfigError, SearchSpace, StageConfig, StemConfig

STAGE: dict[str, Any] = {"width": 64, "heads": 2, "blocks": 1, "recursions": 1, "groups": (1,)}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: StageConfig(**{**STAGE, "heads": 3}), "StageConfig: heads must divide width, got heads=3, width=64"),
        (lambda: StageConfig(**{**STAGE, "width": "64"}), "StageConfig: width: must be a whole number, got '64'"),
        (lambda: StageConfig(width=64), "StageConfig: heads: is missing (and 3 more)"),  # type: ignore[call-arg]
        (lambda: StemConfig(width=0), "StemConfig: width: must be greater than or equal to 1, got 0"),
        (
            lambda: StemConfig(width=4, strides=(4, 2, 2)),
            "StemConfig: strides of 3x3 convolutions must be 1 or 2, got [4, 2, 2]; a stem of kind patch may have 4",
        ),
        (
            lambda: ArchConfig(stages=({**STAGE, "heads": 3},)),  # type: ignore[arg-type]
            "ArchConfig: stages[0]: heads must divide width, got heads=3, width=64",
        ),
        (lambda: ArchConfig(stages=()), "ArchConfig: stages: must have at least 1 item, got 0"),
        (
            lambda: ArchConfig(stages=(StageConfig(**STAGE),), image_size=4),
            "ArchConfig: image_size: must be greater than or equal to 8, got 4",
        ),
        (lambda: SearchSpace(name="mine"), "SearchSpace: stages: is missing"),  # type: ignore[call-arg]
    ],
)
def test_what_is_wrong_is_told_in_one_line(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build()
    assert str(caught.value) == message


def test_numbers_of_numpy_are_taken_as_from_data() -> None:
    assert StageConfig(**{**STAGE, "width": np.int64(64)}) == StageConfig(**STAGE)
    arch = ArchConfig(stages=(StageConfig(**STAGE),))
    assert ArchConfig(stages=arch.stages, channels=np.int64(3)) == arch  # type: ignore[arg-type]
