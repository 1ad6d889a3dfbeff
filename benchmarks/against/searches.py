"""The searches: the command that a user types, once per budget, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.against.setting import CLASSES, Setting
from benchmarks.sret_bench.tables import Line, Table
from sret_nas.arch.config import ArchConfig
from sret_nas.arch.cost import cost_of

KEY = ("budget",)
REPOSITORY = Path(__file__).resolve().parent.parent.parent


def run(setting: Setting, budget: int, work: Path, table: Table) -> None:
    """Searches, from where an interrupted search stopped, and records what it recommends at the budget.

    Raises `subprocess.CalledProcessError` if the search fails.
    """
    from sret_nas.trials.search.api import SearchResult

    if (budget,) in table.done:
        return
    run_dir = work / f"search-{budget}"
    arguments = command(setting, budget, run_dir)
    if (run_dir / "records.jsonl").exists():
        arguments = ["search", "--resume", str(run_dir)]
    work.mkdir(parents=True, exist_ok=True)
    with (work / f"search-{budget}.log").open("a", encoding="utf-8") as log:
        subprocess.run(
            [sys.executable, str(REPOSITORY / "cli.py"), *arguments], check=True, stdout=log, stderr=subprocess.STDOUT
        )
    best = SearchResult.open(run_dir).best
    line: Line = {
        "budget": budget, "seed": 0, "arch_id": best.arch.arch_id, "architecture": best.arch.to_dict(),
        "flops": best.flops, "params": best.params, "proxy_error": best.error,
        "command": " ".join(command(setting, budget, Path("RUN"))).replace(setting.source, "cifar10"),
    }  # fmt: skip
    table.append(line)


def command(setting: Setting, budget: int, run_dir: Path) -> list[str]:
    """Returns the arguments of the search."""
    return [
        "search", "--flops-budget", str(budget), "--target-image-size", str(setting.image_size),
        "--target-classes", str(CLASSES), "--image-size", str(setting.image_size), "--data", setting.source,
        "--workers", "1", "--seed", "0", "--out", str(run_dir), *setting.search_arguments,
    ]  # fmt: skip


def found(table: Table, budget: int) -> ArchConfig:
    """Returns the network that the search for a budget recommends."""
    (line,) = (line for line in table.lines if line["budget"] == budget)
    arch = ArchConfig.from_dict(line["architecture"])
    assert cost_of(arch).flops <= budget
    return arch
