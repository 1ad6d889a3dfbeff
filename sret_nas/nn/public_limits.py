"""The numbers that a network of the public code (github.com/szq0214/SReT) can have; weights alone do not tell them all.

It has the paper's stem, a pooling with a convolution for each channel, one ratio for the hidden layers of all stages,
and two numbers of groups in each stage.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.parts import StageConfig
from sret_nas.errors import UserError
from sret_nas.plurals import counted


def require_possible(arch: ArchConfig) -> None:
    """Raises `UserError` unless the public code can build a network with these numbers, with the same logits.

    Whether it has the network's variants and loops is asked elsewhere (`sret_nas.nn.public_checkpoints`).
    """
    _check_stem(arch)
    _check_pools(arch)
    _check_ratio("mlp_ratio", arch, [stage.mlp_hidden for stage in arch.stages])
    _check_ratio("nll_ratio", arch, [stage.nll_hidden for stage in arch.stages])
    for index, (stage, tokens) in enumerate(zip(arch.canonical().stages, arch.num_tokens, strict=True)):
        _check_groups(stage, tokens, index)


def _check_stem(arch: ArchConfig) -> None:
    stem, half = arch.stem, arch.stages[0].width // 2
    if stem.strides != (2, 2, 2):
        raise UserError(f"the public code has a stem with strides of (2, 2, 2), got {stem.strides}")
    if stem.width != half:
        raise UserError(
            f"the public code has a stem whose first layer has {half} channels, half of the first stage's, got "
            f"{stem.width}"
        )


def _check_pools(arch: ArchConfig) -> None:
    for index, (before, stage) in enumerate(pairwise(arch.stages), 1):
        if stage.width % before.width:
            raise UserError(
                f"the public code has stages with a width that is a multiple of the stage before, got {stage.width} "
                f"after {before.width} in stages[{index}]"
            )


def _check_ratio(name: str, arch: ArchConfig, hidden: list[int]) -> None:
    """Raises `UserError` unless one ratio r gives all hidden widths: h of a width w if h / w <= r < (h + 1) / w."""
    widths = [stage.width for stage in arch.stages]
    least = max(Fraction(one, width) for one, width in zip(hidden, widths, strict=True))
    if any(least >= Fraction(one + 1, width) for one, width in zip(hidden, widths, strict=True)):
        raise UserError(
            f"the public code has one {name} for all stages, got hidden widths of {', '.join(map(str, hidden))} "
            f"for widths of {', '.join(map(str, widths))}"
        )


def _check_groups(stage: StageConfig, tokens: int, index: int) -> None:
    """Raises `UserError` unless the groups of a stage, in canonical form, are those of the public code.

    It counts the applications of a stage's blocks from 0. Even ones have one number of groups. Odd ones have another,
    and permute unless that is 1.
    """
    undivided = [groups for groups in stage.groups if tokens % groups]
    if undivided:
        raise UserError(
            f"the public code has groups that divide the {tokens} tokens, got {undivided[0]} in stages[{index}]"
        )
    kinds: tuple[set[int], set[int]] = (set(), set())
    permutes = True
    for number, (_, recursion) in enumerate(stage.applications()):
        groups, is_odd = stage.groups[recursion], number % 2
        kinds[is_odd].add(groups)
        permutes &= stage.permutes(recursion, tokens) == (is_odd == 1 and 1 < groups < tokens)
    if not permutes or any(len(kind) > 1 for kind in kinds):
        raise UserError(
            "the public code has one number of groups for even applications of a stage's blocks, and one for odd "
            f"ones, which alone permute, got {list(stage.groups)} for {counted(stage.blocks, 'block')} with "
            f"{counted(stage.recursions, 'recursion')} in stages[{index}]"
        )
