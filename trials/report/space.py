"""Prints a search space: its dimensions, its number of networks, and their costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of
from sret_nas.errors import printable
from sret_nas.feasible.feasible_set import CostName, FeasibleSet
from sret_nas.plurals import counted
from sret_nas.quantities import format_quantity
from sret_nas.space.choices import STAGE_DIMENSIONS
from sret_nas.space.search_space import SearchSpace, label_of

from ..console import print_line
from .cost_picture import check_picture_path, region_text, write_region_picture

NARROW = 72
"""Columns of a terminal below which networks are written under their table, and not in it."""

COSTS: tuple[CostName, CostName] = ("flops", "params")


def show_space(
    space: SearchSpace, budget: Budget, console: Console, *, samples: int, seed: int, picture: Path | None = None
) -> None:
    """Prints a space: dimensions, number of networks, share inside the budget, costs, extremes, and random networks.

    Args:
        budget: Bounds on the networks; `Budget()` has none.
        samples: The number of random networks.
        seed: The seed of their draw.
        picture: The PNG file for a picture of the costs; None for none.

    Raises `BudgetError` if no network is inside the budget, and `UserError` if the picture cannot be written.
    """
    if picture is not None:
        check_picture_path(picture)
    feasible = FeasibleSet(space, budget)
    feasible.check()
    console.print(Text(printable(space.name), style="bold").append(_described(space), style="not bold"))
    console.print(_dimensions(space))
    console.print("\n".join(_notes(space)), highlight=False, markup=False)
    console.print(f"\n{counted(space.num_networks, 'distinct network')}", highlight=False)
    if budget != Budget():
        console.print(_feasible_line(feasible), highlight=False)
    console.print(Text("\nNetworks by cost", style="italic"))
    console.print(region_text(feasible, console.width).append("\n"))
    _show_networks("Ends of the space", space, _ends(feasible), console)
    if samples:
        drawn = feasible.sample_many(np.random.default_rng(seed), samples)
        title = f"Drawn uniformly, seed {seed}" + (f": {budget.describe()}" if budget != Budget() else "")
        _show_networks(title, space, [(str(row), arch) for row, arch in enumerate(drawn, start=1)], console)
    if picture is not None:
        write_region_picture(picture, feasible)
        print_line(console, f"Picture: {picture}")


def _described(space: SearchSpace) -> str:
    lines = space.description.rstrip().split("\n")
    return "  " + "\n".join(printable(line) for line in lines) if lines != [""] else ""


def _dimensions(space: SearchSpace) -> Table:
    """Returns a table with one column per stage and one row per dimension."""
    table = Table()
    table.add_column("", no_wrap=True)
    for stage_number, tokens in enumerate(space.num_tokens, start=1):
        table.add_column(f"stage {stage_number}\n{counted(tokens, 'token')}", overflow="fold")
    varied = dict.fromkeys(name for stage in space.stages for name in stage.variants)
    for name in (*STAGE_DIMENSIONS, *varied):
        table.add_row(name, *(_choices(getattr(stage, name)) for stage in space.stages))
    table.add_row("distinct", *(f"{len(stage_table):,}" for stage_table in space.stage_tables))
    return table


def _notes(space: SearchSpace) -> list[str]:
    """Returns lines about the stem and the depth schedules, and the definition of FLOPs."""
    width = _choices(space.stem.width) if space.stem.width else "half the width of stage 1"
    stem = f"stem width: {width}; " if "conv" in space.stem.kind else ""
    return [
        f"{stem}stem strides: {_choices(space.stem.strides)}; drop path: {space.drop_path:g}",
        *(["; ".join(space.variant_words())] if space.variant_words() else []),
        f"depth schedules (recipe, not architecture): {_choices(space.depth_schedules)}",
        f"FLOPs: multiply-adds of one image of {space.image_size} px, {counted(space.channels, 'channel')}, "
        f"{space.classes} classes",
    ]


def _ends(feasible: FeasibleSet) -> list[tuple[str, ArchConfig]]:
    """Returns the cheapest and most expensive networks with labels; a network that is both costs' has one row."""
    labels: dict[str, list[str]] = {}
    networks: dict[str, ArchConfig] = {}
    for word, end in (("least", feasible.cheapest), ("most", feasible.most_expensive)):
        for cost in COSTS:
            arch = end(cost).arch
            networks[arch.arch_id] = arch
            label = labels.setdefault(arch.arch_id, [])
            label += [word] * (word not in label)
            label.append("FLOPs" if cost == "flops" else cost)
    return [("\n".join(labels[arch_id]), arch) for arch_id, arch in networks.items()]


def _choices(values: tuple[object, ...]) -> str:
    return " ".join(",".join(map(str, value)) if isinstance(value, tuple) else str(label_of(value)) for value in values)


def _feasible_line(feasible: FeasibleSet) -> str:
    count, share = feasible.count, feasible.share
    approximately = "" if feasible.count_is_exact else "about "
    # A share that is rounded to 0 or 100 % would contradict the count.
    percent = f"{100 * share:.3g} %" if 1e-5 <= share <= 0.999 or share == 1 else f"a share of {share:.6g}"
    return f"{approximately}{count:,} of them ({percent}) have {feasible.budget.describe()}"


def _show_networks(
    title: str, space: SearchSpace, networks: Sequence[tuple[str, ArchConfig]], console: Console
) -> None:
    """Prints a table with one row per network, and one line per stage, which a narrow terminal gets below the table."""
    is_narrow = console.width < NARROW
    what = "width/heads, blocks x recursions, groups, loop, NLL, MLP"
    table = Table(title=title, title_justify="left")
    table.add_column("", justify="left", no_wrap=True)
    table.add_column("network", no_wrap=True)
    table.add_column(f"FLOPs\n{space.image_size} px", justify="right", no_wrap=True)
    table.add_column("params", justify="right", no_wrap=True)
    if not is_narrow:
        table.add_column(f"stages: {what}", overflow="fold")
    for label, arch in networks:
        cost = cost_of(arch)
        stages = [] if is_narrow else [arch.summary().replace(" | ", "\n")]
        table.add_row(label, arch.arch_id, format_quantity(cost.flops), format_quantity(cost.params), *stages)
    console.print(table)
    if is_narrow:
        console.print(f"Stages: {what}", highlight=False, markup=False)
        for _, arch in networks:
            stages = [f"  {stage}" for stage in arch.summary().split(" | ")]
            console.print("\n".join([arch.arch_id, *stages]), highlight=False, markup=False)
