"""The output of `profile`: a network's cost by part, the check against fvcore, and its speed on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import Cost, cost_of
from sret_nas.arch.sizes import token_sides
from sret_nas.plurals import counted
from sret_nas.quantities import format_quantity
from sret_nas.space.search_space import label_of

if TYPE_CHECKING:
    from sret_nas.nn.flops import TracedCost
    from sret_nas.nn.speed import Speed


NARROW = 72
"""Columns of a terminal below which tables leave out what they have no room for, and round their numbers."""

MAX_BUILT_PARAMS = 250_000_000
"""Most parameters of a network that is built, 1 GB in float32."""
MAX_BUILT_FLOPS = 10**12
"""Most FLOPs of a network that is run, some 20 s a pass on one core."""
MAX_BUILT_ACTIVATIONS = 10_000_000
"""Most numbers in the input or in one layer's output for one image, 40 MB in float32; a batch has 16 images."""
MAX_BUILT_APPLICATIONS = 200
"""Most blocks that are applied in one pass of a network that is built, which fvcore traces one by one."""


class CostMismatchError(Exception):
    """The cost that fvcore counts on the built network differs from the closed form, so one of them has a bug."""


def show_profile(arch: ArchConfig, console: Console, *, name: str, check: bool = True, speed: bool = True) -> None:
    """Prints the cost of a network by part and by operator.

    Args:
        check: Whether to build the network and trace it with fvcore.
        speed: Whether to build the network and time it.

    A network beyond the bounds of this module is not built, and a line says so.
    Raises `CostMismatchError`, after printing everything, if the traced cost differs from the closed form.
    """
    cost = cost_of(arch)
    console.print(
        f"[bold]{escape(name)}[/] (id {arch.arch_id}), {arch.image_size} px, {arch.classes} classes", highlight=False
    )
    flops, params = format_quantity(cost.flops), format_quantity(cost.params)
    console.print(f"{flops} FLOPs (multiply-adds for one image), {params} parameters", highlight=False)
    variants = _variants(arch.canonical())
    if variants:
        console.print(f"Variants of the paper's network: {variants}", highlight=False)
    is_narrow = console.width < NARROW
    if is_narrow:
        console.print("Stages: width/heads, blocks x recursions, groups, loop, NLL, MLP", highlight=False)
        console.print(arch.canonical().summary().replace(" | ", "\n"), highlight=False, markup=False)
    else:
        console.print(_stage_table(arch.canonical()))
    console.print(_part_table(arch, cost, is_narrow=is_narrow))
    console.print(_operator_table(cost))
    too_large = too_large_to_build(arch, cost)
    if too_large is not None and (check or speed):
        console.print(f"fvcore and speed: not looked at, because {too_large}", highlight=False)
        return
    differences = _show_check(arch, cost, console) if check else []
    if speed:
        _show_speed(arch, console)
    if differences:
        raise CostMismatchError(f"the closed form and fvcore differ for {name}: {'; '.join(differences)}")


def _variants(arch: ArchConfig) -> str:
    """Returns what is not the paper's in a canonical network, e.g. `stage 1 inverse=false, residual=plain`."""
    stages = (
        f"stage {stage_number} {name}={label_of(value)}"
        for stage_number, stage in enumerate(arch.stages, start=1)
        for name, value in stage.variants.items()
    )
    return ", ".join([*stages, *arch.variant_words()])


def too_large_to_build(arch: ArchConfig, cost: Cost) -> str | None:
    """Returns why a network is not built; None if it may be."""
    applications = sum(stage.blocks * stage.recursions for stage in arch.stages)
    for name, amount, most in (
        ("parameters", cost.params, MAX_BUILT_PARAMS),
        ("FLOPs", cost.flops, MAX_BUILT_FLOPS),
        ("activations in a layer", _largest_activation(arch), MAX_BUILT_ACTIVATIONS),
        ("block applications", applications, MAX_BUILT_APPLICATIONS),
    ):
        if amount > most:
            return f"networks of more than {format_quantity(most)} {name} are not built"
    return None


def _largest_activation(arch: ArchConfig) -> int:
    """Returns the numbers in the input or in the largest output of a layer, for one image."""
    layers = (
        tokens * max(3 * stage.width, stage.mlp_hidden, stage.nll_hidden)
        for stage, tokens in zip(arch.stages, arch.num_tokens, strict=True)
    )
    (first_side,) = token_sides(arch.image_size, arch.stem.strides[:1], 1)
    return max(arch.channels * arch.image_size**2, arch.stem.width * first_side**2, *layers)


def _stage_table(arch: ArchConfig) -> Table:
    table = _table(
        "Stages, hidden widths of MLP and NLL",
        ("stage", "loop", "NLL", "groups"),
        ("blocks", "recursions", "heads", "MLP"),
    )
    for stage_number, stage in enumerate(arch.stages, start=1):
        nll = f"{stage.nll}, {stage.nll_hidden}" if stage.num_nlls else "none"
        counts = stage.blocks, stage.recursions, stage.heads, stage.mlp_hidden
        table.add_row(str(stage_number), stage.loop, nll, ", ".join(map(str, stage.groups)), *map(str, counts))
    return table


def _part_table(arch: ArchConfig, cost: Cost, *, is_narrow: bool) -> Table:
    words = ("part",) if is_narrow else ("part", "output")
    table = _table(f"By part, {arch.image_size} px", words, ("FLOPs", "share", "params", "share"))

    def written(amount: int) -> str:
        return format_quantity(amount) if is_narrow else f"{amount:,}"

    shapes = _output_shapes(arch)
    for part, terms in cost.parts.items():
        flops, params = int(terms.flops), int(terms.params)
        shares = _share(flops, cost.flops), _share(params, cost.params)
        output = [] if is_narrow else [shapes[part]]
        table.add_row(part, *output, written(flops), shares[0], written(params), shares[1])
    table.add_section()
    total = ["total"] if is_narrow else ["total", ""]
    table.add_row(*total, written(cost.flops), "100.0 %", written(cost.params), "100.0 %", style="bold")
    return table


def _operator_table(cost: Cost) -> Table:
    table = _table(f"By operator, {cost.image_size} px", ("operator",), ("FLOPs", "share"))
    by_operator = cost.flops_by_operator()
    for operator in sorted(by_operator, key=by_operator.__getitem__, reverse=True):
        table.add_row(operator, f"{by_operator[operator]:,}", _share(by_operator[operator], cost.flops))
    return table


def _table(title: str, words: tuple[str, ...], numbers: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left", title_style="italic", box=box.SIMPLE, pad_edge=False)
    for heading in words:
        table.add_column(heading, no_wrap=heading != "groups")
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _share(amount: int, total: int) -> str:
    return f"{100 * amount / total:.1f} %"


def _output_shapes(arch: ArchConfig) -> dict[str, str]:
    """Returns the output shape of each part of the network, such as `28 x 28 x 64`."""
    shapes = [f"{side} x {side} x {stage.width}" for side, stage in zip(arch.resolutions, arch.stages, strict=True)]
    parts = {"stem": shapes[0], "head": f"{arch.classes} classes"}
    for stage_number, shape in enumerate(shapes, start=1):
        parts[f"stage {stage_number}"] = shape
        parts[f"pool {stage_number - 1}"] = shape
    return parts


def _show_check(arch: ArchConfig, cost: Cost, console: Console) -> list[str]:
    from sret_nas.nn.flops import fvcore_cost

    differences = cost_differences(cost, fvcore_cost(arch))
    if differences:
        console.print(f"fvcore: [bold red]not equal[/]: {'; '.join(differences)}", highlight=False)
    else:
        console.print("fvcore: [bold green]equal[/], to the last unit, on the built network", highlight=False)
    return differences


def cost_differences(cost: Cost, traced: TracedCost) -> list[str]:
    """Returns the differences of a trace from the closed form, such as `conv: closed form 5, fvcore 6`."""
    closed = {"params": cost.params, **cost.flops_by_operator()}
    counted = {"params": traced.params, **traced.flops_by_operator}
    return [
        f"{name}: closed form {closed.get(name, 0):,}, fvcore {counted.get(name, 0):,}"
        for name in {**closed, **counted}
        if closed.get(name, 0) != counted.get(name, 0)
    ]


def _show_speed(arch: ArchConfig, console: Console) -> None:
    from sret_nas.nn.network import SReT
    from sret_nas.nn.speed import measure_speed

    console.print(_describe_speed(measure_speed(SReT(arch))), highlight=False)


def _describe_speed(speed: Speed) -> str:
    threads = counted(speed.num_threads, "thread")
    device = f"CPU, {threads}" if speed.device == "cpu" else speed.device
    return (
        f"speed:  {speed.latency_ms:.1f} ms for one image, {speed.images_per_s:.1f} images/s in batches of "
        f"{speed.batch_size}\n        {speed.image_size} px, {device}, medians of {speed.repeats} passes"
    )
