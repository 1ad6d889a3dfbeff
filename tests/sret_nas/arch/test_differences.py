from __future__ import annotations

from typing import Any

import pytest

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.differences import first_difference
from sret_nas.arch.parts import StageConfig, StemConfig

STAGE = StageConfig(width=8, heads=2, blocks=2, recursions=1, groups=(1,))
ARCH = ArchConfig(stages=(STAGE, STAGE), stem=StemConfig(width=4))


@pytest.mark.parametrize(("changes", "difference"), [
    ({"stages": ARCH.stages[:1]}, "number of stages (2 and 1)"),
    ({"stages": (STAGE, STAGE.model_copy(update={"blocks": 3}))}, "stage 2 blocks (2 and 3)"),
    ({"channels": 1, "residual": "plain"}, "channels (3 and 1)"),
    ({"stem": ARCH.stem.model_copy(update={"width": 5})}, "stem width (4 and 5)"),
    ({"stem": ARCH.stem.model_copy(update={"norm": "none"})}, "stem norm (batch and none)"),
    ({"residual": "plain"}, "residual (path and plain)"),
    ({"stem": StemConfig(width=4, strides=(2, 1, 2))}, "the stem's strides"),
])  # fmt: skip
def test_the_first_difference_is_named_with_both_values(changes: dict[str, Any], difference: str) -> None:
    assert first_difference(ARCH, ARCH.model_copy(update=changes)) == difference
