"""Traced FLOPs and timing: counted operators, refused traces, and networks that stay unchanged."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.arch.parts import StageConfig
from sret_nas.arch.presets import PRESETS
from sret_nas.errors import UserError
from sret_nas.nn.flops import UncountedError, count_flops, fvcore_cost, trace_cost
from sret_nas.nn.network import SReT
from sret_nas.nn.speed import measure_speed

torch.set_num_threads(1)


@pytest.fixture
def network() -> SReT:
    stage = StageConfig(width=8, heads=2, blocks=1, recursions=2, groups=(2, 3))
    network = SReT(ArchConfig(stages=(stage,), image_size=32, classes=3, drop_path=0.5)).train()
    network.stages[0].eval()  # mixed modes, which must come back as they were
    return network


def modes_of(network: nn.Module) -> list[bool]:
    return [module.training for module in network.modules()]


class CrossAttention(nn.Module):
    """Attention of 5 queries to 7 keys with 4 channels each and values with 6, in two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.keys = nn.Parameter(torch.ones(1, 2, 7, 4))
        self.values = nn.Parameter(torch.ones(1, 2, 7, 6))

    def forward(self, queries: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(queries, self.keys, self.values)


class SineOfLinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.sin(self.linear(inputs))


class WithUncalledModule(nn.Module):
    def __init__(self, idle: nn.Module) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.idle = idle

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.linear(inputs)
        return outputs


class TestTrace:
    def test_fused_attention_counts_both_products(self) -> None:
        cost = trace_cost(CrossAttention(), (2, 5, 4))
        assert cost.flops_by_operator == {"matmul": 2 * 5 * 7 * 4 + 2 * 5 * 7 * 6}
        assert cost.params == 2 * 7 * 4 + 2 * 7 * 6

    def test_operator_without_a_rule_is_refused_by_name(self, caplog: pytest.LogCaptureFixture) -> None:
        with pytest.raises(UncountedError, match=r"operators that no rule counts: aten::sin$"):
            trace_cost(SineOfLinear(), (4,))
        assert caplog.records == []

    def test_uncalled_module_is_refused_by_name(self, caplog: pytest.LogCaptureFixture) -> None:
        with pytest.raises(UncountedError, match=r"modules that the trace never called: idle$"):
            trace_cost(WithUncalledModule(nn.Linear(4, 3)), (4,))
        assert caplog.records == []

    def test_uncalled_module_without_parameters_is_free(self) -> None:
        assert trace_cost(WithUncalledModule(nn.ReLU()), (4,)).flops_by_operator == {"linear": 12}

    def test_a_network_and_its_architecture_cost_the_same_whatever_the_mode(self, network: SReT) -> None:
        cost = fvcore_cost(network)
        assert cost == fvcore_cost(network.arch)
        assert cost == fvcore_cost(network.eval())
        assert cost.flops == cost_of(network.arch).flops

    def test_leaves_no_trace(
        self, network: SReT, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
    ) -> None:
        modes, generator = modes_of(network), torch.get_rng_state()
        state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        with caplog.at_level(logging.DEBUG):
            fvcore_cost(network)
            fvcore_cost(network.arch)
        assert modes_of(network) == modes
        assert torch.equal(torch.get_rng_state(), generator)
        assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())
        assert all(not module._forward_hooks for module in network.modules())
        assert caplog.records == []
        assert recwarn.list == []


class TestSpeed:
    def test_reports_what_was_timed(self, network: SReT) -> None:
        speed = measure_speed(network, batch_size=4, repeats=5, warmup=1)
        assert (speed.batch_size, speed.image_size, speed.repeats) == (4, 32, 5)
        assert (speed.device, speed.num_threads) == ("cpu", 1)
        # A pass of this network takes a fraction of a millisecond to some milliseconds on any machine.
        assert 0.01 < speed.latency_ms < 10_000
        assert 0.1 < speed.images_per_s < 1e7

    def test_slow_networks_are_timed_three_times(self, network: SReT) -> None:
        assert measure_speed(network, batch_size=1, repeats=50, warmup=0, max_seconds=0).repeats == 3

    def test_leaves_the_network_as_it_was(self, network: SReT) -> None:
        modes, generator = modes_of(network), torch.get_rng_state()
        measure_speed(network, batch_size=1, repeats=1, warmup=0)
        assert modes_of(network) == modes
        assert torch.equal(torch.get_rng_state(), generator)

    @pytest.mark.parametrize("sizes", [{"batch_size": 0}, {"repeats": 0}])
    def test_nothing_to_time_is_refused(self, network: SReT, sizes: dict[str, int]) -> None:
        with pytest.raises(ValueError, match="must be at least 1"):
            measure_speed(network, **sizes)


def test_flops_can_be_counted_for_any_module_and_are_those_of_the_closed_form(network: SReT) -> None:
    import sret_nas

    assert sret_nas.count_flops(network) == cost_of(network.arch).flops
    assert sret_nas.count_flops(CrossAttention(), (2, 5, 4)) == 2 * 5 * 7 * (4 + 6)
    with pytest.raises(ValueError, match="image_shape must be given for a CrossAttention"):
        sret_nas.count_flops(CrossAttention())


def test_a_module_without_parameters_is_counted() -> None:
    assert count_flops(nn.AdaptiveAvgPool2d(1), (3, 8, 8)) == 3 * 8 * 8


@pytest.mark.parametrize("given", [PRESETS["sret_t"], "sret_t", None])
def test_what_is_no_network_is_refused(given: Any) -> None:
    with pytest.raises(UserError, match=r"^count_flops takes a network, got .*: cost_of counts an ArchConfig$"):
        count_flops(given)
