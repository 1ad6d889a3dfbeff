"""The supernet: subnets equal their extracted networks, every weight is used, and passes leave no state."""

from __future__ import annotations

import copy
import pickle
import random
import re
from collections.abc import Callable
from functools import cache
from itertools import pairwise, product
from math import gcd
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.arch.parts import CLASS_TOKENS, COEFFICIENTS, Head, Residual, StageConfig
from sret_nas.errors import UserError
from sret_nas.nn import supernet as supernet_module
from sret_nas.nn.flops import fvcore_cost
from sret_nas.nn.network import SReT
from sret_nas.nn.shared_weights import spread
from sret_nas.nn.supernet import Supernet
from sret_nas.space.choices import StemChoice, is_legal
from sret_nas.space.search_space import SearchSpace
from sret_nas.space.supernet_shape import bounding_shape
from tests.counted_spaces import HEADS, PATCHES, RESIDUALS, STEMS, VARIED, shipped, space_of
from trials.training.recipe import ProxyConfig, TrainingConfig, proxy_arch

torch.set_num_threads(1)

Shapes = tuple[tuple[int, int], ...]
"""Width and heads of each stage."""

SHIPPED = ("smoke", "paper_ablations", "sret_tiny", "sret_small")
DAILY_OR_SLOW = ("smoke", *(pytest.param(name, marks=pytest.mark.slow) for name in SHIPPED[1:]))
"""Small supernets daily, where large ones take seconds. The small spaces of this file have all that these have."""
SMALL = space_of(
    {"width": [8, 12, 16], "heads": [2], "blocks": [1, 2], "recursions": [1, 2, 3], "groups": [[4, 2]],
     "loop": ["internal", "external"], "nll": ["every", "last"], "nll_ratio": [0.5, 1.0], "mlp_ratio": [1.0, 2.0]},
    {"width": [12, 16, 20], "heads": [2], "recursions": [1, 2], "groups": [[3, 2]], "nll": ["between", "none"]},
    image_size=40, drop_path=0.2,
)  # fmt: skip

COPRIME = space_of(
    {"width": [6, 8, 9], "heads": [1], "mlp_ratio": [1.0, 1.5]}, {"width": [7, 15], "heads": [1]},
    {"width": [10, 16], "heads": [1]}, image_size=40,
)  # fmt: skip
"""Neighbouring widths that have few divisors in common, so that what one pooling connects another does not."""


def resized(arch: ArchConfig, image_size: int) -> ArchConfig:
    return arch.model_copy(update={"image_size": image_size, "classes": 10})


@cache
def randomised(space: SearchSpace, image_size: int) -> Supernet:
    """Returns a supernet with all weights random: a weight of 0 or 1 could be left out unnoticed."""
    torch.manual_seed(0)
    supernet = Supernet(bounding_shape(space, adapted=lambda arch: resized(arch, image_size)))
    with torch.no_grad():
        for name, parameter in supernet.named_parameters():
            is_gain = "norm" in name and name.endswith("weight")
            if is_gain or name.endswith("coefficients"):
                parameter.uniform_(0.7, 1.3)
            elif parameter.ndim < 2:
                parameter.uniform_(-0.5, 0.5)
            else:
                parameter.normal_(std=0.1)
    return supernet


def drawn(space: SearchSpace, image_size: int, seed: int, number: int) -> list[ArchConfig]:
    """Returns random networks of a space, the last with fewer recursions, different between stages."""
    rng, of_network = random.Random(seed), random.Random(seed)
    networks = []
    for _ in range(number):
        rows = [rng.randrange(len(table)) for table in space.stage_tables]
        stem = rng.choice(space.stem.stems)
        residual, head = of_network.choice(space.residual), of_network.choice(space.head)
        if head != "average":
            rows[-1] = of_network.choice(space.last_rows(head).tolist())
        networks.append(resized(space.network(rows, stem, residual, head), image_size))
    depths = [rng.randint(1, stage.recursions) for stage in networks[-1].stages]
    return [*networks[:-1], networks[-1].with_max_recursions(depths)]


def images_for(arch: ArchConfig, batch: int = 4, size: int | None = None) -> Tensor:
    size = size or arch.image_size
    return torch.randn(batch, arch.channels, size, size, generator=torch.Generator().manual_seed(7))


def gradients(supernet: Supernet) -> dict[str, Tensor]:
    """Returns the gradient of every parameter that has one, and clears it."""
    found = {name: parameter.grad for name, parameter in supernet.named_parameters() if parameter.grad is not None}
    supernet.zero_grad(set_to_none=True)
    return found


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


class TestSpread:
    @pytest.mark.parametrize(
        ("number", "most", "expected"),
        [
            (4, 8, [0, 2, 4, 6]),
            (3, 8, [0, 2, 5]),
            (5, 5, [0, 1, 2, 3, 4]),
            (1, 7, [0]),
            (6, 9, [0, 1, 3, 4, 6, 7]),  # three parts of 2 of 3
        ],
    )
    def test_keeps_places(self, number: int, most: int, expected: list[int]) -> None:
        assert spread(number, most).tolist() == expected

    @pytest.mark.parametrize("most", range(1, 40))
    def test_keeps_each_once_in_order(self, most: int) -> None:
        for number in range(1, most + 1):
            kept = spread(number, most).tolist()
            assert kept == sorted(set(kept))
            assert kept[0] == 0
            assert kept[-1] < most

    def test_more_than_there_are_is_a_mistake_of_ours(self) -> None:
        with pytest.raises(AssertionError, match=r"\(9, 8\)"):
            spread(9, 8)


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


ODD_SPACES = {
    "only last NLLs": space_of({"nll": ["last"], "recursions": [3]}, {"nll": ["last"], "recursions": [2]}),
    "listed stems": space_of({"width": [8, 12], "heads": [2]}, stem={"width": [3, 9], "strides": [1, 2, 2]}),
    "coprime widths": space_of({"width": [7, 9], "heads": [1]}, {"width": [8, 11], "heads": [1]}),
    "no NLLs": space_of({"recursions": [1, 3], "nll": ["none"], "nll_ratio": [2.0]}, {"width": [16]}),
    "NLLs between": space_of({"recursions": [1, 2], "nll": ["between", "none"], "mlp_ratio": [1.0, 3.0]}),
    "a small space": SMALL,
    "variants": VARIED,
    "variants of patches": PATCHES,
    "all stems": STEMS,
    "all residuals": RESIDUALS,
    "all heads": HEADS,
    "an average or a class token": space_of({}, head=["average", "class_token"]),
    "plain and branch": space_of({"nll": ["every"]}, residual=["plain", "branch"]),
}


def covering(space: SearchSpace, adapted: Callable[[ArchConfig], ArchConfig]) -> list[ArchConfig]:
    """Returns networks that need, together, all that a supernet of the space holds: the largest, with NLLs wherever
    they may be (after the last recursion: at every depth); and for any two widths that may be neighbours a network
    of little else."""
    shapes = [
        [shape for shape in product(s.width, s.heads) if is_legal(*shape, max(s.nll_ratio), max(s.mlp_ratio))]
        for s in space.stages
    ]
    small = {path: adapted(built(space, path, min)) for path in product(*shapes)}
    widest = max(small, key=lambda path: sum(widths_of(small[path])))
    networks = []
    for placement in range(max(1 if "every" in stage.nll else len(stage.nll) for stage in space.stages)):
        for stem in space.stem.stems:
            arch = adapted(built(space, widest, max, placement, stem))
            shallowest = 1 if any(stage.nll == "last" for stage in arch.stages) else arch.max_recursions
            networks += [arch.with_max_recursions(depth) for depth in range(shallowest, arch.max_recursions + 1)]
    seen: set[tuple[int, tuple[int, int]]] = set()
    for arch in small.values():
        pairs = set(enumerate(pairwise(widths_of(arch))))
        if not pairs <= seen:
            networks.append(arch)
        seen |= pairs
    return networks


def built(
    space: SearchSpace, path: Shapes, pick: Callable[..., Any], placement: int = 0, stem: StemChoice | None = None
) -> ArchConfig:  # fmt: skip
    """Returns the network with given (width, heads) and stem, and the most or the least of everything else."""
    stages = []
    for choices, (width, heads) in zip(space.stages, path, strict=True):
        sizes = {name: pick(getattr(choices, name)) for name in ("blocks", "recursions", "nll_ratio", "mlp_ratio")}
        nll = "every" if "every" in choices.nll else choices.nll[placement % len(choices.nll)]
        stages.append(StageConfig(width=width, heads=heads, nll=nll, groups=(1,) * sizes["recursions"], **sizes))
    residual, head = max(space.residual, key=COEFFICIENTS.__getitem__), max(space.head, key=CLASS_TOKENS.__getitem__)
    return space.assembled(tuple(stages), stem, residual, head)


def widths_of(arch: ArchConfig) -> list[int]:
    return [stage.width for stage in arch.stages]


def has_gradient_by_nature(name: str) -> bool:
    """Returns whether a gradient is not 0 in theory. BatchNorm cancels the stem's biases, and softmax those of keys."""
    return not (name.startswith("stem.convs") and name.endswith("bias")) and not name.endswith("qkv.bias")


class TestHoldsNothingInVain:
    @pytest.mark.parametrize("width_scale", [1.0, pytest.param(0.5, marks=pytest.mark.slow)])
    @pytest.mark.parametrize("name", [*DAILY_OR_SLOW, *ODD_SPACES])
    def test_every_weight_is_some_networks(self, name: str, width_scale: float) -> None:
        space = ODD_SPACES.get(name) or shipped(name)
        proxy = ProxyConfig(image_size=48, width_scale=width_scale, training=TrainingConfig(images=2))

        def adapted(arch: ArchConfig) -> ArchConfig:
            return proxy_arch(arch, proxy, channels=3, classes=10)

        torch.manual_seed(0)
        supernet = Supernet(bounding_shape(space, adapted=adapted))
        parameters = dict(supernet.named_parameters())
        reached = {name: torch.zeros(parameter.shape, dtype=torch.bool) for name, parameter in parameters.items()}
        for arch in covering(space, adapted):
            F.cross_entropy(supernet(images_for(arch), arch), torch.arange(4)).backward()
            for name, gradient in gradients(supernet).items():
                reached[name] |= gradient != 0
        for name, entries_reached in reached.items():
            expected = entries_reached.all() if has_gradient_by_nature(name) else entries_reached.any()
            assert expected, f"{name}: {entries_reached.float().mean():.1%}"


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
