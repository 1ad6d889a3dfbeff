"""A supernet's subnets equal their extracted networks, in logits, gradients and cost."""

from __future__ import annotations

import copy
from itertools import product
from math import gcd

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.arch.parts import Head, Residual
from sret_nas.nn.flops import fvcore_cost
from sret_nas.nn.network import SReT
from sret_nas.nn.supernet import Supernet
from sret_nas.space.search_space import SearchSpace
from tests.counted_spaces import HEADS, PATCHES, RESIDUALS, STEMS, VARIED, shipped, space_of
from tests.sret_nas.nn.random_supernets import (
    DAILY_OR_SLOW,
    SHIPPED,
    SMALL,
    drawn,
    gradients,
    images_for,
    randomised,
    resized,
    widths_of,
)

torch.set_num_threads(1)

COPRIME = space_of(
    {"width": [6, 8, 9], "heads": [1], "mlp_ratio": [1.0, 1.5]}, {"width": [7, 15], "heads": [1]},
    {"width": [10, 16], "heads": [1]}, image_size=40,
)  # fmt: skip
"""Neighbouring widths that have few divisors in common, so that what one pooling connects another does not."""


def shared_name(name: str, arch: ArchConfig) -> str:
    """Returns the supernet's name of a network's parameter. It names NLLs by the recursion that they follow."""
    parts = name.split(".")
    if "nlls" in parts:
        stage = arch.stages[int(parts[1])]
        followed = [r for r in range(stage.recursions) if stage.nll_after(r) is not None]
        parts[4] = str(followed[int(parts[4])])
    return ".".join(parts)


def kept_entries(supernet: Supernet, name: str, arch: ArchConfig, shape: torch.Size, whole: torch.Size) -> list[Tensor]:
    """Returns a network's indices in each dimension of a shared parameter, by the rule `i * whole // number`."""
    if name.startswith("pools") and name.endswith("weight"):
        return [torch.tensor(pooling_rows(supernet, int(name.split(".")[1]), arch))]
    if name.startswith("class_tokens."):  # without the first dimension of a network; the class token comes first
        return [torch.arange(shape[1]), torch.tensor([i * whole[1] // shape[2] for i in range(shape[2])])]
    kept = [
        torch.tensor([i * most // number for i in range(number)]) for number, most in zip(shape, whole, strict=True)
    ]
    if name.endswith("coefficients") and shape != whole:  # of the branches, each of which follows its identity
        kept[0] = torch.arange(1, whole[0], 2)
    if ".qkv." in name:
        part, most = shape[0] // 3, whole[0] // 3
        kept[0] = torch.tensor([third * most + i * most // part for third in range(3) for i in range(part)])
    return kept[:2]


def pooling_rows(supernet: Supernet, number: int, arch: ArchConfig) -> list[int]:
    """Returns the shared filters of all channel pairs that the groups of a network's pooling connect."""
    before, after = widths_of(arch)[number : number + 2]
    inputs, outputs = (stage.width for stage in supernet.shape.stages[number : number + 2])
    fan_in, fan_out = before // gcd(before, after), after // gcd(before, after)
    position = {int(pair): row for row, pair in enumerate(supernet.pools[number].pairs)}
    return [
        position[(output * outputs // after) * inputs + (output // fan_out * fan_in + i) * inputs // before]
        for output in range(after)
        for i in range(fan_in)
    ]


def assert_same(ours: Tensor, theirs: Tensor, what: str) -> None:
    scale = max(1.0, theirs.detach().abs().max().item())
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6 * scale, msg=lambda text: f"{what}: {text}")


def assert_is_the_extracted(supernet: Supernet, arch: ArchConfig, images: Tensor) -> None:
    """Compares the logits and gradients of a subnet with those of the extracted network, in the supernet's mode."""
    network = supernet.extract(arch).train(supernet.training)
    network.fresh_permutations = supernet.fresh_permutations
    network.stem.train()  # a batch's own statistics, as the supernet has them in every mode
    labels = torch.arange(len(images)) % arch.classes
    torch.manual_seed(5)
    expected = network(images)
    F.cross_entropy(expected, labels).backward()
    torch.manual_seed(5)
    logits = supernet(images, arch)
    F.cross_entropy(logits, labels).backward()
    assert_same(logits, expected, "logits")
    assert logits.abs().max() > 1e-2
    found = gradients(supernet)
    for name, parameter in network.named_parameters():
        shared = found.pop(shared_name(name, arch))
        rows, *columns = kept_entries(supernet, name, arch, parameter.shape, shared.shape)
        part = shared[rows]
        assert_same((part[:, columns[0]] if columns else part).reshape(parameter.shape), parameter.grad, name)
        part[(slice(None), *columns)] = 0
        shared[rows] = part
        assert not shared.any(), name
    assert found == {}


class TestIsTheExtractedNetwork:
    @pytest.mark.slow
    @pytest.mark.parametrize("image_size", [40, 37])
    @pytest.mark.parametrize("name", DAILY_OR_SLOW)
    def test_in_every_mode(self, name: str, image_size: int) -> None:
        space = shipped(name)
        supernet = randomised(space, image_size)
        for arch in drawn(space, image_size, seed=image_size, number=2 if image_size == 40 else 1):
            for is_training, fresh in ((True, False), (True, True), (False, True)):
                supernet.train(is_training)
                supernet.fresh_permutations = fresh
                assert_is_the_extracted(supernet, arch, images_for(arch))

    @pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 3))])
    @pytest.mark.parametrize("space", [SMALL, COPRIME, VARIED, PATCHES, STEMS, RESIDUALS, HEADS])
    def test_in_small_spaces_in_double_precision(self, seed: int, space: SearchSpace) -> None:
        supernet = copy.deepcopy(randomised(space, 40)).double()
        for arch, is_training in product(drawn(space, 40, seed, number=2), (False, True)):
            assert_is_the_extracted(supernet.train(is_training), arch, images_for(arch).double())

    @pytest.mark.slow
    def test_with_every_stem(self) -> None:
        supernet = copy.deepcopy(randomised(STEMS, 40)).double()
        for number, stem in enumerate(STEMS.stem.stems):
            arch = resized(STEMS.network([number, 1], stem), 40)
            assert (arch.stem.kind, arch.stem.norm) == (stem.kind, stem.norm)
            assert_is_the_extracted(supernet.train(number % 2 == 0), arch, images_for(arch).double())

    @pytest.mark.parametrize("residual", ["path", "branch", "plain"])
    def test_with_every_residual(self, residual: Residual) -> None:
        supernet = copy.deepcopy(randomised(RESIDUALS, 40)).double().train()
        arch = resized(RESIDUALS.network([1, 1, 0], residual=residual), 40)
        assert (arch.residual, arch.stages[2].num_nlls) == (residual, 1)
        assert_is_the_extracted(supernet, arch, images_for(arch).double())

    @pytest.mark.parametrize("head", ["average", "class_token", "distillation_token"])
    def test_with_every_head(self, head: Head) -> None:
        supernet = copy.deepcopy(randomised(HEADS, 40)).double().train()
        for residual, row in product(HEADS.residual, HEADS.last_rows("class_token")[::5].tolist()):
            arch = resized(HEADS.network([1, row], residual=residual, head=head), 40)
            assert_is_the_extracted(supernet, arch, images_for(arch).double())

    def test_on_images_of_another_size(self) -> None:
        supernet = randomised(SMALL, 40).train()
        (arch,) = drawn(SMALL, 40, seed=1, number=1)
        assert_is_the_extracted(supernet, arch, images_for(arch, size=52))

    def test_a_shallower_last_nll_is_the_one_of_its_own_recursion(self) -> None:
        space = space_of({"nll": ["last"], "recursions": [3]})
        supernet = randomised(space, 32).eval()
        arch = resized(space.network([0]), 32)
        found = []
        for depth in (1, 2, 3):
            supernet(images_for(arch), arch.with_max_recursions(depth)).sum().backward()
            found.append({name.split(".")[4] for name in gradients(supernet) if "nlls" in name})
        assert found == [{"0"}, {"1"}, {"2"}]

    def test_extracted_parameters_are_copies(self) -> None:
        supernet = copy.deepcopy(randomised(SMALL, 40))
        (arch,) = drawn(SMALL, 40, seed=1, number=1)
        network = supernet.extract(arch)
        before = copy.deepcopy(network.state_dict())
        with torch.no_grad():
            for parameter in supernet.parameters():
                parameter.zero_()
        assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())

    def test_extracted_buffers_are_a_fresh_networks(self) -> None:
        (arch,) = drawn(SMALL, 40, seed=3, number=1)
        network, fresh = randomised(SMALL, 40).extract(arch), SReT(arch)
        expected = dict(fresh.named_buffers())
        assert any("permutation" in name for name in expected)
        assert network.training
        assert dict(network.named_buffers()).keys() == expected.keys()
        for name, buffer in network.named_buffers():
            assert torch.equal(buffer, expected[name]), name


class TestCost:
    @pytest.mark.parametrize("name", SHIPPED)
    def test_of_an_extracted_network_is_the_closed_form(self, name: str) -> None:
        space = shipped(name)
        for arch in drawn(space, 40, seed=11, number=4):
            network = randomised(space, 40).extract(arch)
            assert sum(parameter.numel() for parameter in network.parameters()) == cost_of(arch).params

    @pytest.mark.parametrize("seed", range(3))
    def test_is_fvcores(self, seed: int) -> None:
        (arch,) = drawn(SMALL, 40, seed, number=1)
        traced = fvcore_cost(randomised(SMALL, 40).extract(arch))
        assert (traced.flops, traced.params) == (cost_of(arch).flops, cost_of(arch).params)
