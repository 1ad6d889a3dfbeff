"""Every figure of the documentation, from the result files in benchmarks/results/: nothing here is typed by hand."""

from __future__ import annotations

from collections.abc import Callable

from docs.figures import (
    against,
    costs,
    first_command,
    initialisation,
    landscapes,
    networks,
    readme,
    recursion,
    running,
    searches,
    sret_bench,
    sret_bench_sizes,
    strategies,
    studies,
    supernets,
)

FIGURES: dict[str, Callable[[], str]] = {
    **against.FIGURES,
    **costs.FIGURES,
    **first_command.FIGURES,
    **initialisation.FIGURES,
    **landscapes.FIGURES,
    **networks.FIGURES,
    **readme.FIGURES,
    **recursion.FIGURES,
    **running.FIGURES,
    **searches.FIGURES,
    **sret_bench.FIGURES,
    **sret_bench_sizes.FIGURES,
    **strategies.FIGURES,
    **studies.FIGURES,
    **supernets.FIGURES,
}
"""The parts by the names that markers use."""
