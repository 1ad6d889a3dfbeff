"""A search space on the terminal: what may vary, how many networks that makes, and what they cost."""

from __future__ import annotations

from collections.abc import Iterable
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
from sret_nas.quantities import format_quantity
from sret_nas.space.choices import STAGE_DIMENSIONS
from sret_nas.space.search_space import SearchSpace

from ..console import print_line
from .cost_picture import check_picture_path, region_text, write_region_picture

COSTS: tuple[CostName, CostName] = ("flops", "params")


def show_space(
    space: SearchSpace, budget: Budget, console: Console, *, samples: int, seed: int, picture: Path | None = None
) -> None:
    """Prints a space: its dimensions, exact size, share inside the budget, reach in costs, ends, and networks drawn.

    `Budget()` bounds nothing; `picture` is where its reach is drawn as PNG too. Raises `BudgetError` if no network lies
    inside the budget, and `UserError` if the picture cannot be written.
    """
    if picture is not None:
        check_picture_path(picture)
    feasible = FeasibleSet(space, budget)
    feasible.check()
    console.print(Text(printable(space.name), style="bold").append(_described(space), style="not bold"))
    console.print(_dimensions(space))
    console.print("\n".join(_notes(space)), highlight=False, markup=False)
    console.print(f"\n{space.num_networks:,} distinct networks", highlight=False)
    if budget != Budget():
        console.print(_feasible_line(feasible), highlight=False)
    console.print(Text("\nNetworks by cost", style="italic"))
    console.print(region_text(feasible, console.width).append("\n"))
    console.print(_networks("Ends of the space", space, _ends(feasible)))
    if samples:
        drawn = feasible.sample_many(np.random.default_rng(seed), samples)
        title = f"Drawn uniformly, seed {seed}" + (f": {budget.describe()}" if budget != Budget() else "")
        console.print(_networks(title, space, ((str(number), arch) for number, arch in enumerate(drawn, start=1))))
    if picture is not None:
        write_region_picture(picture, feasible)
        print_line(console, f"Picture: {picture}")


def _described(space: SearchSpace) -> str:
    lines = space.description.rstrip().split("\n")
    return "  " + "\n".join(printable(line) for line in lines) if lines != [""] else ""


def _dimensions(space: SearchSpace) -> Table:
    """One column per stage, one row per dimension."""
    table = Table()
    table.add_column("")
    for number, tokens in enumerate(space.num_tokens, start=1):
        table.add_column(f"stage {number}\n{tokens} tokens", overflow="fold")
    for name in STAGE_DIMENSIONS:
        table.add_row(name, *(_choices(getattr(stage, name)) for stage in space.stages))
    table.add_row("distinct", *(f"{len(stage_table):,}" for stage_table in space.stage_choices))
    return table


def _notes(space: SearchSpace) -> list[str]:
    """What belongs to no stage, and what FLOPs mean."""
    stem = _choices(space.stem.width) if space.stem.width else "half the width of stage 1"
    return [
        f"stem width: {stem}; stem strides: {_choices(space.stem.strides)}; drop path: {space.drop_path:g}",
        f"depth schedules (recipe, not architecture): {_choices(space.depth_schedules)}",
        f"FLOPs: multiply-adds of one image of {space.image_size} px, {space.channels} channels, "
        f"{space.classes} classes",
    ]


def _ends(feasible: FeasibleSet) -> list[tuple[str, ArchConfig]]:
    """The cheapest and most expensive networks of the space; one row where a network is so in both costs."""
    labels: dict[str, list[str]] = {}
    networks: dict[str, ArchConfig] = {}
    for word, end in (("least", feasible.cheapest), ("most", feasible.most_expensive)):
        for cost in COSTS:
            arch = end(cost).arch
            networks[arch.arch_id] = arch
            labels.setdefault(arch.arch_id, [word]).append("FLOPs" if cost == "flops" else cost)
    return [("\n".join(labels[arch_id]), arch) for arch_id, arch in networks.items()]


def _choices(values: tuple[object, ...]) -> str:
    return " ".join(",".join(map(str, value)) if isinstance(value, tuple) else str(value) for value in values)


def _feasible_line(feasible: FeasibleSet) -> str:
    count, share = feasible.count, feasible.share
    approximately = "" if feasible.count_is_exact else "about "
    # A share that is rounded to 0 or 100 % would say something else than the count.
    percent = f"{100 * share:.3g} %" if 1e-5 <= share <= 0.999 or share == 1 else f"a share of {share:.6g}"
    return f"{approximately}{count:,} of them ({percent}) have {feasible.budget.describe()}"


def _networks(title: str, space: SearchSpace, networks: Iterable[tuple[str, ArchConfig]]) -> Table:
    """One row per network; its stages on a line each, so that they fit 80 columns."""
    table = Table(title=title, title_justify="left")
    table.add_column("", justify="left")
    table.add_column("network", no_wrap=True)
    table.add_column(f"FLOPs\n{space.image_size} px", justify="right", no_wrap=True)
    table.add_column("params", justify="right", no_wrap=True)
    table.add_column("stages: width/heads, blocks x recursions, groups, loop, NLL, MLP", overflow="fold")
    for label, arch in networks:
        cost = cost_of(arch)
        stages = arch.summary().replace(" | ", "\n")
        table.add_row(label, arch.arch_id, format_quantity(cost.flops), format_quantity(cost.params), stages)
    return table
