"""Draws a network as SVG: stages to scale in width and resolution, with blocks, recursions, groups and NLLs."""

from __future__ import annotations

from html import escape

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.arch.parts import StageConfig
from sret_nas.plurals import counted
from sret_nas.quantities import format_quantity

UNIT_WIDTH = 700
"""Width of a drawing in its own units; it scales to the page."""

_HEIGHT, _TOP, _FOOT = 96, 42, 34
_STEM = 44
_GAP = 16


def draw_network(arch: ArchConfig, title: str, widest: int, finest: int) -> str:
    """Returns an SVG element.

    Args:
        arch: The network.
        title: The heading, plain text.
        widest: Channels that are drawn at full height, so that several drawings have one scale.
        finest: Side of the largest feature map among the drawings, in tokens.
    """
    cost = cost_of(arch)
    blocks = sum(stage.blocks for stage in arch.stages)
    room = UNIT_WIDTH - _STEM - _GAP * (len(arch.stages) + 1)
    parts = [_stem(arch)]
    x = float(_STEM + _GAP)
    for stage, side in zip(arch.stages, arch.resolutions, strict=True):
        width = room * stage.blocks / blocks
        parts.append(_stage(stage, side, x, width, widest, finest))
        x += width + _GAP
    label = (
        f"{title}: {format_quantity(cost.flops)} FLOPs, {format_quantity(cost.params)} parameters, {arch.arch_id}; "
        + "; ".join(_words(stage, side) for stage, side in zip(arch.stages, arch.resolutions, strict=True))
    )
    height = _TOP + _HEIGHT + _FOOT
    return (
        f'<svg class="network" viewBox="0 0 {UNIT_WIDTH} {height}" role="img" aria-label="{escape(label, quote=True)}">'
        f'<text x="0" y="14" class="heading">{escape(title)}</text>'
        f'<text x="{UNIT_WIDTH}" y="14" class="costs" text-anchor="end">{format_quantity(cost.flops)} FLOPs, '
        f"{format_quantity(cost.params)} params</text>{''.join(parts)}</svg>"
    )


def _stem(arch: ArchConfig) -> str:
    middle = _TOP + _HEIGHT / 2
    return (
        f'<path class="stem" d="M0 {middle - 40} L{_STEM} {middle - 16} L{_STEM} {middle + 16} L0 {middle + 40} Z"/>'
        f'<text x="{_STEM / 2}" y="{middle + 4}" text-anchor="middle">stem</text>'
        f'<text x="{_STEM / 2}" y="{_TOP + _HEIGHT + 13}" text-anchor="middle" class="note">{arch.image_size} px</text>'
    )


def _stage(stage: StageConfig, side: int, x: float, width: float, widest: int, finest: int) -> str:
    """Returns a stage: a box per block, as high as the stage is wide, shaded by its resolution."""
    height = max(10.0, _HEIGHT * stage.width / widest)
    top = _TOP + (_HEIGHT - height) / 2
    shade = 0.25 + 0.6 * side / finest
    each = width / stage.blocks
    parts = []
    for block in range(stage.blocks):
        left = x + block * each
        parts.append(
            f'<rect class="block" x="{left + 1:.1f}" y="{top:.1f}" width="{max(2.0, each - 2):.1f}" '
            f'height="{height:.1f}" rx="3" fill-opacity="{shade:.2f}"/>'
        )
        if stage.loop == "internal" and stage.recursions > 1:
            parts.append(_loop(left + 2, left + each - 2, top, stage.recursions))
        if stage.num_nlls:
            parts.append(f'<rect class="nll" x="{left + each - 4:.1f}" y="{top:.1f}" width="3" height="{height:.1f}"/>')
    if stage.loop == "external" and stage.recursions > 1:
        parts.append(_loop(x + 2, x + width - 2, top, stage.recursions))
    middle, foot = x + width / 2, _TOP + _HEIGHT
    groups = ",".join(map(str, stage.groups[: stage.recursions]))
    parts.append(
        f'<text x="{middle:.1f}" y="{foot + 13}" text-anchor="middle" class="note">{stage.width} ch, '
        f"{side}&#215;{side}</text>"
        f'<text x="{middle:.1f}" y="{foot + 27}" text-anchor="middle" class="note">{stage.blocks}&#215;'
        f"{stage.recursions}, g {groups}</text>"
    )
    return "".join(parts)


def _loop(left: float, right: float, top: float, recursions: int) -> str:
    """Returns an arrow from the right end of a block, or of a stage, back to its left one, with its recursions."""
    height = 9.0
    middle = (left + right) / 2
    return (
        f'<path class="loop" d="M{right:.1f} {top:.1f} C{right:.1f} {top - height:.1f} {left:.1f} {top - height:.1f} '
        f'{left:.1f} {top:.1f}"/><text x="{middle:.1f}" y="{top - height:.1f}" text-anchor="middle" class="times">'
        f"&#215;{recursions}</text>"
    )


def _words(stage: StageConfig, side: int) -> str:
    """Returns a stage in words, for readers who cannot see the drawing."""
    groups = ", ".join(map(str, stage.groups[: stage.recursions]))
    return (
        f"{counted(stage.blocks, 'block')} of {stage.width} channels at {side} x {side} tokens, each applied "
        f"{counted(stage.recursions, 'time')} ({stage.loop} loop), groups {groups}, NLL {stage.nll}"
    )
