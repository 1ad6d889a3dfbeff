"""The published variants, against the table of the paper and the public code."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.arch.presets import PRESETS, PUBLISHED, preset
from sret_nas.errors import UserError

T, S = ((64, 128, 256), (2, 4, 8)), ((126, 252, 504), (3, 6, 12))
SLICED, UNSLICED, SLICED_16_14_1 = ((8, 2), (4, 1), (1, 1)), ((1, 1),) * 3, ((16, 1), (14, 1), (1, 1))

# Widths and heads, MLP ratio, NLL ratio, groups of loops 1 and 2 by stage, image size, drop path (its recipe).
TABLE = {
    "sret_t": (T, 3.6, 1.0, SLICED, 224, 0.1),
    "sret_t_unsliced": (T, 3.6, 1.0, UNSLICED, 224, 0.1),
    "sret_lt": (T, 4.0, 1.0, SLICED, 224, 0.1),
    "sret_lt_unsliced": (T, 4.0, 1.0, UNSLICED, 224, 0.1),
    "sret_lt_16_14_1": (T, 4.0, 1.0, SLICED_16_14_1, 224, 0.1),
    "sret_s": (S, 3.0, 2.0, SLICED, 224, 0.2),
    "sret_s_unsliced": (S, 3.0, 2.0, UNSLICED, 224, 0.2),
    "sret_t_unsliced_384": (T, 3.6, 1.0, UNSLICED, 384, 0.1),
    "sret_s_unsliced_384": (S, 3.0, 2.0, UNSLICED, 384, 0.2),
    "sret_s_unsliced_512": (S, 3.0, 2.0, UNSLICED, 512, 0.2),
}


def test_every_published_row_is_a_preset() -> None:
    assert list(PUBLISHED) == list(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_is_the_row_of_the_table(name: str) -> None:
    (widths, heads), mlp_ratio, nll_ratio, groups, image_size, drop_path = TABLE[name]
    arch = preset(name)
    assert tuple(stage.width for stage in arch.stages) == widths
    assert tuple(stage.heads for stage in arch.stages) == heads
    assert tuple(stage.blocks for stage in arch.stages) == (2, 5, 3)
    assert tuple(stage.groups for stage in arch.stages) == groups
    assert (arch.image_size, arch.drop_path, arch.classes, arch.channels) == (image_size, drop_path, 1000, 3)
    assert (arch.stem.width, arch.stem.strides) == (widths[0] // 2, (2, 2, 2))
    rest = {(stage.recursions, stage.loop, stage.nll, stage.nll_ratio, stage.mlp_ratio) for stage in arch.stages}
    assert rest == {(2, "internal", "every", nll_ratio, mlp_ratio)}


def test_presets_are_distinct_networks() -> None:
    assert len({arch.arch_id for arch in PRESETS.values()}) == len(PRESETS)


def test_deit_with_recursion_costs_deit_per_application() -> None:
    """DeiT-Ti has 5,717,416 parameters and 1.26 GFLOPs (Touvron et al., 2021); recursion adds no parameters."""
    costs = [cost_of(preset(f"deit_tiny_x{recursions}")) for recursions in (1, 2, 3, 4)]
    assert {cost.params for cost in costs} == {5_717_416}
    assert f"{costs[0].flops / 1e9:.2f}" == "1.26"
    assert {later.flops - earlier.flops for earlier, later in pairwise(costs)} == {costs[0].parts["stage 1"].flops}


def test_the_deep_network_has_the_depth_of_the_papers_deepest() -> None:
    stages = preset("sret_deep_108").stages
    assert sum(stage.blocks * stage.recursions for stage in stages) == 108


def test_ids_of_variants_never_change() -> None:
    """Records name networks by these ids, as those of `test_config.py`."""
    names = ("deit_tiny_x1", "deit_tiny_x2", "deit_tiny_x3", "deit_tiny_x4", "sret_deep_108")
    assert [preset(name).arch_id for name in names] == [
        "b02bb5e1a83a", "fba341848ac2", "926224ae2e12", "73151d2950c0", "ad9847efe46c"
    ]  # fmt: skip


@pytest.mark.parametrize("name", PRESETS)
def test_survives_plain_data(name: str) -> None:
    assert ArchConfig.from_dict(preset(name).to_dict()) == preset(name)


@pytest.mark.parametrize("spelling", ["sret_t", "SRET_T", "SReT-T"])
def test_name_is_read_however_it_is_spelled(spelling: str) -> None:
    assert preset(spelling) is PRESETS["sret_t"]


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"unknown preset 'sret_b'; the presets are sret_t, sret_t_unsliced, sret_lt,"):
        preset("sret_b")


@pytest.mark.parametrize("name", [None, 1, ["sret_t"]])
def test_what_is_no_name_is_refused(name: Any) -> None:
    with pytest.raises(UserError, match=r"^unknown preset .*; the presets are sret_t, "):
        preset(name)
