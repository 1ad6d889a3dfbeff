"""The published table of SReT-Bench as a problem of the comparison: error with inherited weights against FLOPs."""

from __future__ import annotations

from pathlib import Path

from benchmarks.search.problems import Bounds, Problem
from benchmarks.sret_bench.load import load
from sret_nas.arch.budget import Budget
from sret_nas.arch.config import ArchConfig
from sret_nas.space.search_space import SearchSpace
from trials.strategies.sret import SReTDomain
from trials.strategies.strategy import Candidate
from trials.strategies.table import TableDomain

NUM_NETWORKS = 1_000
"""Networks of the problem. They are numbered in random order, so the problem stays as it is while the table grows."""

TABLE = Path(__file__).resolve().parent.parent / "results" / "sret_bench_inherited.jsonl.gz"


def sret_bench_problem(table: Path = TABLE, supernet: int = 0) -> Problem:
    """Returns the first networks that a supernet has scored as a problem; the box spans their errors and costs.

    Raises `FileNotFoundError` if the table has not been published.
    """
    rows = [line for line in load(table)[1] if line["supernet"] == supernet and line["number"] < NUM_NETWORKS]
    candidates = [Candidate(ArchConfig.from_dict(row["architecture"]), "full") for row in rows]
    errors = {candidate.key: row["error"] for candidate, row in zip(candidates, rows, strict=True)}
    costs = [row["flops"] for row in rows]
    return Problem(
        "sret-bench",
        f"SReT-Bench, {len(rows):,} networks, inherited error",
        TableDomain(SReTDomain(SearchSpace.load("sret_tiny"), Budget()), candidates),
        ("error", "flops"),
        lambda candidate: errors[candidate.key],
        Bounds((min(errors.values()), max(errors.values())), (min(costs), max(costs)), log_cost=True),
    )
