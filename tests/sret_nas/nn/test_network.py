"""The network: its parameters, its output at every depth and image size, and its determinism."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.parts import StageConfig, StemConfig
from sret_nas.arch.presets import preset
from sret_nas.errors import UserError
from sret_nas.nn.layers import NLL, Block
from sret_nas.nn.network import SReT
from sret_nas.nn.permutations import fixed_permutation
from sret_nas.nn.position_embedding import resized_state
from sret_nas.nn.stage import drop_path_rates
from sret_nas.yaml_files import dump_yaml
from tests.architectures import random_arch

torch.set_num_threads(1)


def small_arch(**changes: Any) -> ArchConfig:
    """Returns an architecture of two stages, the first of which permutes in its second and third recursion."""
    stage = {"loop": changes.pop("loop", "internal"), "nll": changes.pop("nll", "every")}
    stages = (
        StageConfig(width=8, heads=2, blocks=2, recursions=3, groups=(4, 3, 2), mlp_ratio=2.0, **stage),
        StageConfig(width=12, heads=3, blocks=1, recursions=2, groups=(2, 1), mlp_ratio=2.0, **stage),
    )
    defaults = {"stem": StemConfig(width=4), "image_size": 32, "classes": 5}
    return ArchConfig(stages=stages, **(defaults | changes))


def randomised(arch: ArchConfig, seed: int = 0) -> SReT:
    """Returns a network in evaluation mode with all weights random: a weight of 0 or 1 could be left out unnoticed."""
    torch.manual_seed(seed)
    network = SReT(arch).eval()
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            low = 0.5 if name.endswith(("running_var", "coefficients")) else -0.5
            tensor.uniform_(low, low + 1)
    return network


def images_for(arch: ArchConfig, batch: int = 2, size: int | None = None) -> Tensor:
    size = size or arch.image_size
    return torch.randn(batch, arch.channels, size, size, generator=torch.Generator().manual_seed(7))


@torch.no_grad()
def logits_of(network: SReT, images: Tensor, max_recursions: int | Sequence[int] | None = None) -> Tensor:
    return network(images, max_recursions)


class TestWeights:
    def test_state_dict_of_sret_t_holds_every_shared_weight_once(self) -> None:
        network = SReT(preset("sret_t"))
        state = network.state_dict()
        statistics = {name for name, _ in network.named_buffers()} & set(state)
        assert statistics == {
            f"stem.norms.{number}.{name}"
            for number in range(3)
            for name in ("running_mean", "running_var", "num_batches_tracked")
        }
        # 4,755,979: fvcore on the public code
        assert sum(tensor.numel() for name, tensor in state.items() if name not in statistics) == 4_755_979

    def test_residuals_and_norms_start_neutral_and_positions_small(self) -> None:
        network = SReT(preset("sret_t"))
        for module in network.modules():
            if isinstance(module, nn.LayerNorm):
                assert torch.equal(module.weight, torch.ones_like(module.weight))
                assert module.eps == 1e-6
            elif isinstance(module, Block | NLL):
                assert torch.equal(module.coefficients, torch.ones_like(module.coefficients))
        assert network.pos_embed.std().item() == pytest.approx(0.02, rel=0.05)

    @pytest.mark.parametrize("seed", range(25))
    def test_every_parameter_of_every_architecture_gets_a_gradient(self, seed: int) -> None:
        arch = random_arch(random.Random(seed))
        torch.manual_seed(seed)
        network = SReT(arch).train()
        labels = torch.arange(3) % arch.classes
        nn.functional.cross_entropy(network(images_for(arch, batch=3)), labels).backward()
        without = [name for name, parameter in network.named_parameters() if parameter.grad is None]
        assert without == []
        assert all(bool(parameter.grad.isfinite().all()) for parameter in network.parameters())

    def test_from_yaml_builds_the_architecture_in_the_file(self, tmp_path: Path) -> None:
        arch = small_arch(nll="between")
        (tmp_path / "best.yaml").write_text(dump_yaml({"architecture": arch.to_dict(), "metrics": {}}))
        assert SReT.from_yaml(tmp_path / "best.yaml").arch == arch

    def test_from_yaml_names_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"none\.yaml: there is no such file"):
            SReT.from_yaml(tmp_path / "none.yaml")


class TestForward:
    @pytest.mark.parametrize("seed", range(20))
    def test_two_spellings_of_one_network_are_one_network(self, seed: int) -> None:
        arch = random_arch(random.Random(seed))
        network, canonical = randomised(arch), SReT(arch.canonical()).eval()
        canonical.load_state_dict(network.state_dict())
        images = images_for(arch)
        assert torch.equal(logits_of(network, images), logits_of(canonical, images))

    def test_is_the_written_out_composition_of_its_parts(self) -> None:
        arch = small_arch(loop="external", nll="between")
        network = randomised(arch)
        permuted = {name: buffer for name, buffer in network.named_buffers() if "permutation" in name}
        with torch.no_grad():
            features = network.stem(images_for(arch)) + network.pos_embed
            tokens = features.flatten(2).transpose(1, 2)
            (first, second), first_nlls, second_nlls = network.stages[0].blocks, *network.stages[0].nlls
            tokens = first_nlls[0](first(tokens, 4))
            tokens = second_nlls[0](second(tokens, 4))
            tokens = first_nlls[1](first(tokens, 3, permuted["stages.0.permutation_0_1"]))
            tokens = second_nlls[1](second(tokens, 3, permuted["stages.0.permutation_1_1"]))
            tokens = first(tokens, 2, permuted["stages.0.permutation_0_2"])
            tokens = second(tokens, 2, permuted["stages.0.permutation_1_2"])
            features = network.pools[0](tokens.transpose(1, 2).reshape(2, 8, 4, 4))
            tokens = features.flatten(2).transpose(1, 2)
            (only,), (nlls,) = network.stages[1].blocks, network.stages[1].nlls
            tokens = only(nlls[0](only(tokens, 2)), 1)
            expected = network.head(network.norm(tokens.mean(dim=1)))
        torch.testing.assert_close(logits_of(network, images_for(arch)), expected)

    @pytest.mark.parametrize("shape", [(1, 1, 32, 32), (3, 32, 32), (1, 4, 32, 32)])
    def test_images_of_another_shape_are_refused(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(UserError, match=rf"\(batch, 3, height, width\), got \({shape[0]}, {shape[1]}"):
            SReT(small_arch())(torch.zeros(shape))

    def test_too_small_images_are_refused(self) -> None:
        with pytest.raises(UserError, match=r"at least 8 pixels a side, got \(1, 3, 32, 7\)"):
            SReT(small_arch())(torch.zeros(1, 3, 32, 7))

    @pytest.mark.parametrize(
        "images", [None, "photo.png", [torch.zeros(1, 3, 32, 32)], torch.zeros(1, 3, 32, 32).byte()]
    )
    def test_what_is_no_batch_of_standardised_images(self, images: Any) -> None:
        with pytest.raises(UserError, match="images must be"):
            SReT(small_arch())(images)

    def test_no_images_have_no_logits(self) -> None:
        network = SReT(small_arch())
        for mode in (network.eval(), network.train()):
            assert mode(torch.zeros(0, 3, 32, 32)).shape == (0, network.arch.classes)

    @pytest.mark.parametrize("limit", [0, -1, 1.5, "2", [1.5, 1, 1], torch.tensor(1)])
    def test_other_limits_of_recursions(self, limit: Any) -> None:
        with pytest.raises(ValueError, match="limit must be one positive number"):
            SReT(small_arch())(torch.zeros(1, 3, 32, 32), limit)

    @pytest.mark.parametrize("arch", [None, "best.yaml", {"stages": []}])
    def test_what_is_no_architecture(self, arch: Any) -> None:
        with pytest.raises(UserError, match="SReT takes an ArchConfig, got"):
            SReT(arch)


class TestFewerRecursions:
    @pytest.mark.parametrize(
        ("nll", "loop", "limit"),
        list(product(["every", "between", "last", "none"], ["internal", "external"], [1, 2, (2, 1), (1, 2)])),
    )
    def test_is_the_shallower_network_on_the_same_weights(
        self, nll: str, loop: str, limit: int | tuple[int, int]
    ) -> None:
        arch = small_arch(nll=nll, loop=loop)
        deep, shallow = randomised(arch), SReT(arch.with_max_recursions(limit)).eval()
        wanted = shallow.state_dict().keys()
        shallow.load_state_dict({name: tensor for name, tensor in deep.state_dict().items() if name in wanted})
        images = images_for(arch)
        expected = logits_of(shallow, images)
        assert torch.equal(logits_of(deep, images, limit), expected)
        assert not torch.allclose(logits_of(deep, images), expected)

    def test_in_training_too_with_its_drop_path_and_permutations(self) -> None:
        arch = small_arch(drop_path=0.5)
        deep, shallow = randomised(arch), SReT(arch.with_max_recursions(2))
        shallow.load_state_dict(
            {name: tensor for name, tensor in deep.state_dict().items() if name in shallow.state_dict()}
        )
        images = images_for(arch, batch=4)
        torch.manual_seed(3)
        expected = shallow.train()(images)
        torch.manual_seed(3)
        assert torch.equal(deep.train()(images, 2), expected)

    def test_more_than_configured_is_the_whole_network(self) -> None:
        network = randomised(small_arch())
        images = images_for(network.arch)
        assert torch.equal(logits_of(network, images, 9), logits_of(network, images))

    @pytest.mark.parametrize("limit", [0, (1,), (1, 0), (1, 1, 1)])
    def test_impossible_limits_are_refused(self, limit: int | tuple[int, ...]) -> None:
        network = SReT(small_arch())
        with pytest.raises(ValueError, match="limit must be one positive number, or one per stage"):
            network(images_for(network.arch), limit)


class TestPermutations:
    def test_fixed_permutation_never_changes(self) -> None:
        """If these numbers changed, networks trained with an older version would give other results."""
        assert fixed_permutation(8, 0, 0, 1) == (6, 5, 1, 4, 3, 2, 7, 0)
        assert fixed_permutation(8, 1, 2, 3) == (5, 2, 1, 4, 7, 6, 3, 0)

    def test_fixed_permutation_is_one_for_every_application(self) -> None:
        arguments = [(49, *where) for where in product(range(3), range(3), range(1, 4))]
        drawn = [fixed_permutation(*each) for each in arguments]
        assert all(sorted(order) == list(range(49)) for order in drawn)
        assert len(set(drawn)) == len(drawn)

    def test_evaluation_is_a_function_of_weights_and_images_alone(self) -> None:
        arch = small_arch()
        network, other = randomised(arch), SReT(arch).eval()
        other.load_state_dict(network.state_dict())
        images = images_for(arch)
        torch.manual_seed(1)
        first = logits_of(network, images)
        torch.manual_seed(2)
        assert torch.equal(logits_of(network, images), first)
        assert torch.equal(logits_of(other, images), first)

    def test_training_draws_anew_from_torchs_generator(self) -> None:
        network = randomised(small_arch()).train()
        images = images_for(network.arch)
        torch.manual_seed(1)
        first, second = logits_of(network, images), logits_of(network, images)
        torch.manual_seed(1)
        again = logits_of(network, images)
        assert torch.equal(first, again)
        assert not torch.allclose(first, second)

    def test_training_can_keep_the_permutations_of_evaluation(self) -> None:
        network = randomised(small_arch()).train()
        network.fresh_permutations = False
        images = images_for(network.arch)
        state = torch.get_rng_state()
        assert torch.equal(logits_of(network, images), logits_of(network, images))
        assert torch.equal(torch.get_rng_state(), state)

    def test_only_sliced_later_recursions_permute(self) -> None:
        assert SReT(small_arch()).permuted_applications() == [(0, 0, 1), (0, 0, 2), (0, 1, 1), (0, 1, 2)]
        external = [(0, 0, 1), (0, 1, 1), (0, 0, 2), (0, 1, 2)]
        assert SReT(small_arch(loop="external")).permuted_applications() == external
        stage = StageConfig(width=8, heads=2, blocks=1, recursions=4, groups=(3, 4, 5, 3))
        four_tokens = ArchConfig(stages=(stage,), image_size=16)  # in 4 groups or more each is alone, in any order
        assert SReT(four_tokens).permuted_applications() == [(0, 0, 3)]

    def test_set_permutations_replaces_those_of_evaluation(self) -> None:
        """Where G divides N, the reversed order gives the same slices as raster order; the fixed one does not."""
        stage = StageConfig(width=8, heads=2, blocks=2, recursions=2, groups=(1, 4))
        network = randomised(ArchConfig(stages=(stage,), image_size=32))
        images, where = images_for(network.arch), network.permuted_applications()
        fixed = logits_of(network, images)
        network.set_permutations({application: range(16) for application in where})
        raster = logits_of(network, images)
        network.set_permutations({application: torch.arange(16).flip(0) for application in where})
        torch.testing.assert_close(logits_of(network, images), raster)
        assert not torch.allclose(raster, fixed)

    def test_set_permutations_refuses_what_does_not_fit(self) -> None:
        network = SReT(small_arch())
        with pytest.raises(ValueError, match=r"permute, got \(stage, block, recursion\) = \(0, 0, 0\)"):
            network.set_permutations({(0, 0, 0): range(16)})
        with pytest.raises(ValueError, match="must hold each of 0 to 15 once"):
            network.set_permutations({(0, 0, 1): [0] * 16})


class TestDropPath:
    def test_rates_rise_linearly_to_the_nominal_one(self) -> None:
        assert drop_path_rates(5, 0.2) == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])
        assert drop_path_rates(1, 0.2) == [0.2]
        assert drop_path_rates(3, 0.0) == [0, 0, 0]

    @pytest.mark.parametrize("loop", ["internal", "external"])
    def test_each_application_and_its_nll_get_the_rate_of_their_place(self, loop: str) -> None:
        network = SReT(small_arch(loop=loop, drop_path=0.7))
        seen: list[tuple[str, float]] = []
        for module in network.modules():
            if isinstance(module, Block | NLL):
                at = 3 if isinstance(module, Block) else 1  # the argument `drop_path`
                module.register_forward_pre_hook(lambda m, inputs, at=at: seen.append((type(m).__name__, inputs[at])))
        network.train()(images_for(network.arch))
        rates = [0.7 * number / 7 for number in range(8)]  # 2 blocks x 3 recursions, then 1 x 2
        assert seen == [(kind, pytest.approx(rate)) for rate in rates for kind in ("Block", "NLL")]

    @pytest.mark.parametrize(("nll", "branches"), [("none", 2), ("every", 3)])
    def test_a_single_application_drops_every_branch_at_the_nominal_rate(self, nll: str, branches: int) -> None:
        stage = StageConfig(width=4, heads=1, blocks=1, recursions=1, groups=(1,), nll=nll)
        network = randomised(ArchConfig(stages=(stage,), image_size=16, channels=1, drop_path=0.5)).train()
        images = images_for(network.arch, batch=1).expand(4096, -1, -1, -1)
        torch.manual_seed(0)
        logits = logits_of(network, images)
        for module in network.modules():
            if isinstance(module, Block | NLL):
                module.coefficients.data[1::2] = 0
        identity = logits_of(network, images)
        share = torch.isclose(logits, identity, atol=1e-5).all(dim=1).float().mean().item()
        expected = 0.5**branches
        assert abs(share - expected) < 4 * (expected * (1 - expected) / 4096) ** 0.5

    def test_evaluation_is_unaffected(self) -> None:
        network, plain = randomised(small_arch(drop_path=0.9)), SReT(small_arch()).eval()
        plain.load_state_dict(network.state_dict())
        images = images_for(network.arch)
        assert torch.equal(logits_of(network, images), logits_of(plain, images))


class TestImageSize:
    @pytest.mark.parametrize("size", [48, 16, 33])
    def test_another_size_is_the_network_of_that_size_with_the_embedding_resized(self, size: int) -> None:
        trained = randomised(small_arch())
        other = SReT(small_arch(image_size=size)).eval()
        other.load_state_dict(resized_state(trained.state_dict(), other.arch))
        images = images_for(trained.arch, size=size)
        assert torch.equal(logits_of(trained, images), logits_of(other, images))

    def test_weights_of_a_file_whose_groups_are_clipped_fit_at_another_size(self) -> None:
        """At 16 px the stage has four tokens, so that five groups and four are one network; at 32 px they are two."""
        stage = StageConfig(width=8, heads=2, blocks=1, recursions=1, groups=(5,), nll="none")
        five = ArchConfig(stages=(stage,), image_size=16)
        larger = ArchConfig(stages=(stage.model_copy(update={"groups": (4,)}),), image_size=32)
        trained = SReT(five)
        fitted = trained.adapted_to(larger, "weights", "file")
        assert fitted.arch == larger
        assert torch.equal(fitted.head.weight, trained.head.weight)
        with pytest.raises(UserError, match="differs in stage 1 groups"):
            trained.adapted_to(ArchConfig(stages=(stage.model_copy(update={"groups": (2,)}),), image_size=32), "a", "b")

    def test_same_size_changes_nothing(self) -> None:
        network = randomised(small_arch())
        state = network.state_dict()
        assert all(torch.equal(state[name], tensor) for name, tensor in resized_state(state, network.arch).items())

    def test_rectangles_run(self) -> None:
        network = randomised(small_arch())
        images = torch.randn(2, 3, 24, 40, generator=torch.Generator().manual_seed(0))
        assert bool(logits_of(network, images).isfinite().all())


@pytest.mark.slow
class TestExport:
    @pytest.mark.parametrize("loop", ["internal", "external"])
    def test_exported_program_gives_the_same_logits_for_any_batch(self, loop: str) -> None:
        network = randomised(small_arch(loop=loop))
        images = images_for(network.arch, batch=3)
        batch = {"images": {0: torch.export.Dim("batch")}}
        exported = torch.export.export(network, (images[:2],), dynamic_shapes=batch).module()
        with torch.no_grad():
            torch.testing.assert_close(exported(images), logits_of(network, images), rtol=0, atol=1e-6)

    def test_an_open_image_size_is_refused(self) -> None:
        network = randomised(small_arch())
        sizes = {"images": {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}}
        with pytest.raises(Exception, match="an exported SReT has one image size"):
            torch.export.export(network, (images_for(network.arch, batch=2),), dynamic_shapes=sizes)
