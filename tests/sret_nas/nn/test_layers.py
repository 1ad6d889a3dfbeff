"""The layers against slow implementations of their formulas."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sret_nas.nn.layers import NLL, Block, SlicedAttention
from sret_nas.nn.residual import weighted_residual

torch.set_num_threads(1)


def attention_token_by_token(layer: SlicedAttention, tokens: Tensor, slices: list[list[int]]) -> Tensor:
    """Computes softmax attention within each slice of token indices: one image, one head and one query at a time."""
    heads, width = layer.heads, tokens.shape[2]
    size = width // heads
    output = torch.zeros_like(tokens)
    for image in range(tokens.shape[0]):
        qkv = layer.qkv(tokens[image])
        for members in slices:
            for head in range(heads):
                channels = slice(head * size, (head + 1) * size)
                queries, keys, values = (qkv[members, part * width :][:, channels] for part in range(3))
                for row, token in enumerate(members):
                    weights = torch.softmax(keys @ queries[row] / size**0.5, dim=0)
                    output[image, token, channels] = weights @ values
    return layer.proj(output)


def cut(order: list[int], groups: int) -> list[list[int]]:
    """Slices tokens by the documented rule: the first N mod G slices are one longer, and empty slices do not exist."""
    return [part.tolist() for part in torch.tensor(order).tensor_split(groups) if len(part)]


class TestSlicedAttention:
    @pytest.mark.parametrize(
        ("num_tokens", "groups"), [(8, 1), (8, 2), (9, 2), (11, 4), (7, 7), (5, 8), (1, 1), (1, 3), (9, 49)]
    )
    @pytest.mark.parametrize("is_permuted", [False, True])
    def test_equals_softmax_attention_inside_each_slice(self, num_tokens: int, groups: int, is_permuted: bool) -> None:
        torch.manual_seed(num_tokens * groups)
        layer = SlicedAttention(6, 2)
        tokens = torch.randn(2, num_tokens, 6)
        order = torch.randperm(num_tokens) if is_permuted else torch.arange(num_tokens)
        permutation = torch.stack((order, order.argsort())) if is_permuted else None
        expected = attention_token_by_token(layer, tokens, cut(order.tolist(), groups))
        torch.testing.assert_close(layer(tokens, groups, permutation), expected, rtol=0, atol=1e-6)

    def test_slices_do_not_see_each_other(self) -> None:
        torch.manual_seed(0)
        layer = SlicedAttention(4, 1)
        tokens = torch.randn(1, 7, 4)
        changed = tokens.clone()
        changed[:, 5:] += 1  # 7 tokens in 3 slices: 0-2, 3-4, 5-6
        before, after = layer(tokens, 3), layer(changed, 3)
        assert torch.equal(before[:, :5], after[:, :5])
        assert not torch.allclose(before[:, 5:], after[:, 5:])


class TestResiduals:
    def test_block_is_its_two_equations(self) -> None:
        torch.manual_seed(0)
        block = Block(4, 2, 6)
        a1, a2, a3, a4 = block.coefficients.data.copy_(torch.tensor([0.5, -2.0, 3.0, 0.25]))
        tokens = torch.randn(2, 5, 4)
        attended = a1 * tokens + a2 * block.attn(block.norm1(tokens), 2)
        expected = a3 * attended + a4 * block.mlp(block.norm2(attended))
        torch.testing.assert_close(block(tokens, 2), expected)

    def test_nll_is_its_equation(self) -> None:
        torch.manual_seed(0)
        nll = NLL(4, 6)
        b1, b2 = nll.coefficients.data.copy_(torch.tensor([0.5, -2.0]))
        tokens = torch.randn(2, 5, 4)
        hidden = torch.nn.functional.gelu(nll.mlp.fc1(nll.norm(tokens)))
        torch.testing.assert_close(nll(tokens), b1 * tokens + b2 * nll.mlp.fc2(hidden))

    def test_drop_path_drops_whole_samples_and_scales_the_rest(self) -> None:
        torch.manual_seed(0)
        tokens, branch = torch.randn(4000, 1, 1), torch.randn(4000, 1, 1)
        mixed = weighted_residual(tokens, branch, torch.tensor([2.0, 3.0]), 0.25)
        dropped = torch.isclose(mixed, 2 * tokens)
        torch.testing.assert_close(mixed, 2 * tokens + torch.where(dropped, 0.0, 3 * branch / 0.75))
        deviation = (0.25 * 0.75 / 4000) ** 0.5
        assert abs(dropped.float().mean().item() - 0.25) < 4 * deviation

    def test_rate_of_zero_draws_nothing(self) -> None:
        torch.manual_seed(0)
        state = torch.get_rng_state()
        mixed = weighted_residual(torch.ones(3, 1, 1), torch.ones(3, 1, 1), torch.tensor([1.0, 1.0]), 0.0)
        assert torch.equal(mixed, torch.full((3, 1, 1), 2.0))
        assert torch.equal(torch.get_rng_state(), state)
