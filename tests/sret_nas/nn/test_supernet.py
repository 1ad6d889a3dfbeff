"""The supernet: initial weights, passes that leave no state, copies that stand for themselves, and what it refuses."""

from __future__ import annotations

import copy
import pickle
import re
from typing import Any

import pytest
import torch
from torch import Tensor

from sret_nas.arch.config import ArchConfig
from sret_nas.errors import UserError
from sret_nas.nn import supernet as supernet_module
from sret_nas.nn.network import SReT
from sret_nas.nn.supernet import Supernet
from sret_nas.space.supernet_shape import bounding_shape
from tests.counted_spaces import shipped
from tests.sret_nas.nn.random_supernets import SMALL, drawn, gradients, images_for, randomised, resized

torch.set_num_threads(1)


class TestInitialWeights:
    def test_blocks_start_small_and_convolutions_keep_the_variance(self) -> None:
        supernet = Supernet(bounding_shape(shipped("sret_tiny"), adapted=lambda arch: resized(arch, 40)))
        deviations = {
            "stages.0.blocks.0.attn.qkv": 0.02,
            "stages.2.blocks.2.mlp.fc2": 0.02,
            "head": 0.02,
            "stem.convs.2": (2 / (9 * 64)) ** 0.5,
            "pools.0": (9 * 2) ** -0.5,  # from 64 channels to 160: 32 groups
        }
        for name, deviation in deviations.items():
            layer = supernet.get_submodule(name)
            assert layer.get_parameter("weight").std().item() == pytest.approx(deviation, rel=0.08), name
            assert not layer.get_parameter("bias").any(), name
        assert supernet.pos_embed.std().item() == pytest.approx(0.02, rel=0.05)


@pytest.fixture
def supernet() -> Supernet:
    return copy.deepcopy(randomised(SMALL, 40)).train()


def outcome(supernet: Supernet, arch: ArchConfig) -> list[Tensor]:
    """Returns the logits of one pass with a fixed seed, and the gradients of all shared weights that it reaches."""
    torch.manual_seed(3)
    logits = supernet(images_for(arch), arch)
    logits.square().sum().backward()
    return [logits.detach(), *gradients(supernet).values()]


def all_equal(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return len(ours) == len(theirs) and all(map(torch.equal, ours, theirs))


class TestRemembersNothing:
    ARCHS = drawn(SMALL, 40, seed=2, number=5)

    def fresh_outcomes(self) -> list[list[Tensor]]:
        return [outcome(copy.deepcopy(randomised(SMALL, 40)).train(), arch) for arch in self.ARCHS]

    @pytest.mark.slow
    @pytest.mark.parametrize("kept", [1, 2, 256])
    def test_order_and_eviction_change_nothing(
        self, supernet: Supernet, kept: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(supernet_module, "CACHE_SIZE", kept)
        expected = self.fresh_outcomes()
        assert not all_equal(expected[0], expected[1])
        for at in (0, 1, 0, 2, 1, 4, 4, 3, 0):
            assert all_equal(outcome(supernet, self.ARCHS[at]), expected[at])
            assert len(supernet._sliced_networks) <= kept

    def test_what_was_used_last_is_kept(self, supernet: Supernet, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(supernet_module, "CACHE_SIZE", 2)
        first, second, third, *_ = self.ARCHS
        for arch in (first, second, first, third):
            supernet(images_for(arch), arch)
        assert [arch for arch, _ in supernet._sliced_networks] == [first, third]

    @pytest.mark.slow
    def test_evaluation_in_between_changes_nothing(self, supernet: Supernet) -> None:
        expected = self.fresh_outcomes()[0]
        arch = self.ARCHS[0]
        evaluated = outcome(supernet.eval(), arch)
        assert not torch.equal(evaluated[0], expected[0])  # no drop path, fixed permutations
        assert all_equal(outcome(supernet.train(), arch), expected)
        assert all_equal(outcome(supernet.eval(), arch), evaluated)

    def test_permutations_follow_the_switch(self, supernet: Supernet) -> None:
        arch = self.ARCHS[0].model_copy(update={"drop_path": 0.0})
        fresh = outcome(supernet, arch)
        supernet.fresh_permutations = False
        fixed = outcome(supernet, arch)
        assert not torch.equal(fresh[0], fixed[0])
        assert all_equal(outcome(supernet.eval(), arch), fixed)

    @pytest.mark.slow
    def test_failure_in_between_changes_nothing(self, supernet: Supernet) -> None:
        expected = self.fresh_outcomes()[0]
        with pytest.raises(UserError, match=r"^images must have the shape .* got \(2, 1, 40, 40\)$"):
            supernet(torch.zeros(2, 1, 40, 40), self.ARCHS[0])
        assert all_equal(outcome(supernet, self.ARCHS[0]), expected)

    def test_a_pass_changes_no_weight_and_no_buffer(self, supernet: Supernet) -> None:
        before = copy.deepcopy(supernet.state_dict())
        outcome(supernet, self.ARCHS[0])
        after = supernet.state_dict()
        assert after.keys() == before.keys() == dict(supernet.named_parameters()).keys()
        assert all(torch.equal(after[name], before[name]) for name in before)

    def test_neither_sliced_networks_nor_extracting_draw_random_numbers(self, supernet: Supernet) -> None:
        before = torch.get_rng_state()
        for arch in self.ARCHS:
            supernet.eval()(images_for(arch), arch)
            supernet.extract(arch)
        assert torch.equal(torch.get_rng_state(), before)

    def test_inference_first_does_not_hinder_training(self, supernet: Supernet) -> None:
        supernet = copy.deepcopy(supernet)  # which has made no permutations yet
        arch = next(arch for arch in self.ARCHS if SReT(arch).permuted_applications())
        with torch.inference_mode():
            supernet.eval()(images_for(arch), arch)
            network = supernet.extract(arch)
        assert network.arch == arch
        supernet.fresh_permutations = False
        expected = copy.deepcopy(randomised(SMALL, 40)).train()
        expected.fresh_permutations = False
        assert all_equal(outcome(supernet.train(), arch), outcome(expected, arch))


class TestCopies:
    ARCH = drawn(SMALL, 40, seed=4, number=1)[0]

    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda supernet: pickle.loads(pickle.dumps(supernet))])  # noqa: S301
    def test_copy_of_a_used_supernet_stands_for_itself(self, supernet: Supernet, copied: Any) -> None:
        expected = outcome(supernet, self.ARCH)
        other = copied(supernet)
        assert other.shape == supernet.shape
        with torch.no_grad():
            for parameter in supernet.parameters():
                parameter.zero_()
        assert all_equal(outcome(other, self.ARCH), expected)
        assert gradients(supernet) == {}

    def test_sliced_networks_do_not_travel(self, supernet: Supernet) -> None:
        before = len(pickle.dumps(supernet))
        supernet(images_for(self.ARCH), self.ARCH)
        assert len(pickle.dumps(supernet)) == before
        assert len(supernet._sliced_networks) == 1

    def test_double_precision(self, supernet: Supernet) -> None:
        single = outcome(supernet, self.ARCH.model_copy(update={"drop_path": 0.0}))
        arch = self.ARCH.model_copy(update={"drop_path": 0.0})
        supernet.to(dtype=torch.float64)
        torch.manual_seed(3)
        logits = supernet(images_for(arch).double(), arch)
        assert logits.dtype == torch.float64
        torch.testing.assert_close(logits.float(), single[0], rtol=1e-4, atol=1e-5)
        extracted = supernet.extract(arch)
        assert {parameter.dtype for parameter in extracted.parameters()} == {torch.float64}


class TestRefuses:
    ARCH = drawn(SMALL, 40, seed=4, number=1)[0]

    @pytest.mark.parametrize(
        ("changes", "problem"),
        [
            ({"image_size": 48}, "image size must be 40, got 48"),
            ({"classes": 3}, "classes must be 10, got 3"),
            ({"channels": 1}, "channels must be 3, got 1"),
            ({"stages": ARCH.stages[:1]}, "there must be 2 stages, got 1"),
        ],
    )
    def test_networks_outside_run_or_extracted(
        self, supernet: Supernet, changes: dict[str, Any], problem: str
    ) -> None:  # fmt: skip
        outside = self.ARCH.model_copy(update=changes)
        for use in (supernet.extract, lambda arch: supernet(images_for(self.ARCH), arch)):
            with pytest.raises(UserError, match=f"hold the network {outside.arch_id} .*: {re.escape(problem)}$"):
                use(outside)
        assert len(supernet._sliced_networks) == 0

    @pytest.mark.parametrize(
        ("shape", "problem"),
        [
            ((2, 1, 40, 40), r"the shape \(batch, 3, height, width\), got \(2, 1, 40, 40\)"),
            ((3, 40, 40), r"the shape \(batch, 3, height, width\), got \(3, 40, 40\)"),
            ((2, 3, 40, 7), r"at least 8 pixels a side, got \(2, 3, 40, 7\)"),
        ],
    )
    def test_images_that_do_not_fit(self, supernet: Supernet, shape: tuple[int, ...], problem: str) -> None:
        with pytest.raises(UserError, match=problem):
            supernet(torch.zeros(shape), self.ARCH)
