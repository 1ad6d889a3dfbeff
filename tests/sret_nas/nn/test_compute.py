"""Every way of multiplying against torch's usual one, and that tracers see the usual one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.parts import StageConfig, StemConfig, StemKind
from sret_nas.nn import compute
from sret_nas.nn.compute import attention, multiplies_bf16, project
from sret_nas.nn.flops import fvcore_cost
from sret_nas.nn.network import SReT
from sret_nas.nn.weights import on_meta_device

BF16 = 2.0**-8
"""Half a unit in the last place of 1 in bf16."""

ARCH = ArchConfig(
    stages=(StageConfig(width=16, heads=2, blocks=1, recursions=2, groups=(2, 1)),), image_size=128, classes=4
)
"""256 tokens an image, so that 16 images have enough for a convolution."""


ZEN_4 = {"cpu_name": "AMD EPYC", "avx512_f": True}
INTEL = {"cpu_name": "Intel Xeon", "avx512_f": True, "avx_vnni": True}
ZEN_5 = {**ZEN_4, "avx_vnni": True}


def forget_the_processor() -> None:
    compute._has_avx512.cache_clear()
    compute._is_by_amd.cache_clear()
    compute._has_wide_avx512.cache_clear()


@pytest.fixture
def amd(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Yields a processor whose linear layers may be convolutions, whatever runs the test."""
    monkeypatch.setattr(compute, "processor_capabilities", lambda: ZEN_4)
    forget_the_processor()
    yield
    forget_the_processor()


def operators_of(outputs: Tensor) -> Counter[str]:
    """Returns the backward nodes that lead to a tensor, by name."""
    names: Counter[str] = Counter()
    waiting, known = [outputs.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in known:
            known.add(node)
            names[node.name()] += 1
            waiting += [parent for parent, _ in node.next_functions]
    return names


class TestAttention:
    @pytest.mark.parametrize("shape", [(3, 2, 1, 8), (3, 2, 5, 8), (2, 1, 50, 42), (2, 4, 128, 16)])
    def test_in_bf16_it_is_as_exact_as_bf16_allows(self, shape: tuple[int, ...]) -> None:
        torch.manual_seed(0)
        exact = [torch.randn(shape).bfloat16().float().requires_grad_() for _ in range(3)]
        rough = [tensor.detach().bfloat16().requires_grad_() for tensor in exact]
        expected, found = F.scaled_dot_product_attention(*exact), attention(*rough)
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.float(), expected, rtol=0, atol=8 * BF16)
        gradient = torch.randn(shape).bfloat16()
        torch.autograd.backward(found, gradient)
        torch.autograd.backward(expected, gradient.float())
        for tensor, other in zip(rough, exact, strict=True):
            assert other.grad is not None
            given = torch.zeros(shape) if tensor.grad is None else tensor.grad.float()  # None: of a token alone
            error = (given - other.grad).norm() / max(1e-3, float(other.grad.norm()))
            assert error < 4 * BF16

    def test_a_token_that_sees_itself_alone_keeps_its_value(self) -> None:
        queries, keys, values = (torch.randn(2, 2, 1, 8, dtype=torch.bfloat16) for _ in range(3))
        assert torch.equal(attention(queries, keys, values), values)
        halved = attention(queries, keys.expand(2, 2, 2, 8), torch.cat((values, 0 * values), dim=2))
        assert torch.equal(halved, values / 2)

    def test_it_is_by_plain_products_in_bf16_and_fused_in_fp32(self) -> None:
        queries = torch.randn(2, 2, 4, 8, requires_grad=True)
        fused = operators_of(attention(queries, queries, queries))
        plain = operators_of(attention(*3 * [queries.bfloat16()]))
        assert any("ScaledDotProduct" in name for name in fused)
        assert not any("ScaledDotProduct" in name for name in plain)
        assert plain["SoftmaxBackward0"] == 1


@pytest.mark.usefixtures("amd")
class TestProject:
    @pytest.mark.parametrize("shape", [(16, 192), (4, 784), (1, 3072), (29, 107), (7, 449)])
    def test_as_a_convolution_it_equals_linear(self, shape: tuple[int, int]) -> None:
        torch.manual_seed(0)
        layer, tokens = nn.Linear(24, 37), torch.randn(*shape, 24, requires_grad=True)
        found, expected = project(layer, tokens), layer(tokens)
        assert operators_of(found)["ConvolutionBackward0"] == 1
        assert found.shape == expected.shape
        gradient, sources = torch.randn_like(expected), [tokens, layer.weight, layer.bias]
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        for ours, theirs in zip(
            torch.autograd.grad(found, sources, gradient), torch.autograd.grad(expected, sources, gradient), strict=True
        ):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)  # sums over 3,000 tokens

    def test_it_takes_tokens_in_any_layout(self) -> None:
        layer, tokens = nn.Linear(24, 37), torch.randn(24, 192, 16).permute(2, 1, 0)
        assert operators_of(project(layer, tokens))["ConvolutionBackward0"] == 1
        torch.testing.assert_close(project(layer, tokens), layer(tokens), rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("shape", [(16, 191, 8), (1, 3083, 8), (1, 3071, 64)])
    def test_of_few_tokens_or_a_prime_number_of_them_it_is_linear(self, shape: tuple[int, ...]) -> None:
        layer, tokens = nn.Linear(shape[-1], 64), torch.randn(shape)
        assert torch.equal(project(layer, tokens), layer(tokens))
        assert "ConvolutionBackward0" not in operators_of(project(layer, tokens))

    @pytest.mark.parametrize(
        ("tokens", "widths", "threads", "is_one"),
        [
            ((64, 9), (64, 192), 1, True),
            ((64, 9), (64, 128), 1, False),
            ((8, 8), (256, 768), 1, False),
            ((64, 9), (64, 192), 2, False),
            ((64, 9), (128, 192), 2, True),
        ],
    )
    def test_with_wide_units_fewer_tokens_are_enough(
        self, tokens: tuple[int, int], widths: tuple[int, int], threads: int, is_one: bool,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        """By the number of multiplications of each thread, and not if 16 images have fewer than 7 pixels."""
        monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
        layer, images = nn.Linear(*widths), torch.randn(*tokens, widths[0])
        assert "ConvolutionBackward0" not in operators_of(project(layer, images))
        monkeypatch.setattr(compute, "processor_capabilities", lambda: ZEN_5)
        forget_the_processor()
        assert ("ConvolutionBackward0" in operators_of(project(layer, images))) == is_one
        torch.testing.assert_close(project(layer, images), layer(images), rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize(
        ("num_tokens", "images"),
        [(3136, 16), (12544, 64), (784, 16), (196, 28), (112, 16), (111, 0), (150, 0), (3083, 0)],
    )
    def test_tokens_are_spread_over_images_of_at_most_200_pixels(self, num_tokens: int, images: int) -> None:
        assert compute._num_images(num_tokens) == images

    def test_in_other_precisions_it_is_linear(self) -> None:
        layer, tokens = nn.Linear(8, 8), torch.randn(16, 192, 8)
        with torch.autocast("cpu", torch.bfloat16):
            assert "ConvolutionBackward0" not in operators_of(project(layer, tokens))
        assert "ConvolutionBackward0" not in operators_of(project(layer.double(), tokens.double()))

    def test_a_layer_that_was_replaced_is_called(self) -> None:
        class Doubled(nn.Linear):
            def forward(self, tokens: Tensor) -> Tensor:
                return 2 * super().forward(tokens)

        layer, tokens = Doubled(8, 8), torch.randn(16, 192, 8)
        assert torch.equal(project(layer, tokens), layer(tokens))

    def test_a_layer_with_hooks_or_pruned_weights_is_called(self) -> None:
        layer, tokens, seen = nn.Linear(8, 8), torch.randn(16, 192, 8, requires_grad=True), []
        for register in (
            layer.register_forward_pre_hook, layer.register_forward_hook, layer.register_full_backward_pre_hook,
            layer.register_full_backward_hook,
        ):  # fmt: skip
            handle = register(lambda *_, name=register.__name__: seen.append(name))  # type: ignore[operator]
            project(layer, tokens).sum().backward()
            assert seen.pop() == register.__name__
            handle.remove()
        prune.l1_unstructured(layer, "weight", 0.5)
        with torch.no_grad():
            layer.weight_orig.add_(1.0)  # as an optimiser does; `weight` follows in the next pass
        assert torch.equal(project(layer, tokens), layer(tokens))

    def test_a_processor_of_another_maker_keeps_linear(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(compute, "processor_capabilities", lambda: {"cpu_name": "Intel Xeon", "avx512_f": True})
        forget_the_processor()
        assert "ConvolutionBackward0" not in operators_of(project(nn.Linear(8, 8), torch.randn(16, 192, 8)))


class TestAutocast:
    def test_convolutions_in_groups_stay_in_fp32_and_the_stem_s_are_in_bf16(self) -> None:
        stages = (ARCH.stages[0], StageConfig(width=32, heads=2, blocks=1, recursions=1, groups=(1,)))
        torch.manual_seed(0)
        network, seen = SReT(ARCH.model_copy(update={"stages": stages})).eval(), {}
        for name, layer in (("stem", network.stem.convs[0]), ("pool", network.pools[0])):
            layer.register_forward_hook(
                lambda _, inputs, output, name=name: seen.update(
                    {name: (output.dtype, inputs[0].is_contiguous(memory_format=torch.channels_last))}
                )
            )
        exact = network(images := torch.randn(2, 3, 32, 32))
        assert seen["stem"][0] == torch.float32
        with torch.autocast("cpu", torch.bfloat16):
            rough = network(images)
        assert seen["stem"] == (torch.bfloat16, True)
        assert seen["pool"][0] == torch.float32
        assert float(((rough - exact).norm() / exact.norm()).detach()) < 0.03


@pytest.mark.usefixtures("amd")
class TestNetwork:
    @pytest.mark.parametrize("kind", ["conv", "patch"])
    def test_the_stem_s_channels_come_last_but_for_patches_with_the_same_result(
        self, kind: StemKind, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        torch.manual_seed(0)
        arch = ARCH.model_copy(update={"stem": StemConfig(width=8, kind=kind)})
        network, images, seen = SReT(arch), torch.randn(2, 3, 128, 128), []
        first = next(layer for layer in network.stem.modules() if isinstance(layer, nn.Conv2d))
        first.register_forward_hook(
            lambda _, inputs, output: seen.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
        )
        network.fresh_permutations = False
        found, gradients = _passes(network, images)
        monkeypatch.setattr(compute, "processor_capabilities", lambda: {"cpu_name": "AMD EPYC", "avx512_f": False})
        forget_the_processor()
        expected, others = _passes(network, images)
        assert seen == [kind == "conv", False]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        for gradient, other in zip(gradients, others, strict=True):
            assert float((gradient - other).norm()) <= 1e-4 * float(other.norm()) + 1e-6

    def test_a_processor_of_another_maker_with_avx512_gains_in_the_stem_alone(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        network, images, seen = SReT(ARCH), torch.randn(16, 3, 128, 128), []
        first = next(layer for layer in network.stem.modules() if isinstance(layer, nn.Conv2d))
        first.register_forward_hook(
            lambda _, inputs, output: seen.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
        )
        monkeypatch.setattr(compute, "processor_capabilities", lambda: INTEL)
        forget_the_processor()
        assert operators_of(network(images))["ConvolutionBackward0"] == 3  # those of the stem
        assert seen == [True]

    def test_logits_and_gradients_are_those_of_torch_s_usual_products(self, monkeypatch: pytest.MonkeyPatch) -> None:
        torch.manual_seed(0)
        network, images = SReT(ARCH), torch.randn(16, 3, 128, 128)
        network.fresh_permutations = False
        found, gradients = _passes(network, images)
        assert operators_of(network(images))["ConvolutionBackward0"] > 3  # the stem alone has three
        monkeypatch.setattr(compute, "_convolution_is_faster", lambda *_: False)
        expected, others = _passes(network, images)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        for gradient, other in zip(gradients, others, strict=True):
            assert float((gradient - other).norm()) <= 1e-4 * float(other.norm()) + 1e-6

    @pytest.mark.slow
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_an_exported_network_has_the_usual_operators(self, dtype: torch.dtype) -> None:
        network = SReT(ARCH).eval().to(dtype)
        exported = torch.export.export(network, (torch.randn(16, 3, 128, 128, dtype=dtype),))
        targets = Counter(str(node.target) for node in exported.graph.nodes if node.op == "call_function")
        assert targets["aten.scaled_dot_product_attention.default"] == 2
        assert targets["aten.conv2d.default"] == 3

    def test_fvcore_counts_a_network_in_bf16_alike(self) -> None:
        assert fvcore_cost(SReT(ARCH).bfloat16()).flops_by_operator == fvcore_cost(SReT(ARCH)).flops_by_operator

    def test_a_network_on_the_meta_device_runs(self) -> None:
        network = on_meta_device(lambda: SReT(ARCH)).to(torch.bfloat16)
        assert network(torch.empty(16, 3, 128, 128, device="meta", dtype=torch.bfloat16)).shape == (16, 4)


def _passes(network: SReT, images: Tensor) -> tuple[Tensor, list[Tensor]]:
    logits = network(images)
    return logits, list(
        torch.autograd.grad(F.cross_entropy(logits, torch.arange(len(images)) % 4), list(network.parameters()))
    )


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({}, False),
        ({"avx512_f": True, "avx512_bf16": False}, False),
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
    ],
)
def test_bf16_saves_time_where_there_are_instructions_for_it(
    known: dict[str, object], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compute, "processor_capabilities", lambda: known)
    assert multiplies_bf16(torch.device("cpu")) is expected
    assert multiplies_bf16(torch.device("meta")) is False
