"""What the public code can express: its stem, pooling, one ratio for all stages, two numbers of groups in each."""

from __future__ import annotations

from typing import Any

import pytest

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.presets import PUBLISHED
from sret_nas.errors import UserError
from sret_nas.nn.network import SReT
from sret_nas.nn.public_checkpoints import from_public, to_public
from sret_nas.nn.public_limits import require_possible

STAGES: tuple[dict[str, Any], ...] = (
    {"width": 8, "heads": 2, "blocks": 2, "recursions": 2, "groups": [4, 2], "mlp_ratio": 3.6},
    {"width": 16, "heads": 2, "blocks": 1, "recursions": 2, "groups": [2, 1], "mlp_ratio": 3.6},
)


def arch(first: dict[str, Any] | None = None, second: dict[str, Any] | None = None, **changes: Any) -> ArchConfig:
    """Returns a network of 16 tokens, then 4, with changes."""
    stages = [{**STAGES[0], **(first or {})}, {**STAGES[1], **(second or {})}]
    return ArchConfig.from_dict({"stages": stages, "image_size": 32, "classes": 3, **changes}, "arch")


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_published_networks(name: str) -> None:
    require_possible(PUBLISHED[name])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (arch(stem={"width": 4, "strides": [2, 2, 1]}), r"strides of \(2, 2, 2\), got \(2, 2, 1\)"),
        (arch(stem={"width": 5, "strides": [2, 2, 2]}), r"whose first layer has 4 channels, half .*, got 5"),
        (arch({"width": 1, "heads": 1}), r"whose first layer has 0 channels, half .*, got 1"),
        (arch(second={"width": 12}), r"a width that is a multiple of the stage before, got 12 after 8 in stages\[1\]"),
        (arch({"groups": [3, 1]}), r"groups that divide the 16 tokens, got 3 in stages\[0\]"),
        (arch({"groups": [4, 3]}), r"groups that divide the 16 tokens, got 3 in stages\[0\]"),
        (arch(second={"mlp_ratio": 2.0}), r"one mlp_ratio for all stages, got hidden widths of 28, 32"),
        (arch(second={"nll_ratio": 2.0}), r"one nll_ratio for all stages, got hidden widths of 8, 32"),
    ],
)
def test_what_is_refused(changed: ArchConfig, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        to_public(SReT(changed).state_dict(), changed)
    assert str(error.value).startswith("the public code has ")


@pytest.mark.parametrize(
    "changed",
    [
        arch({"groups": [16, 16]}),
        arch({"groups": [1000, 20]}),  # at most one token a slice, as with 16
        arch(second={"mlp_ratio": 3.5999}),  # the same hidden width
        arch(second={"width": 24}),
        arch(stem={"width": 4, "strides": [2, 2, 2]}),
        arch({"blocks": 1, "recursions": 1, "groups": [4]}),
    ],
)
def test_what_is_not_refused(changed: ArchConfig) -> None:
    require_possible(changed)


@pytest.mark.parametrize(
    ("blocks", "groups", "is_fine"),
    [
        # The public code counts a stage's applications: even ones have one number of groups, odd ones another,
        # and permute. With two recursions, these are the first and the second of every block.
        (3, [4, 2], True),
        (3, [1, 1], True),
        (1, [4], True),
        (2, [4], False),  # the second block would permute
        (2, [1], True),
        (2, [16], True),
        (1, [1, 4, 1], True),
        (1, [4, 2, 4], False),  # the third recursion would not permute
        (1, [16, 2, 16], True),
        (1, [1, 4, 2], False),
        (1, [1, 4, 1, 4], True),
        (2, [1, 4, 1, 4], True),
        (1, [1, 4, 1, 2], False),
        (2, [1, 4, 1], False),  # the second block's first recursion would have 4 groups
        (2, [1, 1, 1], True),
        (2, [16, 16, 16], True),
        (2, [16, 1, 16], False),
    ],
)
def test_recursions(blocks: int, groups: list[int], is_fine: bool) -> None:
    changed = arch({"blocks": blocks, "recursions": len(groups), "groups": groups})
    if is_fine:
        require_possible(changed)
        return
    with pytest.raises(UserError, match=r"one number of groups for even .*, got .* in stages\[0\]$"):
        require_possible(changed)


def test_weights_from_elsewhere_are_converted_all_the_same() -> None:
    """Into a directory, the other way round: our code slices any number of tokens."""
    state = to_public(SReT(arch()).state_dict(), arch())
    assert from_public(state, arch({"groups": [3, 1]}))
