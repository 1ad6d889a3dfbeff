"""How often every shared block, and every NLL of its recursions, was updated: late loops' NLLs are in few networks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from sret_nas.arch import ArchConfig
from sret_nas.extent import Extent, nll_recursions


def block_name(stage: int, block: int) -> str:
    """`stage 1 block 2`, both counted from 1 in words and from 0 here."""
    return f"stage {stage + 1} block {block + 1}"


def nll_name(stage: int, block: int, recursion: int) -> str:
    return f"{block_name(stage, block)} NLL {recursion + 1}"


def no_updates(extent: Extent) -> Counter[str]:
    """A count of 0 for everything that a supernet has."""
    counts: Counter[str] = Counter()
    for number, stage in enumerate(extent.stages):
        for block in range(stage.blocks):
            counts[block_name(number, block)] = 0
            counts.update({nll_name(number, block, recursion): 0 for recursion in stage.nll_recursions})
    return counts


def updated(networks: Iterable[ArchConfig]) -> set[str]:
    """What a step that trains these networks updates."""
    names = set()
    for arch in networks:
        for number, stage in enumerate(arch.stages):
            for block in range(stage.blocks):
                names.add(block_name(number, block))
                names.update(nll_name(number, block, recursion) for recursion in nll_recursions(stage))
    return names
