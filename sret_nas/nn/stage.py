"""One stage of a network: shared blocks, applied again and again, with NLLs of their own for every application."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self

import torch
import torch.fx
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sret_nas.arch.parts import Residual, StageConfig
from sret_nas.nn.layers import NLL, Block
from sret_nas.nn.permutations import fixed_permutation, permutation_pair


def drop_path_rates(num_applications: int, nominal: float) -> list[float]:
    """Returns the drop rate of each block application: 0 for the first, `nominal` for the last, linear between.

    A single application gets the nominal rate. (The public code counts distinct blocks instead, so that its rates
    never reach the nominal one.)
    """
    if num_applications == 1:
        return [nominal]
    return [nominal * index / (num_applications - 1) for index in range(num_applications)]


class Stage(nn.Module):
    """The blocks of one stage, the NLLs of each block, and the fixed permutations for evaluation."""

    def __init__(self, config: StageConfig, index: int, num_tokens: int, residual: Residual = "path") -> None:
        super().__init__()
        self.config = config
        self.index = index
        self.grad_checkpointing = False
        """Whether training keeps only the input of every application of a block, with the NLL that follows it, and
        computes the rest again in the backward pass."""
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.mlp_hidden, residual) for _ in range(config.blocks)
        )
        self.nlls = nn.ModuleList(
            nn.ModuleList(NLL(config.width, config.nll_hidden, residual) for _ in range(config.num_nlls))
            for _ in range(config.blocks)
        )
        self._set_num_tokens(num_tokens)
        self.register_load_state_dict_post_hook(_restore_permutations)  # type: ignore[no-untyped-call]

    def _set_num_tokens(self, num_tokens: int) -> None:
        """Registers the fixed permutations of a number of tokens, on the device of new tensors."""
        self.num_tokens = num_tokens
        for block, recursion in self.permuted_applications():
            buffer = torch.empty(2, num_tokens, dtype=torch.int64)
            if not buffer.is_meta:
                order = fixed_permutation(num_tokens, self.index, block, recursion)
                buffer.copy_(permutation_pair(torch.tensor(order)))
            self.register_buffer(f"permutation_{block}_{recursion}", buffer, persistent=False)

    def resize(self, num_tokens: int) -> None:
        """Replaces the fixed permutations by those of another number of tokens, on the device of the weights."""
        for name, _ in self._permutations():
            delattr(self, name)
        with next(self.parameters()).device:
            self._set_num_tokens(num_tokens)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves or converts all tensors, as `nn.Module` does, but keeps the values of permutations.

        `to_empty` leaves new tensors uninitialised. That is right for weights, which a state dict then fills, but
        permutations are in no state dict.
        """
        before = {name: self.get_buffer(name) for name, _ in self._permutations()}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, application in self._permutations():
            buffer = self.get_buffer(name)
            if buffer is not before[name] and not buffer.is_meta:
                buffer.copy_(self._fixed(application, buffer.device) if before[name].is_meta else before[name])
        return self

    def _permutations(self) -> list[tuple[str, tuple[int, int]]]:
        """Returns the names of the permutation buffers, each with its (block, recursion)."""
        return [(f"permutation_{pair[0]}_{pair[1]}", pair) for pair in self.permuted_applications()]

    def _fixed(self, application: tuple[int, int], device: torch.device) -> Tensor:
        """Returns the fixed permutation and its inverse (2, N), never as an inference tensor."""
        with torch.inference_mode(False):
            order = fixed_permutation(self.num_tokens, self.index, *application)
            return permutation_pair(torch.tensor(order, device=device))

    def restore_permutations(self, device: torch.device) -> None:
        """Replaces permutations on the meta device, which have no values, by the fixed ones on `device`."""
        for name, application in self._permutations():
            if self.get_buffer(name).is_meta and device.type != "meta":
                self.register_buffer(name, self._fixed(application, device).clone(), persistent=False)

    def permuted_applications(self) -> list[tuple[int, int]]:
        """Returns the (block, recursion) pairs that permute, in the order in which they run."""
        return [pair for pair in self.config.applications() if self.config.permutes(pair[1], self.num_tokens)]

    def forward(self, tokens: Tensor, recursions: int, drop_path: Sequence[float], fresh: bool) -> Tensor:
        """Runs the stage on tokens (B, N, D).

        Args:
            tokens: (B, N, D).
            recursions: how often each block is applied.
            drop_path: the drop rate of each application, in the order in which they run.
            fresh: whether to draw new permutations instead of using the fixed ones.
        """
        applications = self.config.applications(recursions)
        for (block, recursion), rate in zip(applications, drop_path, strict=True):
            permutation = self._permutation(tokens, block, recursion, fresh)
            nll = self.config.nll_after(recursion, recursions)
            arguments = tokens, block, self.config.groups[recursion], permutation, nll, rate
            if self.grad_checkpointing and torch.is_grad_enabled():
                tokens = checkpoint(self._apply_block, *arguments, use_reentrant=False)
            else:
                tokens = self._apply_block(*arguments)
        return tokens

    def _apply_block(
        self, tokens: Tensor, block: int, groups: int, permutation: Tensor | None, nll: int | None, drop_path: float
    ) -> Tensor:
        """Runs a block, and one of its NLLs unless `nll` is None, on tokens (B, N, D)."""
        tokens = self.blocks[block](tokens, groups, permutation, drop_path, self.config.inverse)
        if nll is not None:
            tokens = self.nlls[block][nll](tokens, drop_path)  # type: ignore[index]
        return tokens

    def _permutation(self, tokens: Tensor, block: int, recursion: int, fresh: bool) -> Tensor | None:
        # A graph traced by torch.fx is one of the architecture's own image size.
        num_tokens = self.num_tokens if isinstance(tokens, torch.fx.Proxy) else int(tokens.shape[1])
        if not self.config.permutes(recursion, num_tokens):
            return None
        if fresh:
            return permutation_pair(torch.randperm(num_tokens, device=tokens.device))
        if num_tokens == self.num_tokens:
            buffer = self.get_buffer(f"permutation_{block}_{recursion}")
            has_no_values = buffer.is_meta and not tokens.is_meta
            return self._fixed((block, recursion), tokens.device) if has_no_values else buffer
        order = fixed_permutation(num_tokens, self.index, block, recursion)
        return permutation_pair(torch.tensor(order, device=tokens.device))


def _restore_permutations(stage: Stage, keys: object) -> None:
    """Gives a stage its permutations after `load_state_dict`.

    With `assign=True`, loading moves the weights of a stage off the meta device without a call of `_apply`.
    """
    stage.restore_permutations(next(stage.parameters()).device)
