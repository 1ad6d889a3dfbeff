"""The closed form against fvcore on the built network, the published figures, brute force, and its own bulk form."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings

from benchmarks.bulk_cost import bulk_cost
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import OPERATORS, StageColumns, attended_pairs, cost_of, stem_cost
from sret_nas.arch.parts import StageConfig, StemConfig
from sret_nas.arch.presets import PRESETS, preset
from sret_nas.errors import UserError
from sret_nas.nn.flops import TracedCost, fvcore_cost
from tests.architectures import random_arch, random_stage, varied_archs


def columns_of(stages: list[StageConfig]) -> StageColumns:
    """Returns stages as columns; slices beyond a stage's recursions are 1, which has no effect."""
    max_recursions = max((len(stage.groups) for stage in stages), default=1)
    columns = {
        name: np.array([getattr(stage, name) for stage in stages], dtype=np.int64)
        for name in ("width", "blocks", "recursions", "mlp_hidden", "num_nlls", "nll_hidden")
    }
    groups = [stage.groups + (1,) * (max_recursions - len(stage.groups)) for stage in stages]
    return StageColumns(groups=np.array(groups, dtype=np.int64).reshape(len(stages), max_recursions), **columns)


torch.set_num_threads(1)

# Parameters, and fvcore totals in G, of the public code (SReT paper, tables 5 and 6; measured with fvcore 0.1.5).
PUBLISHED = {
    "sret_t": (4_755_979, "1.1217"),
    "sret_t_unsliced": (4_755_979, "1.3749"),
    "sret_lt": (4_988_024, "1.1737"),
    "sret_lt_unsliced": (4_988_024, "1.4269"),
    "sret_lt_16_14_1": (4_988_024, "1.2338"),
    "sret_s": (20_899_692, "4.1910"),
    "sret_s_unsliced": (20_899_692, "4.6895"),
    "sret_t_unsliced_384": (4_853_259, "6.4355"),
    "sret_s_unsliced_384": (21_091_212, "18.4965"),
    "sret_s_unsliced_512": (21_317_004, "42.7665"),
}

SRET_T_BY_OPERATOR = {
    "linear": 847_377_408,
    "matmul": 167_186_432,
    "conv": 97_880_832,
    "layer_norm": 7_904_000,
    "batch_norm": 1_304_576,
    "adaptive_avg_pool2d": 12_544,
}


@pytest.fixture
def assert_equals_trace(traced_cost: Callable[[ArchConfig], TracedCost]) -> Callable[[ArchConfig], None]:
    def assert_equal(arch: ArchConfig) -> None:
        cost, traced = cost_of(arch), traced_cost(arch)
        closed = {name: flops for name, flops in cost.flops_by_operator().items() if flops}
        assert (closed, cost.params) == (traced.flops_by_operator, traced.params)

    return assert_equal


class TestPublished:
    @pytest.mark.parametrize("name", PUBLISHED)
    def test_figures_are_those_of_the_public_code(self, name: str) -> None:
        params, flops = PUBLISHED[name]
        cost = cost_of(preset(name))
        assert (cost.params, f"{cost.flops / 1e9:.4f}") == (params, flops)

    @pytest.mark.parametrize(
        "name", [pytest.param(name, marks=pytest.mark.slow) if name != "sret_t" else name for name in PUBLISHED]
    )
    def test_closed_form_is_the_trace(self, name: str, assert_equals_trace: Callable[[ArchConfig], None]) -> None:
        assert_equals_trace(preset(name))

    @pytest.mark.slow
    def test_sret_t_by_operator(self) -> None:
        assert cost_of(preset("sret_t")).flops_by_operator() == SRET_T_BY_OPERATOR
        assert fvcore_cost(preset("sret_t")).flops_by_operator == SRET_T_BY_OPERATOR


class TestClosedForm:
    @pytest.mark.slow
    @pytest.mark.parametrize("seed", range(40))
    def test_is_the_trace_of_any_architecture(
        self, seed: int, assert_equals_trace: Callable[[ArchConfig], None]
    ) -> None:
        assert_equals_trace(random_arch(random.Random(seed)))

    @pytest.mark.slow
    @settings(max_examples=25, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(arch=varied_archs())
    def test_is_the_trace_of_any_variant(
        self, arch: ArchConfig, assert_equals_trace: Callable[[ArchConfig], None]
    ) -> None:
        assert_equals_trace(arch)

    @settings(max_examples=100, derandomize=True)
    @given(arch=varied_archs())
    def test_all_spellings_of_a_variant_cost_the_same(self, arch: ArchConfig) -> None:
        canonical = arch.canonical()
        assert canonical == canonical.canonical()
        assert (cost_of(canonical), canonical.arch_id) == (cost_of(arch), arch.arch_id)

    def test_shallower_run_costs_what_the_shallower_network_costs(
        self, assert_equals_trace: Callable[[ArchConfig], None]
    ) -> None:
        assert_equals_trace(preset("sret_t").with_max_recursions((1, 2, 1)).model_copy(update={"image_size": 64}))

    @pytest.mark.parametrize("seed", range(10))
    def test_equal_networks_cost_the_same(self, seed: int) -> None:
        arch = random_arch(random.Random(seed))
        assert cost_of(arch.canonical()) == cost_of(arch)

    def test_parts_and_operators_are_two_sums_of_one_cost(self) -> None:
        cost = cost_of(random_arch(random.Random(3)))
        data = cost.to_dict()
        assert tuple(data["flops_by_operator"]) == OPERATORS
        assert sum(data["flops_by_operator"].values()) == data["flops"] == cost.flops
        assert sum(part["flops"] for part in data["by_part"].values()) == cost.flops
        assert sum(part["params"] for part in data["by_part"].values()) == data["params"] == cost.params

    def test_a_cost_says_for_which_input_and_classes_it_is(self) -> None:
        arch = preset("sret_t").model_copy(update={"image_size": 64, "classes": 7})
        data = cost_of(arch).to_dict()
        assert (data["image_size"], data["classes"]) == (64, 7)

    def test_parts_are_named_in_the_order_of_the_forward_pass(self) -> None:
        names = ["stem", "stage 1", "pool 1", "stage 2", "pool 2", "stage 3", "head"]
        assert list(cost_of(preset("sret_t")).parts) == names
        assert list(cost_of(preset("sret_t")).to_dict()["by_part"]) == names


class TestAttendedPairs:
    def test_equals_counting_the_slices(self) -> None:
        for tokens in range(1, 40):
            for groups in range(1, 45):
                slices = np.array_split(np.arange(tokens), groups)  # its rule is ours: the first are longer
                assert attended_pairs(tokens, groups) == sum(len(part) ** 2 for part in slices)

    def test_is_the_papers_where_groups_divide(self) -> None:
        assert attended_pairs(784, 8) == 784**2 // 8

    def test_takes_arrays(self) -> None:
        groups = np.array([1, 3, 4, 9])
        assert attended_pairs(7, groups).tolist() == [attended_pairs(7, count) for count in (1, 3, 4, 9)]


class TestBulk:
    @pytest.mark.parametrize(
        ("image_size", "channels", "strides", "num_stages"),
        [(224, 3, (2, 2, 2), 3), (33, 1, (1, 2, 2), 1), (40, 3, (2, 1, 2), 4)],
    )
    def test_equals_one_by_one(
        self, image_size: int, channels: int, strides: tuple[int, int, int], num_stages: int
    ) -> None:
        rng = random.Random(image_size)
        archs = [
            ArchConfig(
                stages=tuple(random_stage(rng, 96) for _ in range(num_stages)),
                stem=StemConfig(width=rng.randint(1, 64), strides=strides),
                image_size=image_size,
                channels=channels,
                classes=17,
            )
            for _ in range(300)
        ]
        columns = [columns_of([arch.stages[number] for arch in archs]) for number in range(num_stages)]
        stem_widths = np.array([arch.stem.width for arch in archs])
        flops, params = bulk_cost(columns, archs[0].stem, image_size, channels, 17, stem_widths)
        expected = [(cost.flops, cost.params) for cost in map(cost_of, archs)]
        assert list(zip(flops.tolist(), params.tolist(), strict=True)) == expected

    def test_takes_the_stem_of_all_where_none_is_given_for_each(self) -> None:
        arch = preset("sret_s")
        columns = [columns_of([stage, stage]) for stage in arch.stages]
        flops, params = bulk_cost(columns, arch.stem, arch.image_size, arch.channels, arch.classes)
        cost = cost_of(arch)
        assert (flops.tolist(), params.tolist()) == ([cost.flops] * 2, [cost.params] * 2)

    def test_largest_legal_counts_do_not_overflow_silently(self) -> None:
        """A stage near the limits of `StageConfig`, beyond 2^31 by far: 64-bit columns must carry it exactly."""
        stage = StageConfig(width=8192, heads=1, blocks=128, recursions=16, groups=(1,) * 16, mlp_ratio=16.0)
        arch = ArchConfig(stages=(stage,), image_size=512)
        flops, params = bulk_cost([columns_of([stage])], arch.stem, 512, 3, 1000)
        cost = cost_of(arch)
        assert (flops.tolist(), params.tolist()) == ([cost.flops], [cost.params])
        assert cost.flops > 2**50

    def test_no_architectures_cost_nothing(self) -> None:
        arch = preset("sret_t")
        columns = [columns_of([]) for _ in arch.stages]
        flops, params = bulk_cost(columns, arch.stem, arch.image_size, arch.channels, arch.classes)
        assert (flops.shape, params.shape) == ((0,), (0,))

    def test_stem_counts_each_convolution_at_its_own_size(self) -> None:
        """By hand: 16 px, 1 -> 2 -> 4 -> 4 channels, strides 2, 1, 2: sides 8, 8, 4; embedding 4 x 4 x 4."""
        terms = stem_cost(16, 1, 2, (2, 1, 2), 4)
        assert terms.conv == 9 * (1 * 2 * 64 + 2 * 4 * 64 + 4 * 4 * 16)
        assert terms.batch_norm == 2 * (2 * 64 + 4 * 64 + 4 * 16)
        assert terms.params == 9 * (1 * 2 + 2 * 4 + 4 * 4) + 3 * (2 + 4 + 4) + 4 * 16


@pytest.mark.parametrize("given", ["sret_t", None, PRESETS["sret_t"].to_dict()])
def test_what_is_no_architecture_is_refused(given: Any) -> None:
    with pytest.raises(UserError, match=r"^cost_of takes an ArchConfig, got "):
        cost_of(given)
