"""The comparison of initialisations: what its schemes draw, and what its report says of pairs of equal seed."""

from __future__ import annotations

from math import sqrt

import pytest
import torch
from scipy.stats import ttest_1samp
from torch import nn

from benchmarks.initialisation.plan import PIECES, SUPERNETS, TORCH_SCALED
from benchmarks.initialisation.report import METRICS, figures, markdown, paired
from benchmarks.initialisation.schemes import OLD, SCHEMES
from benchmarks.recorded import Line
from sret_nas.arch.presets import preset
from sret_nas.nn.initialisation import branch_outputs
from sret_nas.nn.network import SReT
from sret_nas.nn.shared_weights import PoolWeights
from sret_nas.nn.supernet import Supernet
from sret_nas.space.supernet_shape import bounding_shape
from tests.counted_spaces import shipped


@pytest.fixture(scope="module")
def network() -> SReT:
    return SReT(preset("sret_t"))


def test_the_old_default(network: SReT) -> None:
    SCHEMES[OLD].apply(network, seed=0)
    assert network.head.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not network.head.bias.any()
    assert network.stem.convs[2].weight.std().item() == pytest.approx(sqrt(2 / (9 * 64)), rel=0.05)
    assert network.pools[1].weight.std().item() == pytest.approx(1 / 3, rel=0.05)


def test_the_chosen_scheme_is_how_networks_start(network: SReT) -> None:
    """So that what was measured is what is used: the same draws, except for their order."""
    SCHEMES[TORCH_SCALED].apply(network, seed=0)
    for name, weight in SReT(preset("sret_t")).named_parameters():
        drawn = network.get_parameter(name)
        assert drawn.std().item() == pytest.approx(weight.std().item(), rel=0.35, abs=1e-9), name
        assert drawn.abs().max().item() == pytest.approx(weight.abs().max().item(), rel=0.35), name


def test_fan_in_and_scaled_outputs(network: SReT) -> None:
    SCHEMES["linear fan-in x 1, outputs scaled, conv He"].apply(network, seed=0)
    outputs = {id(layer) for layer in branch_outputs(network)}
    assert len(outputs) == 10 * 2 + 20  # 10 blocks with two branches each, and 20 NLLs
    for layer in network.modules():
        if isinstance(layer, nn.Linear) and layer.weight.numel() > 10_000:
            expected = layer.in_features**-0.5 * (40**-0.5 if id(layer) in outputs else 1)
            # cut at two standard deviations, which leaves 0.88 of one
            assert layer.weight.std().item() == pytest.approx(0.88 * expected, rel=0.03)


def test_a_supernets_poolings_follow_the_rule_for_convolutions() -> None:
    supernet = Supernet(bounding_shape(shipped("sret_tiny")))
    (_, pool) = (module for module in supernet.modules() if isinstance(module, PoolWeights))
    SCHEMES["torch"].apply(supernet, seed=0)
    assert pool.weight.abs().max().item() <= 1 / 3  # one channel a group between the largest widths
    SCHEMES[OLD].apply(supernet, seed=0)
    assert pool.weight.std().item() == pytest.approx(1 / 3, rel=0.05)
    assert not pool.bias.any()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_seed_gives_the_same_weights(network: SReT, scheme: str) -> None:
    SCHEMES[scheme].apply(network, seed=3)
    first = {name: weight.clone() for name, weight in network.named_parameters()}
    SCHEMES[scheme].apply(network, seed=3)
    assert all(torch.equal(weight, first[name]) for name, weight in network.named_parameters())


def test_no_training_is_planned_twice() -> None:
    assert len(set(PIECES)) == len(PIECES)
    assert len(set(SUPERNETS)) == len(SUPERNETS)
    assert {piece.scheme for piece in PIECES} == set(SCHEMES)


def test_the_interval_is_that_of_a_t_test() -> None:
    found = paired([-1.0, -2.5, 0.5, -1.5])
    low, high = ttest_1samp([-1.0, -2.5, 0.5, -1.5], 0).confidence_interval(0.95)
    assert found["mean"] == pytest.approx((low + high) / 2)
    assert found["half_interval"] == pytest.approx((high - low) / 2)
    assert (found["pairs"], found["better"]) == (4, 3)
    assert paired([0.3]) == {"pairs": 1, "mean": 0.3, "half_interval": None, "better": 0}


def line(scheme: str, seed: int, value: float) -> Line:
    values = dict.fromkeys(METRICS, value)
    return {"data": "D", "network": "N", "images": 10, "scheme": scheme, "seed": seed, "cpu_seconds": 1.0, **values}


def test_only_equal_seeds_are_pairs() -> None:
    lines = [line(OLD, 0, 0.5), line(OLD, 1, 0.6), line("torch", 1, 0.55), line("torch", 2, 0.1)]
    result = figures(lines, [])
    (setting,) = result["settings"]
    assert setting["schemes"]["torch"]["differences"]["val_error"]["pairs"] == 1
    assert setting["schemes"]["torch"]["differences"]["val_error"]["mean"] == pytest.approx(-0.05)
    page = markdown({**result, "date": "d", "cpu": "c", "versions": {"torch": "t"}})
    assert "| linear 0.02, conv He | 2 | 0.550 | 55.00 |" in page
    assert "| torch | 2 | -0.050 | -5.00 |" in page


def test_a_slope_is_over_the_logarithm_of_flops() -> None:
    networks = [
        {"number": number, "flops": 1e8 * 2**number, "scheme": "torch", "seed": 0, "images": 10, "train_loss": 1.0,
         "val_cross_entropy": 1.0, "val_error": 0.5 - 0.01 * number}
        for number in range(6)
    ]  # fmt: skip
    assert figures([], [], networks)["networks"]["10"]["slopes"] == {"torch": pytest.approx(-1.0)}
    assert figures([], [], networks[1:])["networks"]["10"]["slopes"] == {}


def test_schemes_are_compared_in_pairs_of_equal_seed_and_of_equal_network() -> None:
    lines = [line(OLD, 0, 0.5), line("torch", 0, 0.4), line(TORCH_SCALED, 0, 0.3), line(TORCH_SCALED, 1, 0.9)]
    networks = [
        {"number": number, "flops": flops, "scheme": scheme, "seed": 0, "images": images, "val_cross_entropy": loss,
         "val_error": loss, "train_loss": loss}
        for number, flops, scheme, images, loss in (
            (7, 3e8, OLD, 20_000, 1.5), (7, 3e8, TORCH_SCALED, 20_000, 1.4), (3, 1e8, OLD, 20_000, 1.6),
            (3, 1e8, "torch", 20_000, 1.75), (3, 1e8, "torch", 100_000, 1.3), (3, 1e8, TORCH_SCALED, 100_000, 1.2),
        )
    ]  # fmt: skip
    result = figures(lines, [], networks)
    (setting, together) = result["scaled_less_torch"]
    assert setting["val_error"] == together["val_error"]
    assert (setting["val_error"]["pairs"], setting["val_error"]["mean"]) == (1, pytest.approx(-0.1))
    found = result["networks"]["20000"]
    assert [row["number"] for row in found["rows"]] == [3, 7]
    assert found["torch_less_old"]["val_cross_entropy"]["mean"] == pytest.approx(0.15)
    assert found["scaled_less_old"]["val_cross_entropy"]["mean"] == pytest.approx(-0.1)
    page = markdown({**result, "date": "d", "cpu": "c", "versions": {"torch": "t"}})
    assert "| 3 | 100 | 1.600 | 1.750 |  |" in page
    assert result["networks"]["100000"]["scaled_less_torch"]["val_cross_entropy"]["mean"] == pytest.approx(-0.1)
    assert "| 3 | 100 | 1.300 | 1.200 |" in page
    assert f"- {TORCH_SCALED} - {OLD}: -0.100, lower in 1 of 1" in page
