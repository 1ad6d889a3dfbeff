"""The proven Pareto front of a score and a cost over all networks of a space inside a budget: printed and written."""

from __future__ import annotations

from math import inf
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.arrays import FloatArray, IntArray
from sret_nas.errors import UserError
from sret_nas.feasible.feasible_set import CostName, FeasibleSet
from sret_nas.files import write_atomically
from sret_nas.optimize.branch_and_bound import ProvenOptima
from sret_nas.optimize.score_config import ScoreConfig
from sret_nas.plurals import counted
from sret_nas.quantities import format_quantity
from sret_nas.space.chain import chain_of, with_shallowest
from sret_nas.space.choice_costs import choice_costs_of
from sret_nas.space.search_space import SearchSpace
from sret_nas.yaml_files import dump_yaml

from ..console import print_line

MAX_SHOWN = 20
"""Maximum number of printed networks; of a larger front they are evenly spaced."""


def check_front_path(path: Path) -> None:
    """Raises `UserError` if a front certainly cannot be written to a path."""
    if path.suffix not in (".yaml", ".yml"):
        raise UserError(f"--front-out must name a .yaml file, got {path}")
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}; make it first, or name another file")


class ProvenFront:
    """The non-dominated networks of a score and a cost inside a budget, cheapest first."""

    def __init__(self, space: SearchSpace, budget: Budget, score: ScoreConfig, source: str, cost: CostName) -> None:
        """Computes the front.

        Raises `ConfigError` naming `source` if the score does not fit the space, `BudgetError` if no network is inside
        the budget, and `UserError` if the space is too rich.
        """
        self._space, self._cost, self.budget = space, cost, budget
        chain, terms = chain_of(space), score.score(space, source)
        FeasibleSet(space, budget).check()
        bounds: list[tuple[float, float]] = [
            (budget.flops_min or 0, budget.flops_max or inf), (budget.params_min or 0, budget.params_max or inf)
        ]  # fmt: skip
        if budget.shallowest_flops_max is not None:
            chain = with_shallowest(chain, space)
            bounds.append((0, budget.shallowest_flops_max))
        points = ProvenOptima(chain).front(terms, bounds, (cost,))
        self._points: IntArray = points
        self._costs: IntArray = chain.costs(points)
        self._scores: FloatArray = terms.of(chain, points)

    def __len__(self) -> int:
        return len(self._points)

    def row(self, position: int) -> tuple[float, int, int, ArchConfig]:
        """Returns the score, FLOPs, parameters and architecture of one of its networks."""
        flops, params = self._costs[position].tolist()[:2]
        arch = choice_costs_of(self._space).network(self._space, tuple(self._points[position].tolist()))
        return float(self._scores[position]), flops, params, arch

    def show(self, console: Console) -> None:
        """Prints the front, or `MAX_SHOWN` networks evenly spaced on it."""
        what = "FLOPs" if self._cost == "flops" else "parameters"
        title = f"Proven front of score and {what}: {counted(len(self), 'network')}"
        if len(self) > MAX_SHOWN:
            title += f", {MAX_SHOWN} of them here"
        table = Table(title=title, title_justify="left")
        table.add_column("score", justify="right", no_wrap=True)
        table.add_column("network", no_wrap=True)
        table.add_column(f"FLOPs\n{self._space.image_size} px", justify="right", no_wrap=True)
        table.add_column("params", justify="right", no_wrap=True)
        table.add_column("stages", overflow="fold")
        shown = np.linspace(0, len(self) - 1, min(len(self), MAX_SHOWN)).round().astype(int)
        for score, flops, params, arch in map(self.row, shown.tolist()):
            stages = arch.summary().replace(" | ", "\n")
            table.add_row(f"{score:.6g}", arch.arch_id, format_quantity(flops), format_quantity(params), stages)
        console.print(table)

    def write(self, path: Path, console: Console) -> None:
        """Writes all networks as YAML, whole or not at all. Raises `UserError` if the file cannot be written."""
        networks = [
            {"score": float(f"{score:.12g}"), "flops": flops, "params": params, "arch_id": arch.arch_id,
             "architecture": arch.canonical().to_dict()}
            for score, flops, params, arch in map(self.row, range(len(self)))
        ]  # fmt: skip
        content = {
            "space": self._space.name, "space_digest": self._space.digest, "budget": self.budget.describe(),
            "objectives": ["score", self._cost], "networks": networks,
        }  # fmt: skip
        try:
            write_atomically(path, dump_yaml(content))
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror}") from None
        print_line(console, f"Front: {path}")
