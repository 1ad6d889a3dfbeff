"""Names and shapes of all weights of a network or a supernet, without building it.

The header of a weights file is compared with these before any module is built, because a few words in a header can
describe a network that fills all memory. They are yielded in the order of `state_dict`, so that the comparison stops
at the first weight that is missing from the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import gcd, prod

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.parts import COEFFICIENTS
from sret_nas.space.supernet_shape import SupernetShape

Shape = tuple[int, ...]
Shapes = Iterator[tuple[str, Shape]]


def network_shapes(arch: ArchConfig) -> Shapes:
    """Yields the names and shapes in `SReT(arch).state_dict()`."""
    widths, side = [stage.width for stage in arch.stages], arch.resolutions[0]
    yield "pos_embed", (1, widths[0], side, side)
    stem = arch.stem
    if stem.kind == "patch":
        yield from _patches(prod(stem.strides), arch.channels, widths[0])
    else:
        norms = stem.norm != "none", stem.norm == "batch"
        yield from _convolutions((arch.channels, stem.width, widths[0], widths[0]), *norms)
    coefficients = COEFFICIENTS[arch.residual]
    for index, stage in enumerate(arch.stages):
        for block in range(stage.blocks):
            yield from _block(f"stages.{index}.blocks.{block}", stage.width, stage.mlp_hidden, coefficients)
        for block in range(stage.blocks):
            for nll in range(stage.num_nlls):
                yield from _nll(f"stages.{index}.nlls.{block}.{nll}", stage.width, stage.nll_hidden, coefficients)
    for index, (before, after) in enumerate(pairwise(widths)):
        yield f"pools.{index}.weight", (after, before // gcd(before, after), 3, 3)
        yield f"pools.{index}.bias", (after,)
    if arch.class_tokens:
        yield "class_tokens.embedding", (1, arch.class_tokens, widths[-1])
        yield "class_tokens.position", (1, arch.class_tokens, widths[-1])
    yield from _ends(widths, arch.classes, arch.class_tokens)


def supernet_shapes(shape: SupernetShape) -> Shapes:
    """Yields the names and shapes in `Supernet(shape).state_dict()`.

    The filters of the poolings are left out: counting them takes longer (`sret_nas.nn.supernet.pool_shapes`).
    """
    widths = [stage.width for stage in shape.stages]
    yield "pos_embed", (1, widths[0], shape.side, shape.side)
    if "conv" in shape.stem_kind:
        has_norms = shape.has_stem_norms
        yield from _convolutions((shape.channels, shape.stem_width, widths[0], widths[0]), has_norms, False)
    if "patch" in shape.stem_kind:
        yield from _patches(prod(shape.strides), shape.channels, widths[0])
    coefficients = COEFFICIENTS[shape.widest_residual]
    for index, stage in enumerate(shape.stages):
        for block in range(stage.blocks):
            yield from _block(f"stages.{index}.blocks.{block}", stage.width, stage.mlp_hidden, coefficients)
        for block in range(stage.blocks):
            for recursion in stage.nll_recursions:
                name = f"stages.{index}.nlls.{block}.{recursion}"
                yield from _nll(name, stage.width, stage.nll_hidden, coefficients)
    for index, after in enumerate(widths[1:]):
        yield f"pools.{index}.bias", (after,)
    if shape.class_tokens:
        yield "class_tokens.embedding", (shape.class_tokens, widths[-1])
        yield "class_tokens.position", (shape.class_tokens, widths[-1])
    yield from _ends(widths, shape.classes, shape.class_tokens)


def _convolutions(widths: Sequence[int], has_norms: bool, has_statistics: bool) -> Shapes:
    for index, (inputs, outputs) in enumerate(pairwise(widths)):
        yield f"stem.convs.{index}.weight", (outputs, inputs, 3, 3)
        yield f"stem.convs.{index}.bias", (outputs,)
    for index, outputs in enumerate(widths[1:] if has_norms else ()):
        yield from _norm(f"stem.norms.{index}", outputs)
        if has_statistics:
            yield f"stem.norms.{index}.running_mean", (outputs,)
            yield f"stem.norms.{index}.running_var", (outputs,)
            yield f"stem.norms.{index}.num_batches_tracked", ()


def _patches(patch: int, channels: int, width: int) -> Shapes:
    yield "stem.proj.weight", (width, channels, patch, patch)
    yield "stem.proj.bias", (width,)


def _block(name: str, width: int, mlp_hidden: int, coefficients: int) -> Shapes:
    if coefficients:
        yield f"{name}.coefficients", (2 * coefficients,)
    yield from _norm(f"{name}.norm1", width)
    yield from _linear(f"{name}.attn.qkv", width, 3 * width)
    yield from _linear(f"{name}.attn.proj", width, width)
    yield from _norm(f"{name}.norm2", width)
    yield from _linear(f"{name}.mlp.fc1", width, mlp_hidden)
    yield from _linear(f"{name}.mlp.fc2", mlp_hidden, width)


def _nll(name: str, width: int, hidden: int, coefficients: int) -> Shapes:
    if coefficients:
        yield f"{name}.coefficients", (coefficients,)
    yield from _norm(f"{name}.norm", width)
    yield from _linear(f"{name}.mlp.fc1", width, hidden)
    yield from _linear(f"{name}.mlp.fc2", hidden, width)


def _ends(widths: Sequence[int], classes: int, class_tokens: int) -> Shapes:
    yield from _norm("norm", widths[-1])
    yield from _linear("head", widths[-1], classes)
    if class_tokens == 2:
        yield from _linear("head_dist", widths[-1], classes)


def _norm(name: str, width: int) -> Shapes:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def _linear(name: str, inputs: int, outputs: int) -> Shapes:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)
